from pathlib import Path

import numpy as np
import pytest

from avs.avsr.voices import kept_voices, write_voices
from avs.core.errors import InputError
from avs.core.media import unwav

RNG = np.random.default_rng(0)
MIXTURE = (0.2 * RNG.normal(size=1600)).astype(np.float32)


def sounds(out: Path, key: str, condition: str) -> dict[str, np.ndarray]:
    return {name: unwav(path.read_bytes()) for name, path in kept_voices(out, key)[condition].items()}


def test_what_is_kept_comes_back_to_half_a_step(tmp_path: Path) -> None:
    write_voices(tmp_path, "clip", "snr_-5", MIXTURE)
    assert kept_voices(tmp_path, "clip").keys() == {"snr_-5"}
    found = sounds(tmp_path, "clip", "snr_-5")
    assert found.keys() == {"mixture"}
    np.testing.assert_allclose(found["mixture"] / 32767, MIXTURE, atol=0.51 / 32767)
    assert kept_voices(tmp_path, "other") == {}


def test_seanet_is_as_loud_as_its_share_of_the_mixture(tmp_path: Path) -> None:
    voice = (0.1 * RNG.normal(size=1600)).astype(np.float32)
    for gain in (0.01, 1, 300):
        write_voices(tmp_path, "clip", "talker_0", voice, (gain * voice).astype(np.float32))
        found = sounds(tmp_path, "clip", "talker_0")
        np.testing.assert_allclose(found["seanet"], found["mixture"], atol=1)
    write_voices(tmp_path, "clip", "talker_0", voice, np.zeros_like(voice))
    assert not sounds(tmp_path, "clip", "talker_0")["seanet"].any()


def test_what_is_too_loud_is_brought_down_whole_and_not_clipped(tmp_path: Path) -> None:
    write_voices(tmp_path, "clip", "clean", 8 * MIXTURE)
    found = sounds(tmp_path, "clip", "clean")["mixture"]
    assert np.abs(found).max() == 32767
    assert np.corrcoef(found, MIXTURE)[0, 1] > 1 - 1e-6


def test_equal_sounds_have_equal_bytes_and_any_key_a_folder_of_its_own(tmp_path: Path) -> None:
    for key in ("../../away", "s1/é", "x" * 10_000):
        for place in ("a", "b"):
            write_voices(tmp_path / place, key, "clean", MIXTURE, MIXTURE)
        first, second = (kept_voices(tmp_path / place, key)["clean"] for place in ("a", "b"))
        assert [path.read_bytes() for path in first.values()] == [path.read_bytes() for path in second.values()]
    assert len(list((tmp_path / "a").iterdir())) == 3
    assert sorted(path.name for path in tmp_path.iterdir()) == ["a", "b"]


@pytest.mark.parametrize(
    ("condition", "mixture", "seanet", "words"),
    [
        ("../snr", MIXTURE, None, r"condition \('../snr'\) must be a word such as clean"),
        ("", MIXTURE, None, "must be a word"),
        ("clean", MIXTURE, MIXTURE[:-1], "clip 'clip', clean: seanet must be 1600 finite samples"),
        ("clean", np.full(4, np.nan), None, "mixture must be 4 finite samples"),
        ("clean", MIXTURE[None], None, "mixture must be"),
    ],
)
def test_what_is_no_sound_is_named(
    tmp_path: Path, condition: str, mixture: np.ndarray, seanet: np.ndarray | None, words: str
) -> None:
    with pytest.raises(InputError, match=words):
        write_voices(tmp_path, "clip", condition, mixture, seanet)
    assert not list(tmp_path.iterdir())
