"""How many event seconds the anchors cover, beside exact controls: chance, best constant, best possible."""

from __future__ import annotations

from collections.abc import Iterable, Sequence

import numpy as np

from avs.core.errors import InputError
from avs.sampling.anchors import require_non_negative

_SPACED_GAP = 3


def recall_at_k(event_seconds: Iterable[int], anchors: Iterable[int], *, num_seconds: int, delta: int = 0) -> float:
    """Share of a clip's event seconds that lie within `delta` seconds of an anchor; 0 without events."""
    require_non_negative(num_seconds=num_seconds, delta=delta)
    events = set(event_seconds)
    reached = {second for anchor in anchors for second in range(anchor - delta, anchor + delta + 1)}
    covered = events & reached & set(range(num_seconds))
    return len(covered) / len(events) if events else 0.0


def recall_table(
    events: np.ndarray, anchors: Sequence[Sequence[int]], *, k: int, deltas: Sequence[int] = (0, 1, 2)
) -> dict[str, dict[str, float]]:
    """Recall (`recall_d<delta>`) and share of anchors on an event (`precision_d0`): means over clips.

    events: bool [N, T]; anchors: a list for each of the N clips; clips without an event are left out.
    Rows: `anchors`; `random`, the expectation for k distinct seconds drawn uniformly; `random_spaced`, the
    same for seconds pairwise more than two apart, or as far as k of them fit in T; `constant`, the
    best k seconds for all clips alike; `best`, the best for each clip. The last two are chosen anew for each
    figure. All are exact. A clip without anchors counts as recall 0 and not at all in precision, which is
    0 where no clip has any.
    Raises InputError where no clip has an event, or anchors and events differ in length.
    """
    require_non_negative(k=k)
    if len(anchors) != len(events):
        raise InputError(f"anchors ({len(anchors)} clips) must be as many as events ({len(events)} clips)")
    kept = np.flatnonzero(events.any(axis=1)).tolist()
    if not kept:
        raise InputError(f"events (shape {events.shape}) must have at least one clip with an event")
    events, anchors = events[kept].astype(bool), [anchors[clip] for clip in kept]
    k = min(k, events.shape[1])
    table = {"anchors": _measured(events, anchors, deltas)}
    table["random"] = _expected(events, k, deltas, gap=1)
    table["random_spaced"] = _expected(events, k, deltas, gap=_widest_gap(events.shape[1], k))
    shares = _shares(events)
    hits = events / max(k, 1)
    for name, weights, right in (("constant", shares.mean(0), hits.mean(0)), ("best", shares, hits)):
        table[name] = {f"recall_d{d}": float(_best_coverage(weights, k, d).mean()) for d in deltas}
        table[name]["precision_d0"] = float(_best_coverage(right, k, 0).mean())
    return table


def _widest_gap(num_seconds: int, k: int) -> int:
    return min(_SPACED_GAP, max(1, (num_seconds - 1) // max(k - 1, 1)))


def _measured(events: np.ndarray, anchors: Sequence[Sequence[int]], deltas: Sequence[int]) -> dict[str, float]:
    seconds = [set(np.flatnonzero(row).tolist()) for row in events]
    pairs = list(zip(seconds, anchors, strict=True))
    row = {
        f"recall_d{d}": float(np.mean([recall_at_k(e, a, num_seconds=events.shape[1], delta=d) for e, a in pairs]))
        for d in deltas
    }
    precisions = [len(e & set(a)) / len(set(a)) for e, a in pairs if len(a)]
    return row | {"precision_d0": float(np.mean(precisions)) if precisions else 0.0}


def _expected(events: np.ndarray, k: int, deltas: Sequence[int], *, gap: int) -> dict[str, float]:
    """Expectations over the k-subsets with members at least `gap` apart."""
    num_seconds = events.shape[1]
    chance = {d: _cover_probability(num_seconds, k, d, gap) for d in deltas}
    # A clip's recall is a sum over its seconds, so its expectation needs each second's chance alone.
    row = {f"recall_d{d}": float((_shares(events) @ chance[d]).mean()) for d in deltas}
    right = events @ _cover_probability(num_seconds, k, 0, gap)
    return row | {"precision_d0": float(right.mean() / max(k, 1))}


def _shares(events: np.ndarray) -> np.ndarray:
    """[N, T]: what covering each second adds to the recall of its clip."""
    return events / events.sum(axis=1, keepdims=True)


def _cover_probability(num_seconds: int, k: int, delta: int, gap: int) -> np.ndarray:
    """[T]: the chance that a uniformly drawn k-subset has a member within `delta` of each second."""
    seconds = np.arange(num_seconds)
    total = _count_subsets(np.ones(num_seconds, dtype=bool), k, gap)
    missing = [_count_subsets(np.abs(seconds - second) > delta, k, gap) for second in seconds]
    return np.array([1 - missed / total for missed in missing])


def _count_subsets(allowed: np.ndarray, k: int, gap: int) -> int:
    """How many k-subsets of the allowed seconds have members at least `gap` apart, counted exactly."""
    ways = [1] * (len(allowed) + 1)
    for _ in range(k):
        longer = [0]
        for second, usable in enumerate(allowed):
            longer.append(longer[-1] + (ways[max(0, second + 1 - gap)] if usable else 0))
        ways = longer
    return ways[-1]


def _best_coverage(weights: np.ndarray, k: int, delta: int) -> np.ndarray:
    """Most weight that k anchors can cover; weights ≥ 0 [..., T] in, [...] out.

    Windows of 2·delta + 1 seconds may be taken as disjoint and in order: one that overlaps the next covers no
    less when moved to end where that begins.
    """
    width = 2 * delta + 1
    before = np.concatenate([np.zeros((*weights.shape[:-1], 1)), weights.cumsum(axis=-1)], axis=-1)
    start = np.maximum(np.arange(before.shape[-1]) - width, 0)
    best = np.zeros_like(before)
    for _ in range(k):
        best = np.maximum.accumulate(best[..., start] + before - before[..., start], axis=-1)
    return best[..., -1]
