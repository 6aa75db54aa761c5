"""Budget arithmetic: what a frame costs in tokens, and which resolutions can share a budget exactly."""

from __future__ import annotations

from itertools import product
from typing import Literal

from avs.core.errors import InputError
from avs.core.params import params

BaseAlloc = Literal["distance", "score", "farthest", "mixed"]

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
            f"tokens(high)-tokens(low) a multiple of tokens(base)-tokens(low); nearest that can: "
            f"{', '.join(map(_slashed, _nearest_exact(resolutions, patch_size))) or 'none close by'}"
        )
    return ratio


@params
class BudgetParams:
    """Resolutions of a plan in pixels; the fields are the keywords of `plans.plan_resolutions`."""

    low_res: int = 160
    base_res: int = 224
    high_res: int = 352
    patch_size: int = 16
    base_alloc: BaseAlloc = "distance"
    max_high: int | None = None

    def __post_init__(self) -> None:
        budget_ratio(self.low_res, self.base_res, self.high_res, self.patch_size)
        if self.max_high is not None and self.max_high < 0:
            raise InputError(f"max_high ({self.max_high}) must be >= 0, or null for no cap")

    @property
    def resolutions(self) -> tuple[int, int, int]:
        """Low, base, high."""
        return self.low_res, self.base_res, self.high_res

    def max_high_seconds(self, num_seconds: int) -> int:
        """How many seconds of a clip can be at high resolution, whatever the number of anchors."""
        return num_seconds // budget_ratio(*self.resolutions, self.patch_size)

    def clip_tokens(self, num_seconds: int) -> int:
        """Tokens that every budget-matched plan of a clip of `num_seconds` spends."""
        return num_seconds * tokens(self.base_res, self.patch_size)


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
