"""Eventness backends that need no weights, and the registry."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest
from golden_fill import wave
from test_features import CASES, golden_waveform

from avs.audio import eventness as module
from avs.audio.eventness import EventnessParams, Scale, auto_std_threshold, eventness, make_backend, methods
from avs.core.errors import InputError
from avs.core.params import build

LIGHT = ["energy", "energy_delta"]


@pytest.mark.parametrize("case", [c for c in CASES if c["op"] in LIGHT], ids=lambda c: f"{c['id']}-{c['op']}")
def test_golden(case: dict[str, Any]) -> None:
    scores = eventness(case["op"], golden_waveform(case["input"]), sample_rate=case["input"]["sample_rate"])
    np.testing.assert_allclose(scores, [case["expected"]], rtol=0, atol=1e-5)


@pytest.mark.parametrize("method", LIGHT)
def test_other_clips_change_nothing(method: str) -> None:
    clips = np.stack([wave(f"clip{i}", (48000,)) for i in range(5)])
    alone = np.concatenate([eventness(method, clip[None], num_seconds=3) for clip in clips])
    np.testing.assert_array_equal(eventness(method, clips, num_seconds=3), alone)


@pytest.mark.parametrize("method", methods())
def test_every_backend_says_what_it_is(method: str) -> None:
    backend = make_backend(method)
    assert backend.version >= 1
    assert backend.scale.unit
    assert auto_std_threshold(method) == backend.scale.std_threshold > 0
    digest = backend.weights_digest
    assert digest is None or len(digest) == 64


def test_delta_threshold_stands_for_the_contrast_of_energys() -> None:
    """An on-off step whose energy std is exactly energy's threshold has energy_delta's threshold as delta std."""
    energy = np.array([0, 0, 0, 2, 2, 2, 2, 2, 0, 0])
    delta = np.abs(np.diff(energy, prepend=energy[:1]))
    assert energy.std() == pytest.approx(auto_std_threshold("energy"))
    assert delta.std() == pytest.approx(auto_std_threshold("energy_delta"))


def test_a_backend_is_one_class(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(module, "_BACKENDS", dict(module._BACKENDS))

    @module.backend("peak")
    class Peak(module.Backend):
        version = 1
        scale = Scale("amplitude", 0.05)

        def _score(self, seconds: np.ndarray, sample_rate: int) -> np.ndarray:
            return np.abs(seconds).max(axis=-1)

    scores = eventness("peak", np.array([[0.25, -0.5, 0.0, 0.1]]), sample_rate=2, num_seconds=2)
    np.testing.assert_allclose(scores, [[0.5, 0.1]])
    assert "peak" in methods()


def test_refuses() -> None:
    silence = np.zeros((1, 16000), dtype=np.float32)
    with pytest.raises(InputError, match=r"'loudness'.*one of .*energy, energy_delta, .*yamnet"):
        eventness("loudness", silence)
    with pytest.raises(InputError, match=r"'energy' has no option weights \(it has: none\)"):
        make_backend("energy", weights="file:x.pt")
    with pytest.raises(InputError, match="shape"):
        eventness("energy", silence[0])
    with pytest.raises(InputError, match=r"sample_rate \(8000\) must be 16000 for yamnet"):
        eventness("yamnet", silence, sample_rate=8000)


def test_params_are_checked_when_read() -> None:
    assert build(EventnessParams, {"method": "energy_delta"}, "params").method == "energy_delta"
    for tree, message in (
        ({"method": "ast"}, "must be one of"),
        ({"weights": "file:x#sha256=00"}, "no option weights"),
        ({"weights": "file:x"}, "must end in #sha256="),
    ):
        with pytest.raises(InputError, match=message):
            build(EventnessParams, tree, "params")
