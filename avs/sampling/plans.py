"""Plans: a resolution for each second of a clip, at exactly the token cost of the uniform plan."""

from __future__ import annotations

from collections.abc import Sequence
from typing import get_args

import numpy as np

from avs.core.errors import InputError
from avs.sampling.anchors import finite_scores, require_non_negative
from avs.sampling.tokens import BaseAlloc, budget_ratio, tokens


def plan_resolutions(
    num_seconds: int,
    anchors: Sequence[int],
    *,
    low_res: int,
    base_res: int,
    high_res: int,
    patch_size: int = 16,
    base_alloc: BaseAlloc = "distance",
    max_high: int | None = None,
    scores: Sequence[float] | np.ndarray | None = None,
) -> list[int]:
    """Resolution in pixels of each of T = `num_seconds`, costing exactly T · tokens(base_res).

    With r = `budget_ratio`, the first h = min(anchors, T // r, max_high) anchors get high_res, T - r·h
    seconds base_res and the rest low_res; anchors outside [0, T) and repeats are passed over, and no
    anchor gives the uniform plan. `base_alloc` says who gets base_res: the seconds nearest to any anchor
    (distance), farthest from them, half of each (mixed, the larger half far), or those with the
    highest of `scores` [T] (score). The earlier of equals goes first.
    Raises InputError for resolutions that cannot be exact, an unknown base_alloc, missing scores.
    """
    ratio = budget_ratio(low_res, base_res, high_res, patch_size)
    if base_alloc not in get_args(BaseAlloc):
        raise InputError(f"base_alloc ({base_alloc!r}) must be one of {', '.join(get_args(BaseAlloc))}")
    require_non_negative(num_seconds=num_seconds, max_high=0 if max_high is None else max_high)
    inside = list(dict.fromkeys(int(anchor) for anchor in anchors if 0 <= anchor < num_seconds))
    affordable = num_seconds // ratio
    high = inside[: affordable if max_high is None else min(affordable, max_high)]
    if not high:
        return [base_res] * num_seconds

    others = [second for second in range(num_seconds) if second not in high]
    values = _alloc_scores(scores, num_seconds) if base_alloc == "score" else []
    base = _base_seconds(others, num_seconds - ratio * len(high), inside, base_alloc, values)
    plan = dict.fromkeys(others, low_res) | dict.fromkeys(base, base_res) | dict.fromkeys(high, high_res)
    resolutions = [plan[second] for second in range(num_seconds)]
    assert sum(tokens(res, patch_size) for res in resolutions) == num_seconds * tokens(base_res, patch_size)
    return resolutions


def _base_seconds(
    candidates: list[int],
    count: int,
    anchors: list[int],
    base_alloc: BaseAlloc,
    scores: list[float],
) -> list[int]:
    distance = {second: min(abs(second - anchor) for anchor in anchors) for second in candidates}
    if base_alloc == "score":
        return sorted(candidates, key=lambda second: (-scores[second], distance[second], second))[:count]
    near = sorted(candidates, key=lambda second: (distance[second], second))
    far = sorted(candidates, key=lambda second: (-distance[second], second))
    kept_near = near[: {"distance": count, "farthest": 0, "mixed": count // 2}[base_alloc]]
    return kept_near + [second for second in far if second not in kept_near][: count - len(kept_near)]


def _alloc_scores(scores: Sequence[float] | np.ndarray | None, num_seconds: int) -> list[float]:
    if scores is None:
        raise InputError("base_alloc ('score') needs scores, one a second; none were given")
    if len(scores) != num_seconds:
        raise InputError(f"scores (length {len(scores)}) must have one entry a second ({num_seconds})")
    return finite_scores(scores)
