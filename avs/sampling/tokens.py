"""Budget arithmetic: what a frame costs in tokens, and which resolutions can share a budget exactly."""

from __future__ import annotations

from functools import cache
from itertools import product
from typing import Literal

import numpy as np

from avs.core.errors import InputError
from avs.core.params import params
from avs.sampling.allocate import allocate, reachable

BaseAlloc = Literal["distance", "score", "farthest", "mixed"]
Allocator = Literal["triad", "optimal"]

_SEARCH_STEPS = 8


def tokens(resolution: int, patch_size: int = 16) -> int:
    """Patch tokens of one square frame, (resolution / patch_size)²; the class token is not counted.

    Raises InputError (a ValueError) where resolution (pixels) is no positive multiple of patch_size (pixels).
    """
    if patch_size < 1 or resolution < 1 or resolution % patch_size:
        raise InputError(
            f"resolution ({resolution}) must be a positive multiple of patch_size ({patch_size}), itself >= 1"
        )
    return (resolution // patch_size) ** 2


def budget_ratio(low_res: int, base_res: int, high_res: int, patch_size: int = 16) -> int:
    """How many seconds must give up `base_res` for one second at `high_res`, that second included.

    With c = tokens(·): r = (c_high - c_low) / (c_base - c_low). One second at high and r-1 at low cost
    exactly r seconds at base, so a plan of the uniform cost exists only where r is whole.
    Raises InputError naming the resolutions, and the nearest ones that work, where it is not.
    """
    if patch_size < 1:
        raise InputError(f"patch_size ({patch_size}) must be >= 1")
    resolutions = (low_res, base_res, high_res)
    ratio = None
    if not any(resolution % patch_size for resolution in resolutions):
        low, base, high = (resolution // patch_size for resolution in resolutions)
        ratio = _whole_ratio(low, base, high)
    if ratio is None:
        raise InputError(
            f"low_res/base_res/high_res ({_slashed(resolutions)}) cannot spend exactly the uniform budget: "
            f"they must ascend, be positive multiples of patch_size ({patch_size}), and "
            f"tokens(high)-tokens(low) a multiple of tokens(base)-tokens(low), or allocator be optimal; "
            f"nearest that can: "
            f"{', '.join(map(_slashed, _nearest_exact(resolutions, patch_size))) or 'none close by'}"
        )
    return ratio


@params
class BudgetParams:
    """Resolutions of a plan in pixels, and who lays it out: see `plans.plan_resolutions` and `plans.optimal_plan`.

    `triad` is the published plan and needs resolutions that share the budget exactly; `optimal` takes any that ascend,
    and may leave up to `slack` tokens of a clip's budget unspent.
    """

    low_res: int = 160
    base_res: int = 224
    high_res: int = 352
    patch_size: int = 16
    base_alloc: BaseAlloc = "distance"
    max_high: int | None = None
    allocator: Allocator = "triad"
    slack: int = 0

    def __post_init__(self) -> None:
        if self.allocator == "triad":
            budget_ratio(*self.resolutions, self.patch_size)
        elif not self.low_res < self.base_res < self.high_res:
            raise InputError(f"low_res/base_res/high_res ({_slashed(self.resolutions)}) must ascend")
        _ = self.costs
        if self.max_high is not None and self.max_high < 0:
            raise InputError(f"max_high ({self.max_high}) must be >= 0, or null for no cap")
        if self.slack < 0 or (self.slack and self.allocator == "triad"):
            raise InputError(f"slack ({self.slack}) must be >= 0, and 0 unless allocator is optimal")

    @property
    def resolutions(self) -> tuple[int, int, int]:
        """Low, base, high."""
        return self.low_res, self.base_res, self.high_res

    @property
    def costs(self) -> dict[int, int]:
        """Tokens of a second at each resolution, in ascending order."""
        return {resolution: tokens(resolution, self.patch_size) for resolution in self.resolutions}

    def clip_tokens(self, num_seconds: int) -> int:
        """Tokens that every budget-matched plan of a clip of `num_seconds` spends, up to the slack."""
        return num_seconds * tokens(self.base_res, self.patch_size)

    def max_high_seconds(self, num_seconds: int) -> int:
        """How many seconds of a clip can be at high resolution, whatever the number of anchors."""
        if self.allocator == "triad":
            return num_seconds // budget_ratio(*self.resolutions, self.patch_size)
        return _most_high(num_seconds, tuple(self.costs.values()), self.clip_tokens(num_seconds), self.slack)

    def require_a_high_second(self, num_seconds: int) -> None:
        """Raise InputError, with what would help, where no plan of the budget has a second at high resolution."""
        if self.max_high_seconds(num_seconds):
            return
        reason = (
            f"clips of {num_seconds} s cannot have a second at high_res ({self.high_res}) within the uniform budget"
        )
        if self.allocator == "triad":
            raise InputError(f"{reason}: choose resolutions that are closer together")
        budget, (*_, high) = self.clip_tokens(num_seconds), self.costs.values()
        fitting = [t for t in reachable([[*self.costs.values()]] * (num_seconds - 1)) if t + high <= budget]
        way_out = f"set slack to {budget - high - fitting[-1]}" if fitting else "choose resolutions closer together"
        raise InputError(f"{reason} (slack {self.slack}): {way_out}")


@cache
def _most_high(num_seconds: int, costs: tuple[int, ...], budget: int, slack: int) -> int:
    """How many seconds of a plan can be at the costliest level."""
    highs = np.tile([0] * (len(costs) - 1) + [1], (num_seconds, 1))
    return allocate(highs, costs, budget, slack=slack).count(len(costs) - 1)


def _whole_ratio(low: int, base: int, high: int) -> int | None:
    """budget_ratio in patches a side; None where it is not a whole number."""
    if not 0 < low < base < high:
        return None
    ratio, rest = divmod(high**2 - low**2, base**2 - low**2)
    return None if rest else ratio


def _nearest_exact(resolutions: tuple[int, ...], patch_size: int) -> list[tuple[int, ...]]:
    """Up to three exact triads, nearest by the sum of absolute differences."""
    near = [round(resolution / patch_size) for resolution in resolutions]
    grids = product(*(range(side - _SEARCH_STEPS, side + _SEARCH_STEPS + 1) for side in near))
    triads = [tuple(side * patch_size for side in grid) for grid in grids if _whole_ratio(*grid)]

    def distance(triad: tuple[int, ...]) -> int:
        return sum(abs(new - old) for new, old in zip(triad, resolutions, strict=True))

    return sorted(triads, key=lambda triad: (distance(triad), triad))[:3]


def _slashed(resolutions: tuple[int, ...]) -> str:
    return "/".join(map(str, resolutions))
