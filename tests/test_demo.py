from collections import Counter
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest

from avs.core.media import read_media
from avs.datasets import demo, demo_scene
from avs.datasets.demo import DemoParams, render, scripts


def levels(script: demo.ClipScript) -> np.ndarray:
    """RMS level of each second in dBFS."""
    sound = demo._sound(script).astype(np.float64).reshape(script.seconds, -1) / 32768
    return 10 * np.log10((sound**2).mean(axis=1))


def in_event(script: demo.ClipScript) -> np.ndarray:
    t = np.arange(script.seconds)
    return (script.event[0] <= t) & (t < script.event[1])


def test_design_is_balanced_and_shuffled() -> None:
    clips = scripts(DemoParams())
    assert Counter(clip.split for clip in clips) == {"train": 140, "val": 20, "test": 100}
    for split, count in (("train", 14), ("val", 2), ("test", 10)):
        assert set(Counter(c.label for c in clips if c.split == split).values()) == {count}
        noisy = np.mean([c.other_sound is not None for c in clips if c.split == split])
        assert noisy == pytest.approx(0.25, abs=0.05)
    assert len({clip.video_id for clip in clips}) == len(clips)
    assert {len(clip.video_id) for clip in clips} == {11}
    splits = [clip.split for clip in clips]
    assert splits != sorted(splits)


def test_design_is_pure_and_grows() -> None:
    small, large = scripts(DemoParams(train=20)), scripts(DemoParams(train=30))
    assert small == scripts(DemoParams(train=20))
    assert set(small) < set(large)
    assert not set(small) & set(scripts(DemoParams(train=20, seed=1)))


@pytest.mark.parametrize("effect", ["resolution", "none"])
@pytest.mark.parametrize("seconds", [8, 10, 17])
def test_everything_fits(effect: demo.Effect, seconds: int) -> None:
    for clip in scripts(DemoParams(effect=effect, seconds=seconds)):
        assert 0 <= clip.event[0] < clip.event[1] <= seconds
        assert 2 <= clip.event[1] - clip.event[0] <= 4
        assert 0 <= clip.plain_shown[0] < clip.plain_shown[1] <= seconds
        if clip.other_sound is not None:
            start, end = clip.other_sound
            assert 0 <= start < end <= seconds
            assert end <= clip.event[0] or start >= clip.event[1]
        for place, size in ((clip.place, clip.size), (clip.plain_place, clip.plain_size)):
            assert size // 2 + demo._MOTION <= min(place)
            assert max(place) + size // 2 + demo._MOTION < demo_scene.SIDE


def test_energy_finds_the_event_but_for_the_other_sound() -> None:
    """Two loudest seconds: always right without the other sound, never with it."""
    right = []
    for clip in scripts(DemoParams(train=80, val=1, test=40)):
        hits = in_event(clip)[np.argsort(-levels(clip))[:2]].mean()
        assert hits == (clip.other_sound is None)
        right.append(hits)
    assert np.mean(right) == pytest.approx(0.75, abs=0.02)


def test_levels_are_as_written() -> None:
    clip = next(c for c in scripts(DemoParams()) if c.other_sound is None)
    event = in_event(clip)
    np.testing.assert_allclose(10 * np.log10(np.mean(10 ** (levels(clip)[event] / 10))), clip.level, atol=0.2)
    assert levels(clip)[~event].max() < -49


def test_colours_say_nothing_of_the_class() -> None:
    """Both orders of light and dark occur, whatever the class."""
    orders = [np.diff(demo_scene.colours(np.random.default_rng(seed)).mean(axis=1))[0] > 0 for seed in range(200)]
    assert np.mean(orders) == pytest.approx(0.5, abs=0.1)


@pytest.mark.parametrize(("effect", "width"), [("resolution", 19), ("none", 110)])
def test_the_disc_is_there_in_the_event_only(effect: demo.Effect, width: int) -> None:
    clip = replace(scripts(DemoParams(effect=effect))[0], plain_shown=(0, 0))
    pictures = np.stack(demo._pictures(clip)).astype(int)
    outside = pictures[~in_event(clip)]
    assert (outside == outside[0]).all()
    for picture in pictures[in_event(clip)]:
        rows, columns = np.nonzero((picture != outside[0]).any(axis=-1))
        assert abs(rows.mean() - clip.place[1]) <= demo._MOTION + 1
        assert abs(columns.mean() - clip.place[0]) <= demo._MOTION + 1
        assert np.ptp(rows) >= width - 2


def test_patterns_differ() -> None:
    paint = np.array([[0.0] * 3, [255.0] * 3])
    discs = [demo_scene.disc(21, paint, pattern, 3)[..., 0] for pattern in demo_scene.PATTERNS.values()]
    for index, one in enumerate(discs):
        assert all(abs(one - other).mean() > 15 for other in discs[:index])


def test_a_clip_depends_on_its_script_only(tmp_path: Path) -> None:
    one, other = scripts(DemoParams(seconds=8))[:2]
    render(one, tmp_path / "a.mp4")
    render(other, tmp_path / "b.mp4")
    render(one, tmp_path / "c.mp4")
    assert (tmp_path / "a.mp4").read_bytes() == (tmp_path / "c.mp4").read_bytes()
    clip = read_media(tmp_path / "a.mp4", 8)
    assert clip.flags == ()
    drawn = demo._pictures(one)
    for frame, picture in zip(clip.frames, drawn, strict=True):
        assert frame.shape == (352, 352, 3)
        assert abs(frame.astype(float) - picture).mean() < 5  # of 255: what the encoder loses


@pytest.mark.parametrize(
    ("bad", "message"),
    [
        ({"train": 0}, r"train \(0\) must be >= 1"),
        ({"test": -3}, r"test \(-3\) must be >= 1"),
        ({"seconds": 7}, r"seconds \(7\) must be >= 8"),
        ({"seed": -1}, r"seed \(-1\) must be >= 0"),
    ],
)
def test_bad_sizes_are_refused(bad: dict[str, int], message: str) -> None:
    with pytest.raises(ValueError, match=message):
        DemoParams(**bad)
