"""Two backends as one: the scale of the mixture, who gets which option, and what is refused."""

import numpy as np
import pytest
from golden_fill import wave

from avs.audio.eventness import EventnessParams, auto_std_threshold, eventness, make_backend
from avs.core.errors import InputError
from avs.core.params import build


def test_scores_are_averaged_in_units_of_the_thresholds() -> None:
    clips = np.stack([wave(f"clip{i}", (48000,)) * np.repeat([1, 0.1, 0.5], 16000) for i in range(2)])
    energy, delta = (eventness(name, clips, num_seconds=3) for name in ("energy", "energy_delta"))
    expected = (energy / auto_std_threshold("energy") + delta / auto_std_threshold("energy_delta")) / 2
    found = eventness("energy+energy_delta", clips, num_seconds=3)
    np.testing.assert_allclose(found, expected, rtol=1e-6)
    assert found.dtype == np.float32
    np.testing.assert_array_equal(eventness("energy+energy_delta", clips[1:], num_seconds=3), found[1:])


def test_two_that_agree_are_flat_together_when_each_is() -> None:
    assert auto_std_threshold("energy+energy_delta") == 1.0
    shape = np.array([0, 0, 1, 1, 0, 1.0])
    parts = [shape / shape.std() * auto_std_threshold(name) for name in ("energy", "energy_delta")]
    mixed = sum(part / auto_std_threshold(name) for part, name in zip(parts, ("energy", "energy_delta"), strict=True))
    assert (mixed / 2).std() == pytest.approx(1.0)


def test_options_go_to_the_part_that_has_them() -> None:
    backend = make_backend("energy+ast", weights="random", window=3.0)
    assert backend.identity["parts"]["ast"]["window"] == 3.0
    assert backend.identity["parts"]["energy"] == {"version": 1, "weights": None}
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
