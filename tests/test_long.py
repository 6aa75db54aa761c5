import itertools
from pathlib import Path

import numpy as np
import pytest

from avs.audio.eventness import make_backend
from avs.core.errors import InputError
from avs.core.media import MediaError, read_sound, write_media
from avs.localization.long import (
    LongClip,
    chance_recall,
    evaluate_long,
    frames_at,
    read_long,
    recall_of_seconds,
    score_sound,
    select_seconds,
)


def peaks(num_seconds: int, *seconds: int) -> np.ndarray:
    """Scores that fall along `seconds`, the first being the best."""
    scores = np.zeros(num_seconds)
    scores[list(seconds)] = np.arange(len(seconds), 0, -1)
    return scores


def test_a_small_budget_keeps_the_best_anchors_wherever_they_are() -> None:
    scores = peaks(600, 500, 100)
    assert select_seconds(scores, [500, 100], budget=5) == [498, 499, 500, 501, 502]
    assert select_seconds(scores, [500, 100], budget=7) == [100, 101, 498, 499, 500, 501, 502]


def test_the_background_is_seen_from_end_to_end() -> None:
    chosen = select_seconds(peaks(600, 500), [500], budget=17)
    background = [second for second in chosen if abs(second - 500) > 2]
    assert len(chosen) == 17
    assert all(second % 5 == 0 for second in background)
    gaps = np.diff([0, *background, 600])
    assert gaps.max() <= 60
    assert gaps.min() >= 20


def test_what_is_left_goes_to_the_highest_scores() -> None:
    assert select_seconds(peaks(12, 7, 8), [], budget=4) == [0, 5, 7, 10]
    assert select_seconds(peaks(12, 7, 8), [3], budget=12) == list(range(12))
    assert select_seconds(peaks(12, 7, 8), [3], budget=99) == list(range(12))
    assert select_seconds(peaks(3), [0, 40], budget=0) == []
    with pytest.raises(InputError, match=r"stride \(0\)"):
        select_seconds(peaks(3), [], budget=1, stride=0)


@pytest.mark.parametrize("delta", [0, 1])
def test_chance_is_the_mean_over_all_choices(delta: int) -> None:
    events = [(0.0, 1.5), (4.2, 4.9), (6.0, 60.0), (3.0, 3.0), (8.5, 12.0)]
    choices = [recall_of_seconds(events, c, num_seconds=8, delta=delta) for c in itertools.combinations(range(8), 3)]
    assert chance_recall(events, 3, num_seconds=8, delta=delta) == pytest.approx(np.mean(choices), abs=1e-12)


def test_recall_counts_events_not_seconds() -> None:
    events = [(0.0, 50.0), (60.2, 60.4), (70.0, 71.0)]
    assert recall_of_seconds(events, [3, 60], num_seconds=100) == pytest.approx(2 / 3)
    assert recall_of_seconds(events, [61], num_seconds=100) == 0
    assert recall_of_seconds(events, [61], num_seconds=100, delta=1) == pytest.approx(1 / 3)
    assert recall_of_seconds([], [61], num_seconds=100) == 0


@pytest.mark.parametrize("method", ["energy", "energy_delta"])
def test_blocks_do_not_show_in_the_scores(method: str) -> None:
    samples = np.random.default_rng(0).normal(0, 3000, 130 * 16000).astype(np.int16)
    backend = make_backend(method)
    whole = backend(samples[None].astype(np.float32) / 32768, num_seconds=130)[0]
    np.testing.assert_array_equal(score_sound(samples, backend), whole)
    assert score_sound(samples[:100], backend).shape == (0,)


@pytest.fixture(scope="module")
def video(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """90 s of hiss with louder seconds 20, 61 and 62; a level of grey each second."""
    path = tmp_path_factory.mktemp("long") / "P01_01.mp4"
    level = np.full(90, 30.0)
    level[[20, 61, 62]] = 6000
    sound = np.random.default_rng(0).normal(0, 1, (90, 16000)) * level[:, None]
    frames = (np.full((32, 32, 3), 5 * (n // 10 % 50), np.uint8) for n in range(900))
    write_media(path, frames, 10, np.clip(np.rint(sound), -32768, 32767).astype(np.int16).reshape(-1))
    return path


def test_a_long_video_from_its_file_to_recall(video: Path) -> None:
    events = {"P01_01": [(20.1, 20.9), (61.0, 63.0)], "P01_02": [(0.0, 1.0)]}
    (clip,) = read_long(video.parent, {"P01_01": video.name}, events, make_backend("energy"))
    assert clip.scores.shape == (90,)
    metrics = evaluate_long([clip, LongClip("none", clip.scores, [])], k=2, budget=20)
    assert metrics["videos"] == 1
    assert metrics["anchors"]["recall_d0"] == 1
    assert metrics["anchors_by_chance"]["recall_d0"] == pytest.approx(1 - (89 * 88 + 88 * 87) / (2 * 90 * 89))
    assert metrics["selected"]["recall_d0"] == 1
    with pytest.raises(InputError, match="none of the long videos has an event"):
        evaluate_long([], k=2, budget=20)


def test_frames_are_those_of_the_chosen_seconds(video: Path) -> None:
    seconds = [0, 1, 20, 47, 48, 49, 89]
    assert [round(frame.mean() / 5) for frame in frames_at(video, seconds)] == [second % 50 for second in seconds]
    assert list(frames_at(video, [])) == []


def test_the_sound_of_a_video_without_any_is_an_error(tmp_path: Path) -> None:
    write_media(tmp_path / "a.mp4", [np.zeros((32, 32, 3), np.uint8)] * 2, 1)
    with pytest.raises(MediaError, match="no audio stream"):
        read_sound(tmp_path / "a.mp4")
