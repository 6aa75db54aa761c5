import numpy as np
import pytest
from scipy.stats import spearmanr

from avs.core.clips import Clip
from avs.localization.arms import Proposal
from avs.localization.diagnose import _distance, _groups, _length, _recalls, spearman


def clip(start: float, end: float) -> Clip:
    return Clip("0-v", "test", "a", start, end, 10, "v.mp4", "0")


def proposal(*anchors: int) -> Proposal:
    return Proposal([0.0] * 10, list(anchors), list(anchors), None, fallback=not anchors)


def test_rank_correlation_is_scipys_and_its_interval_covers_it() -> None:
    rng = np.random.default_rng(0)
    x = rng.integers(0, 4, 80).astype(float)
    y = x + rng.normal(size=80)
    found = spearman(x, y, resamples=500)
    assert found["spearman"] == pytest.approx(spearmanr(x, y).statistic, abs=1e-12)
    assert 0 < found["ci_low"] < found["spearman"] < found["ci_high"] < 1
    assert found["clips"] == 80


def test_what_never_varies_correlates_with_nothing() -> None:
    found = spearman(np.ones(5), np.arange(5.0), resamples=50)
    assert np.isnan(found["spearman"])
    assert "ci_low" not in found


@pytest.mark.parametrize(
    ("start", "end", "place"), [(0, 0, 0), (0, 3, 1), (0, 4, 2), (1, 7, 2), (0, 7, 3), (0, 9, 3), (0, 10, 4)]
)
def test_lengths_are_shares_of_the_clip(start: float, end: float, place: int) -> None:
    assert _length(clip(start, end)) == place


@pytest.mark.parametrize(
    ("anchors", "place"), [((), 1), ((3, 4), 2), ((3, 9), 3), ((2, 9), 4), ((6, 9), 4), ((0, 9), 5), ((3,), 2)]
)
def test_distances_are_those_of_the_anchors_to_the_event(anchors: tuple[int, ...], place: int) -> None:
    assert _distance(clip(3, 6), proposal(*anchors)) == place
    assert _distance(clip(0, 0), proposal(*anchors)) == 0


def test_groups_hold_the_mean_gain_of_their_clips() -> None:
    first = np.array([[0.5, 0.9, 0.1, np.nan], [0.7, 0.9, 0.1, np.nan]])
    second = np.array([[0.4, 0.4, 0.3, np.nan], [0.4, 0.4, 0.3, np.nan]])
    found = _groups(["a", "a", "b", "c"], first, second, resamples=200)
    assert set(found) == {"a", "b"}
    assert (found["a"]["clips"], found["b"]["clips"]) == (2, 1)
    assert found["a"]["diff"] == pytest.approx((0.2 + 0.5) / 2)
    assert found["a"]["ci_low"] <= found["a"]["diff"] <= found["a"]["ci_high"]
    assert set(found["b"]) == {"clips", "diff"}


def test_recall_goes_with_gain_where_good_anchors_help() -> None:
    clips = [clip(0, 2), clip(0, 4), clip(0, 5), clip(3, 8), clip(0, 0)]
    proposals = [proposal(0, 1), proposal(0, 1), proposal(0, 9), proposal(), proposal(1)]
    gain = np.array([0.3, 0.2, 0.1, 0.0, np.nan])
    found = _recalls(clips, proposals, gain, resamples=100)
    assert (found["with_anchors"]["clips"], found["all"]["clips"]) == (3, 4)
    assert found["all"]["spearman"] == pytest.approx(1)
