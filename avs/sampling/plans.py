"""Plans: a resolution for each second of a clip, at exactly the token cost of the uniform plan, or near it."""

from __future__ import annotations

from collections.abc import Sequence
from typing import get_args

import numpy as np

from avs.core.errors import InputError
from avs.sampling.allocate import allocate, spread
from avs.sampling.anchors import finite_scores, require_non_negative
from avs.sampling.tokens import BaseAlloc, BudgetParams, budget_ratio, tokens

Scores = Sequence[float] | np.ndarray


def plan_anchors(
    budget: BudgetParams,
    num_seconds: int,
    anchors: Sequence[int],
    *,
    max_high: int | None = None,
    scores: Scores | None = None,
) -> list[int]:
    """Resolution in pixels of each of T = `num_seconds`, as `budget` says; `max_high` stands in for its own."""
    if budget.allocator == "optimal":
        return optimal_plan(budget, num_seconds, anchors, max_high, scores)
    return plan_resolutions(
        num_seconds,
        anchors,
        low_res=budget.low_res,
        base_res=budget.base_res,
        high_res=budget.high_res,
        patch_size=budget.patch_size,
        base_alloc=budget.base_alloc,
        max_high=max_high,
        scores=scores,
    )


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
    scores: Scores | None = None,
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
    inside = _inside(anchors, num_seconds)
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


def optimal_plan(
    budget: BudgetParams, num_seconds: int, anchors: Sequence[int], max_high: int | None, scores: Scores | None
) -> list[int]:
    """The plan of the most worth that spends the uniform budget, less `slack` tokens at most.

    A token is worth T in the first second of `ranking`, T - 1 in the next, and so on; the first `max_high` anchors
    alone may be at high resolution, and no anchor gives the uniform plan. Where resolutions share the budget exactly
    this is `plan_resolutions`.
    """
    inside = _inside(anchors, num_seconds)
    high = inside[: budget.max_high_seconds(num_seconds)][:max_high]
    if not high:
        return [budget.base_res] * num_seconds
    order = ranking(num_seconds, inside, budget.base_alloc, scores, first=len(high))
    worth = _worth(order, budget).astype(float)
    worth[order[len(high) :], 2] = -np.inf
    return _levels(worth, budget, budget.clip_tokens(num_seconds))


def ranked_plan(budget: BudgetParams, order: Sequence[int], total: int) -> list[int]:
    """The plan of `total` tokens, or up to `slack` less, that spends the most on the seconds that come first in
    `order`: a token is worth T in the first, T - 1 in the next, and so on."""
    return _levels(_worth(order, budget), budget, total)


def wanted_plan(budget: BudgetParams, wanted: np.ndarray, total: int) -> list[int]:
    """The plan of `total` tokens, or up to `slack` less, that spends the most on the seconds `wanted`, bool [T]; of
    those that spend equally much there the one whose seconds are nearest to an even share of `total`."""
    costs = np.array([*budget.costs.values()])
    uneven = (costs - round(total / len(wanted))) ** 2
    weight = 1 + len(wanted) * int(uneven.max())  # one token there outweighs any unevenness
    return _levels(np.outer(wanted, costs) * weight - uneven, budget, total)


def even_plan(budget: BudgetParams, num_seconds: int, total: int) -> list[int]:
    """The most even plan of `total` tokens, or up to `slack` less, each resolution spread over the clip."""
    plan = wanted_plan(budget, np.zeros(num_seconds, bool), total)
    return spread({resolution: plan.count(resolution) for resolution in reversed(budget.resolutions)})


def ranking(
    num_seconds: int,
    anchors: Sequence[int],
    base_alloc: BaseAlloc,
    scores: Scores | None = None,
    *,
    first: int | None = None,
) -> list[int]:
    """All seconds: the `first` anchors (by default all) as given, then the others by `base_alloc`, as it chooses who
    gets base_res in `plan_resolutions`; without anchors in order of time."""
    inside = _inside(anchors, num_seconds)
    ahead = inside[:first]
    others = [second for second in range(num_seconds) if second not in ahead]
    if not inside:
        return others
    values = _alloc_scores(scores, num_seconds) if base_alloc == "score" else []
    counts = range(1, len(others) + 1) if base_alloc == "mixed" else [len(others)]  # a near and a far one by turns
    chosen = [second for n in counts for second in _base_seconds(others, n, inside, base_alloc, values)]
    return list(dict.fromkeys(ahead + chosen))


def _inside(anchors: Sequence[int], num_seconds: int) -> list[int]:
    return list(dict.fromkeys(int(anchor) for anchor in anchors if 0 <= anchor < num_seconds))


def _worth(order: Sequence[int], budget: BudgetParams) -> np.ndarray:
    rank = np.empty(len(order), dtype=np.int64)
    rank[list(order)] = range(len(order), 0, -1)
    return np.outer(rank, [*budget.costs.values()])


def _levels(worth: np.ndarray, budget: BudgetParams, total: int) -> list[int]:
    levels = allocate(worth, [*budget.costs.values()], total, slack=budget.slack)
    return [budget.resolutions[level] for level in levels]


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


def _alloc_scores(scores: Scores | None, num_seconds: int) -> list[float]:
    if scores is None:
        raise InputError("base_alloc ('score') needs scores, one a second; none were given")
    if len(scores) != num_seconds:
        raise InputError(f"scores (length {len(scores)}) must have one entry a second ({num_seconds})")
    return finite_scores(scores)
