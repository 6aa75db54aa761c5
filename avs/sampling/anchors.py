"""Anchors: the seconds of a clip that its eventness scores point at."""

from __future__ import annotations

from collections.abc import Sequence
from math import isfinite
from typing import Literal, get_args

import numpy as np

from avs.core.errors import InputError
from avs.core.params import params

Select = Literal["topk", "nms", "nms_strong"]
HighPolicy = Literal["fixed", "adaptive_v1"]


@params
class AnchorParams:
    """Knobs of anchor selection; `std_threshold: auto` is resolved for the eventness method in use."""

    shift: int = 0
    std_threshold: float | Literal["auto"] = "auto"
    select: Select = "topk"
    nms_radius: int = 1
    nms_strong_gap: float = 0.6
    high_policy: HighPolicy = "fixed"
    high_adjacent_dist: int = 1
    high_gap_threshold: float = 0.0

    def __post_init__(self) -> None:
        require_non_negative(
            nms_radius=self.nms_radius,
            nms_strong_gap=self.nms_strong_gap,
            high_adjacent_dist=self.high_adjacent_dist,
            high_gap_threshold=self.high_gap_threshold,
        )
        if self.std_threshold != "auto":
            require_non_negative(std_threshold=self.std_threshold)


def select_anchors(
    scores: Sequence[float] | np.ndarray,
    *,
    k: int,
    select: Select = "topk",
    nms_radius: int = 1,
    nms_strong_gap: float = 0.6,
    shift: int = 0,
    std_threshold: float = 0.0,
) -> list[int]:
    """At most k distinct anchor seconds in [0, T), best first, from a clip's scores [T].

    A clip whose scores have a population standard deviation (float32) below `std_threshold` has none.
    topk: the highest scores, the earliest of equals. nms: the same, leaving out seconds within
    `nms_radius` of a chosen one. nms_strong: nms, but the second anchor may lie next to the best where
    every farther second scores more than `nms_strong_gap` below the best.
    Last, `shift` (seconds) is added, and what falls outside the clip is dropped, not moved.
    Raises InputError for an unknown `select`, negative k, radius or gap, and scores that are not finite.
    """
    if select not in get_args(Select):
        raise InputError(f"select ({select!r}) must be one of {', '.join(get_args(Select))}")
    require_non_negative(k=k, nms_radius=nms_radius, nms_strong_gap=nms_strong_gap)
    values = finite_scores(scores)
    if not values or (std_threshold > 0 and float(np.std(np.asarray(values, dtype=np.float32))) < std_threshold):
        return []
    order = sorted(range(len(values)), key=lambda second: (-values[second], second))
    first = _strong_pair(order, values, nms_radius, nms_strong_gap)[:k] if select == "nms_strong" else []
    chosen = _spread(order, first, 0 if select == "topk" else nms_radius, k)
    return [second + shift for second in chosen if 0 <= second + shift < len(values)]


def max_high_anchors(
    scores: Sequence[float] | np.ndarray,
    anchors: Sequence[int],
    *,
    policy: HighPolicy = "fixed",
    adjacent_dist: int = 1,
    gap_threshold: float = 0.0,
    cap: int | None = None,
) -> int | None:
    """How many anchors may be seen at high resolution; None means as many as the budget allows.

    fixed: `cap`. adaptive_v1: at most one where the first two anchors lie within `adjacent_dist` seconds,
    or, with `gap_threshold` > 0, where the best of all scores leads the next by at least that; else `cap`.
    Raises InputError for an unknown policy.
    """
    if policy not in get_args(HighPolicy):
        raise InputError(f"policy ({policy!r}) must be one of {', '.join(get_args(HighPolicy))}")
    if policy == "fixed" or len(anchors) < 2:
        return cap
    adjacent = abs(anchors[0] - anchors[1]) <= adjacent_dist
    if adjacent or (gap_threshold > 0 and _lead(scores) >= gap_threshold):
        return 1 if cap is None else min(1, cap)
    return cap


def require_non_negative(**values: float) -> None:
    """Raise InputError for the first of the named values that is below 0 or not a number."""
    for name, value in values.items():
        if not value >= 0:
            raise InputError(f"{name} ({value}) must be >= 0")


def finite_scores(scores: Sequence[float] | np.ndarray) -> list[float]:
    """The scores as floats; raises InputError naming the first second whose score is not finite."""
    values = [float(score) for score in scores]
    for second, value in enumerate(values):
        if not isfinite(value):
            raise InputError(f"score of second {second} ({value}) must be finite")
    return values


def _spread(order: list[int], chosen: list[int], radius: int, k: int) -> list[int]:
    """Extend `chosen` down the order to k seconds that are pairwise more than `radius` apart."""
    for second in order:
        if len(chosen) < k and all(abs(second - other) > radius for other in chosen):
            chosen = [*chosen, second]
    return chosen


def _strong_pair(order: list[int], values: list[float], radius: int, gap: float) -> list[int]:
    """The best second, with the best far one if that is nearly as strong, else with the runner-up."""
    best = order[0]
    far = next((second for second in order if abs(second - best) > radius), None)
    if far is not None and values[best] - values[far] <= gap:
        return [best, far]
    return order[:2]


def _lead(scores: Sequence[float] | np.ndarray) -> float:
    second, best = sorted(finite_scores(scores))[-2:]
    return best - second
