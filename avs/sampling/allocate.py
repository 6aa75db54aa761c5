"""The best plan at a given cost: an exact dynamic programme over any set of resolutions and any worth of each."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from functools import reduce
from operator import or_

import numpy as np

from avs.core.errors import InputError

_STEPS = 2.0**40  # of the largest worth: float worths are compared in these
_NEVER = -(2**62)  # the worth of what cannot be had; sums of it are cut off there
_FORBIDDEN = -(2**61)
_POSSIBLE = -(2**60)  # what can be had is worth more


def allocate(utility: np.ndarray, costs: Sequence[int], budget: int, *, slack: int = 0) -> list[int]:
    """The level of each of T seconds: of the plans that cost between budget - slack and budget, that of the most worth.

    utility [T, R]: what each of R levels is worth in each second; -inf forbids it. costs [R]: whole tokens of a level.
    Whole-numbered worths are summed as they are, others in steps of 2⁻⁴⁰ of the largest: sums are exact, so equals
    are equal. Of equally good plans the costliest is taken, and of those the one that spends more on the earlier
    second (and there the level that comes first).
    Raises InputError, naming the nearest totals that can be met, where no plan lies within the slack.
    """
    worth = _whole(np.asarray(utility))
    if worth.ndim != 2 or worth.shape[1] != len(costs) or min(costs, default=0) < 1:
        raise InputError(f"utility {worth.shape} and costs ({list(costs)}) must be [T, R] and R whole numbers >= 1")
    if budget < 0 or slack < 0:
        raise InputError(f"budget ({budget}) and slack ({slack}) must be >= 0")
    best = _best(worth, costs, budget)
    left = budget - int(best[0, max(0, budget - slack) :][::-1].argmax())
    if best[0, left] <= _POSSIBLE:
        raise InputError(_out_of_reach(worth, costs, budget, slack))
    plan = []
    for second, row in enumerate(worth):
        fits = [level for level, cost in enumerate(costs) if cost <= left]
        plan.append(max(fits, key=lambda r: (row[r] + best[second + 1, left - costs[r]], costs[r], -r)))
        left -= costs[plan[-1]]
    return plan


def reachable(choices: Sequence[Sequence[int]]) -> list[int]:
    """All totals that one cost from each of the sequences can sum to, in ascending order."""
    sums = 1  # bit b stands for a total of b
    for costs in choices:
        sums = reduce(or_, (sums << cost for cost in costs), 0)
    return [total for total in range(sums.bit_length()) if sums >> total & 1]


def spread(counts: Mapping[int, int]) -> list[int]:
    """A sequence with `counts[level]` of each level, each as evenly as the others allow.

    In each place comes the level that is farthest behind its share, the first of equals.
    """
    total, behind, placed = sum(counts.values()), dict.fromkeys(counts, 0), []
    for _ in range(total):
        behind = {level: behind[level] + counts[level] for level in counts}
        placed.append(max(behind, key=lambda level: behind[level]))
        behind[placed[-1]] -= total
    return placed


def _whole(utility: np.ndarray) -> np.ndarray:
    """Worths as int64, so small that sums over the seconds stay above _POSSIBLE and below its opposite."""
    if not (utility < np.inf).all():
        raise InputError("utility must be numbers, or -inf for what is forbidden")
    allowed = utility > -np.inf
    numbers = np.where(allowed, utility, 0)
    largest = float(np.abs(numbers).max(initial=0))
    if (numbers % 1).any() or (largest > _STEPS and not np.issubdtype(utility.dtype, np.integer)):
        numbers = np.rint(numbers / (largest or 1.0) * _STEPS)
        largest = _STEPS
    if largest * len(utility) >= -_POSSIBLE / 2:
        raise InputError(f"utility (up to {largest:g} in {len(utility)} seconds) is too large to be summed exactly")
    return np.where(allowed, numbers, _FORBIDDEN).astype(np.int64)


def _best(worth: np.ndarray, costs: Sequence[int], budget: int) -> np.ndarray:
    """int64 [T + 1, budget + 1]: the most that the seconds from t on can be worth at exactly that cost."""
    best = np.full((len(worth) + 1, budget + 1), _NEVER)
    best[-1, 0] = 0
    for second in reversed(range(len(worth))):
        for level, cost in enumerate(costs):
            if cost <= budget:
                found = best[second + 1, : budget + 1 - cost] + worth[second, level]
                np.maximum(best[second, cost:], found, out=best[second, cost:])
    return best


def _out_of_reach(worth: np.ndarray, costs: Sequence[int], budget: int, slack: int) -> str:
    totals = reachable([[c for c, w in zip(costs, row, strict=True) if w != _FORBIDDEN] for row in worth])
    near = [*[t for t in totals if t <= budget][-1:], *[t for t in totals if t > budget][:1]]
    reason = f"budget ({budget} tokens, slack {slack}) cannot be met by {len(worth)} seconds of {list(costs)} tokens"
    return f"{reason}; nearest totals that can: {', '.join(map(str, near)) or 'none'}"
