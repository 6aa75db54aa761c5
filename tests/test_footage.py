import re
from fractions import Fraction
from pathlib import Path

import numpy as np
import pytest
from speech_videos import tone, write_video

from avs.core.footage import read_footage
from avs.core.media import MediaError, read_sound


def level(n: int, picture: np.ndarray) -> int:
    return int(picture[0, 0, 0])


def numbers(path: Path, **span: float) -> list[int]:
    return [seen // 2 for seen in read_footage(path, level, **span).seen]


def test_25_frames_a_second_stay_as_they_are(tmp_path: Path) -> None:
    write_video(tmp_path / "a.mkv", 75)
    footage = read_footage(tmp_path / "a.mkv", lambda n, picture: (n, level(n, picture)))
    assert footage.seen == [(n, 2 * n) for n in range(75)]
    assert footage.flags == ()
    np.testing.assert_array_equal(footage.audio, tone(3, 16000))


@pytest.mark.parametrize("fps", [24, 30, 50, Fraction(30000, 1001), 12])
def test_other_rates_are_taken_by_the_time_at_which_a_picture_is_on(tmp_path: Path, fps: Fraction) -> None:
    count = round(3 * fps)
    write_video(tmp_path / "a.mkv", min(count, 127), fps, sound=None)
    footage = read_footage(tmp_path / "a.mkv", level)
    length = min(count, 127) / fps
    assert len(footage.seen) == round(length * 25)
    # Matroska's times are whole milliseconds, so that a picture on an edge may be either
    for n, seen in enumerate(footage.seen):
        on = [int((n + Fraction(1, 2)) / 25 * fps + Fraction(shift, 1000) * fps) for shift in (-2, 2)]
        assert on[0] <= seen // 2 <= min(on[1], count - 1)
    assert footage.flags == ("no_audio", "other_rate")
    assert not footage.audio.any()


@pytest.mark.parametrize("rate", [8000, 44100, 48000])
def test_sound_of_other_rates_is_resampled(tmp_path: Path, rate: int) -> None:
    write_video(tmp_path / "a.mkv", 75, rate=rate)
    audio = read_footage(tmp_path / "a.mkv", level).audio
    assert len(audio) == 48000
    # away from the ends within 1 % of the tone's amplitude: it is below all rates' limits
    assert np.abs(audio[800:-800].astype(int) - tone(3, 16000)[800:-800]).max() < 80


@pytest.mark.parametrize("sound", [2.97, 3.0, 3.03])
def test_sound_up_to_a_frame_off_is_cut_or_filled(tmp_path: Path, sound: float) -> None:
    write_video(tmp_path / "a.mkv", 75, sound=sound)
    audio = read_footage(tmp_path / "a.mkv", level).audio
    whole = np.zeros(48000, np.int16)
    whole[: round(sound * 16000)] = tone(sound, 16000)[:48000]
    np.testing.assert_array_equal(audio, whole)


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"sound": 2.9}, "sound ends at 2.90 s, the picture at 3.00 s: more than one frame off"),
        ({"sound": 3.1}, "sound ends at 3.10 s, the picture at 3.00 s: more than one frame off"),
        ({"sound": 2.5, "delay": 0.5}, "sound begins at 0.50 s of the picture: more than one frame off"),
    ],
)
def test_sound_more_than_a_frame_off_is_refused(tmp_path: Path, options: dict[str, float], message: str) -> None:
    write_video(tmp_path / "a.mkv", 75, **options)
    with pytest.raises(MediaError, match=re.escape(message)):
        read_footage(tmp_path / "a.mkv", level)


def test_a_part_is_what_the_whole_has_there(tmp_path: Path) -> None:
    write_video(tmp_path / "a.mkv", 120, sound=4.8)
    for start, end in [(0, 1), (1, 2.48), (2.2, 4.8), (3.32, 0)]:
        part = read_footage(tmp_path / "a.mkv", level, start=start, end=end)
        first, last = round(start * 25), round((end or 4.8) * 25)
        assert [seen // 2 for seen in part.seen] == list(range(first, last))
        np.testing.assert_array_equal(part.audio, tone(4.8, 16000)[640 * first : 640 * last])
    assert numbers(tmp_path / "a.mkv") == list(range(120))


@pytest.mark.parametrize(
    ("span", "message"),
    [
        ((1, 3.5), "video ends at 3.00 s, the clip at 3.50 s"),
        ((4, 0), "clip of -1.00 s must be longer than 0"),
        ((1, 1.01), "clip of 0.010 s is shorter than a frame"),
        ((0, 4000), "at most 3600 s long"),
    ],
)
def test_a_part_that_is_not_there_is_refused(tmp_path: Path, span: tuple[float, float], message: str) -> None:
    write_video(tmp_path / "a.mkv", 75)
    with pytest.raises(MediaError, match=re.escape(message)):
        read_footage(tmp_path / "a.mkv", level, start=span[0], end=span[1])


def test_a_part_whose_sound_is_not_there_is_refused(tmp_path: Path) -> None:
    write_video(tmp_path / "a.mkv", 75, sound=1.0)
    assert numbers(tmp_path / "a.mkv", end=1) == list(range(25))
    with pytest.raises(MediaError, match=r"sound ends at 1.00 s, the clip at 2.00 s"):
        read_footage(tmp_path / "a.mkv", level, end=2)


def test_a_torn_file_is_refused(tmp_path: Path) -> None:
    write_video(tmp_path / "a.mkv", 75)
    whole = (tmp_path / "a.mkv").read_bytes()
    (tmp_path / "b.mkv").write_bytes(whole[: len(whole) // 2])
    with pytest.raises(MediaError, match=r"of 3.00 s that it announces: it is cut off"):
        read_footage(tmp_path / "b.mkv", level)
    (tmp_path / "c.mkv").write_bytes(b"no video")
    with pytest.raises(MediaError, match="cannot be opened"):
        read_footage(tmp_path / "c.mkv", level)


def test_the_samples_are_those_of_other_readers(tmp_path: Path) -> None:
    write_video(tmp_path / "a.mkv", 75, rate=44100)
    np.testing.assert_array_equal(read_footage(tmp_path / "a.mkv", level).audio, read_sound(tmp_path / "a.mkv"))
