"""Where an arm wins and loses against uniform sampling, and whether good anchors have to do with it: to look for
reasons in, not to conclude from, since nothing here was planned or corrected."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import numpy as np

from avs.core.clips import Clip
from avs.core.stats import paired_bootstrap
from avs.localization.arms import Proposal
from avs.localization.recall import recall_at_k
from avs.localization.study import Study

DIAGNOSED = ("anchored_topk", "oracle_best")
AGAINST = "uniform"
MEASURES = ("accuracy", "class_event")

LENGTHS = ("none", "up_to_a_third", "up_to_two_thirds", "longer", "all")
DISTANCES = ("no_event", "no_anchor", "all_on_event", "some_on_event", "next_to_event", "farther")


def diagnose(
    study: Study, positions: np.ndarray, scores: Mapping[str, Mapping[str, np.ndarray]], arm: str, resamples: int
) -> dict[str, Any]:
    """The gain of an arm over uniform sampling by kind of clip, and its correlation with the recall of the anchors.

    scores: measure → arm → score of the clips at `positions`, [S, n]. For each measure: `by_class`, `by_event_length`
    (share of the clip), `by_anchor_distance` (of the audio's anchors to the event) and `by_fallback`, each group with
    its clips, `diff` and 95 % interval over clips; and `recall`: Spearman's correlation of recall and gain over the
    clips with anchors, and over all with an event. What cannot be had (an interval of one clip) is left out.
    """
    clips = [study.clips[place] for place in positions]
    proposals = [study.proposals[place] for place in positions]
    kinds = {
        "by_class": [clip.label for clip in clips],
        "by_event_length": [LENGTHS[_length(clip)] for clip in clips],
        "by_anchor_distance": [DISTANCES[_distance(c, p)] for c, p in zip(clips, proposals, strict=True)],
        "by_fallback": ["fallback" if proposal.fallback else "anchored" for proposal in proposals],
    }
    found: dict[str, Any] = {}
    for measure in MEASURES:
        first, second = scores[measure][arm], scores[measure][AGAINST]
        found[measure] = {kind: _groups(names, first, second, resamples) for kind, names in kinds.items()}
        found[measure]["recall"] = _recalls(clips, proposals, (first - second).mean(axis=0), resamples)
    return found


def spearman(x: np.ndarray, y: np.ndarray, resamples: int, seed: int = 0) -> dict[str, float]:
    """Rank correlation of two scores a clip, with its percentile 95 % interval from resampled clips.

    NaN where one of them is the same for all clips; resamples in which that happens are left out.
    """
    rng = np.random.default_rng(seed)
    x, y = (np.unique(scores, return_inverse=True)[1] for scores in (x, y))
    found = {"clips": len(x), "spearman": float(_spearman(x[None], y[None])[0])}
    if np.isnan(found["spearman"]):
        return found
    step = max(1, 1_000_000 // len(x))
    drawn = [rng.integers(len(x), size=(min(step, resamples - at), len(x))) for at in range(0, resamples, step)]
    low, high = np.nanquantile(np.concatenate([_spearman(x[rows], y[rows]) for rows in drawn]), [0.025, 0.975])
    return found | {"ci_low": float(low), "ci_high": float(high)}


def _spearman(x: np.ndarray, y: np.ndarray) -> np.ndarray:
    """Of each row of small integers: Pearson's correlation of the ranks."""
    a, b = (_ranks(rows) - (rows.shape[1] + 1) / 2 for rows in (x, y))
    spread = np.sqrt((a * a).sum(axis=1) * (b * b).sum(axis=1))
    return np.divide((a * b).sum(axis=1), spread, out=np.full(len(x), np.nan), where=spread > 0)


def _ranks(rows: np.ndarray) -> np.ndarray:
    """Ranks from 1 in each row of integers from 0, equals sharing theirs: counted, which is quicker than sorting."""
    levels = rows.max() + 1
    counts = np.bincount((rows + levels * np.arange(len(rows))[:, None]).ravel(), minlength=len(rows) * levels)
    counts = counts.reshape(len(rows), levels)
    return np.take_along_axis(counts.cumsum(axis=1) - (counts - 1) / 2, rows, axis=1)


def _groups(names: list[str], first: np.ndarray, second: np.ndarray, resamples: int) -> dict[str, dict[str, float]]:
    judged = ~np.isnan(first[0])
    found = {}
    for name in sorted(set(names)):
        chosen = judged & (np.array(names) == name)
        if chosen.any():
            diff, low, high, _ = paired_bootstrap(first[:, chosen], second[:, chosen], resamples=resamples)
            interval = {"ci_low": low, "ci_high": high} if chosen.sum() > 1 else {}
            found[name] = {"clips": int(chosen.sum()), "diff": diff} | interval
    return found


def _recalls(clips: list[Clip], proposals: list[Proposal], gain: np.ndarray, resamples: int) -> dict[str, Any]:
    pairs = zip(clips, proposals, strict=True)
    recall = np.array([recall_at_k(np.flatnonzero(c.event()), p.anchors, num_seconds=c.seconds) for c, p in pairs])
    judged = ~np.isnan(gain) & np.array([clip.event().any() for clip in clips])
    anchored = judged & np.array([bool(p.anchors) for p in proposals])
    subsets = {"with_anchors": anchored, "all": judged}
    return {name: spearman(recall[rows], gain[rows], resamples) for name, rows in subsets.items() if rows.any()}


def _length(clip: Clip) -> int:
    """Place in LENGTHS of the share of the clip that is event."""
    share = clip.event().mean()
    return int(share > 0) + int(share > 1 / 3) + int(share > 2 / 3) + int(share == 1)


def _distance(clip: Clip, proposal: Proposal) -> int:
    """Place in DISTANCES: how far the anchors lie from the event."""
    event = np.flatnonzero(clip.event())
    if not proposal.anchors or not len(event):
        return int(bool(len(event)))
    away = [int(np.abs(event - anchor).min()) for anchor in proposal.anchors]
    if min(away) == 0:
        return 2 if max(away) == 0 else 3
    return 4 if min(away) == 1 else 5
