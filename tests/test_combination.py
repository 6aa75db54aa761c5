"""Two backends as one: the scale of the mixture, who gets which option, and what is refused."""

from dataclasses import dataclass

import numpy as np
import pytest
from golden_fill import wave

from avs.audio.backend import Backend, Scale, find_backend
from avs.audio.combination import Combination
from avs.audio.energy import Energy
from avs.audio.eventness import EventnessParams, eventness, make_backend
from avs.core.errors import InputError
from avs.core.params import build


def test_scores_are_averaged_in_units_of_the_thresholds() -> None:
    clips = np.stack([wave(f"clip{i}", (48000,)) * np.repeat([1, 0.1, 0.5], 16000) for i in range(2)])
    energy, delta = (eventness(name, clips, num_seconds=3) for name in ("energy", "energy_delta"))
    thresholds = [find_backend(name).scale.std_threshold for name in ("energy", "energy_delta")]
    expected = (energy / thresholds[0] + delta / thresholds[1]) / 2
    found = eventness("energy+energy_delta", clips, num_seconds=3)
    np.testing.assert_allclose(found, expected, rtol=1e-6)
    assert found.dtype == np.float32
    np.testing.assert_array_equal(eventness("energy+energy_delta", clips[1:], num_seconds=3), found[1:])


def test_two_that_agree_are_flat_together_when_each_is() -> None:
    backend = make_backend("energy+energy_delta")
    assert backend.scale.std_threshold == 1.0
    parts = {"a": Fixed(2.0), "b": Fixed(0.5)}
    mixed = Combination(parts)(np.zeros((1, 6), np.float32), sample_rate=1, num_seconds=6)
    assert mixed.std() == pytest.approx(1.0)


@dataclass(frozen=True)
class Fixed(Backend):
    """Scores of one shape, whose std is the threshold: just not flat."""

    version = 1
    threshold: float

    @property
    def scale(self) -> Scale:  # type: ignore[override]
        return Scale("unit", self.threshold)

    def _score(self, seconds: np.ndarray, sample_rate: int) -> np.ndarray:
        shape = np.array([0, 0, 1, 1, 0, 1.0])
        return shape / shape.std() * self.threshold


def test_another_threshold_is_another_mixture(monkeypatch: pytest.MonkeyPatch) -> None:
    before = make_backend("energy+energy_delta").identity
    monkeypatch.setattr(Energy, "scale", Scale("nat", 0.5))
    assert make_backend("energy+energy_delta").identity != before


def test_options_go_to_the_part_that_has_them() -> None:
    backend = make_backend("energy+ast", weights="random", window=3.0)
    assert backend.identity["parts"]["ast"]["window"] == 3.0
    assert backend.identity["parts"]["energy"] == {"version": 1, "weights": None, "std_threshold": 1.0}
    both = make_backend("panns+ast", window=4.0).identity["parts"]
    assert both["panns"]["window"] == both["ast"]["window"] == 4.0
    assert both["panns"]["weights"] != both["ast"]["weights"]
    assert backend.on("cpu").identity == backend.identity


def test_refuses() -> None:
    for method, options, message in (
        ("energy+energy", {}, "two different ones"),
        ("energy+yamnet+ast", {}, "two different ones"),
        ("energy+loudness", {}, r"'loudness'\) must be one of"),
        ("energy+yamnet", {"window": 2.0}, "neither part has an option window"),
        ("ast+yamnet", {"weights": "file:x"}, "both parts of 'ast.yamnet' have weights"),
        ("energy+audio_basic_lr", {}, "audio_basic_lr has to learn first"),
        ("energy+audiomae", {}, "audiomae has no weights here"),
    ):
        with pytest.raises(InputError, match=message):
            make_backend(method, **options)
    assert build(EventnessParams, {"method": "energy+yamnet"}, "params").method == "energy+yamnet"
