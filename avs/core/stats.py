"""Is one arm better than another: paired bootstrap, permutation and t tests, and Holm's adjustment."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from typing import overload

import numpy as np
from scipy.stats import ttest_rel

from avs.core.errors import InputError

Scores = np.ndarray | Sequence[float] | Sequence[Sequence[float]]

_CHUNK_ELEMENTS = 2_000_000
_ROUNDING = 1e-12


def paired_bootstrap(
    a: Scores, b: Scores, *, resamples: int = 10000, seed: int = 0
) -> tuple[float, float, float, float]:
    """Mean of a - b with its percentile 95 % interval and two-sided p: (diff, low, high, p).

    a, b: scores a clip, [N] or [seeds, N]; a clip that is NaN in both is left out. Each resample draws
    clips with replacement and, apart from them, seeds. Drawing both crossed would count the noise of
    single runs three times (Owen 2007, "The pigeonhole bootstrap", Ann. Appl. Stat. 1), hence here the seed
    effects are first shrunk to their variance component, so that the noise is counted once, with the clips.
    p is twice the smaller tail at zero, with one added to both counts, and not below 2 / 2^N, the least that the
    signs of N clips can give: resampling a few clips that agree would be sure of anything.
    Raises InputError where the shapes or the NaN of a and b differ, or no clip is left.
    """
    _require_positive(resamples=resamples)
    difference = _paired(a, b)
    diff = float(difference.mean())
    rng = np.random.default_rng(seed)
    draws = _resampled_means(difference.mean(axis=0), resamples, rng)
    if len(difference) > 1:
        draws += _resampled_means(_seed_effects(difference), resamples, rng)
    low, high = np.quantile(draws, [0.025, 0.975])
    zero = _ROUNDING * np.abs(difference).max()
    tail = min((draws <= zero).sum(), (draws >= -zero).sum())
    p = max(2 * float(tail + 1) / (resamples + 1), 2.0 ** (1 - difference.shape[1]))
    return diff, float(low), float(high), min(1.0, p)


def permutation_test(a: Scores, b: Scores, *, permutations: int = 10000, seed: int = 0) -> float:
    """Two-sided p of the mean of a - b, from tossing the sign of each clip's difference.

    a, b as for paired_bootstrap; seeds are averaged first. One is added to both counts, so p is never 0.
    """
    _require_positive(permutations=permutations)
    clips = _paired(a, b).mean(axis=0)
    rng = np.random.default_rng(seed)

    def tossed(rows: int) -> np.ndarray:
        return np.where(rng.random((rows, len(clips))) < 0.5, clips, -clips).mean(axis=1)

    draws = _in_chunks(tossed, permutations, len(clips))
    extreme = np.abs(draws) >= abs(clips.mean()) - _ROUNDING * np.abs(clips).max()
    return float(extreme.sum() + 1) / (permutations + 1)


def paired_t(a: Scores, b: Scores) -> float:
    """Two-sided p of the paired t-test over seeds; a, b: a score a seed [S], or scores a clip [S, N].

    It sees the noise of training only, not that of the choice of clips. NaN with fewer than two seeds,
    or where the difference is the same for all seeds.
    """
    first, second = np.asarray(a, dtype=float), np.asarray(b, dtype=float)
    if first.ndim == 1:
        first, second = first[:, None], second[:, None]
    seeds = _paired(first, second).mean(axis=1)
    if len(seeds) < 2 or np.ptp(seeds) <= _ROUNDING * np.abs(seeds).max():
        return float("nan")
    return float(ttest_rel(seeds, np.zeros_like(seeds)).pvalue)


@overload
def holm(pvalues: Mapping[str, float]) -> dict[str, float]: ...
@overload
def holm(pvalues: Sequence[float] | np.ndarray) -> np.ndarray: ...
def holm(pvalues: Mapping[str, float] | Sequence[float] | np.ndarray) -> dict[str, float] | np.ndarray:
    """p values of m comparisons adjusted by the step-down method of Holm (1979), order or keys kept.

    The i-th smallest, counted from 0, is multiplied by m - i; the result is at most 1, and no smaller p
    gets a larger one.
    Raises InputError for a p outside [0, 1].
    """
    if isinstance(pvalues, Mapping):
        adjusted = holm(list(pvalues.values()))
        return dict(zip(pvalues, adjusted.tolist(), strict=True))
    p = np.asarray(pvalues, dtype=float)
    if not ((p >= 0) & (p <= 1)).all():
        raise InputError(f"p values ({p.tolist()}) must lie in [0, 1]")
    order = np.argsort(p, kind="stable")
    stepped = np.maximum.accumulate(p[order] * np.arange(len(p), 0, -1))
    adjusted = np.empty_like(p)
    adjusted[order] = np.minimum(stepped, 1.0)
    return adjusted


def _paired(a: Scores, b: Scores) -> np.ndarray:
    """a - b [seeds, N], without the clips that are NaN in both."""
    first, second = (np.atleast_2d(np.asarray(scores, dtype=float)) for scores in (a, b))
    if first.shape != second.shape or first.ndim != 2:
        raise InputError(f"a {np.shape(a)} and b {np.shape(b)} must both be [N] or [seeds, N]")
    missing = np.isnan(first)
    if (missing != np.isnan(second)).any() or (missing != missing[:1]).any():
        raise InputError("a and b must be NaN for the same clips, and for every seed of those")
    if missing[:1].all():
        raise InputError(f"a {np.shape(a)} and b {np.shape(b)} must have a clip that is not NaN")
    return (first - second)[:, ~missing[0]]


def _seed_effects(difference: np.ndarray) -> np.ndarray:
    """Seed means [S] about the grand mean, scaled to the variance that seeds themselves account for.

    Two-way random effects without replication: E[var of seed means] = var_seed + var_noise / N.
    """
    seeds, clips = difference.shape
    effects = difference.mean(axis=1) - difference.mean()
    noise = difference - difference.mean(axis=0) - effects[:, None]
    var_noise = (noise**2).sum() / max(1, (seeds - 1) * (clips - 1))
    var_seed = max(0.0, (effects**2).sum() / (seeds - 1) - var_noise / clips)
    spread = (effects**2).mean()
    return effects * np.sqrt(var_seed / spread) if spread > 0 else effects


def _resampled_means(values: np.ndarray, resamples: int, rng: np.random.Generator) -> np.ndarray:
    size = len(values)
    return _in_chunks(lambda rows: values[rng.integers(size, size=(rows, size))].mean(axis=1), resamples, size)


def _in_chunks(draw: Callable[[int], np.ndarray], rows: int, width: int) -> np.ndarray:
    """`rows` results of `draw`, in parts so that rows times width numbers never stand in memory at once."""
    step = max(1, _CHUNK_ELEMENTS // width)
    return np.concatenate([draw(min(step, rows - start)) for start in range(0, rows, step)])


def _require_positive(**counts: int) -> None:
    for name, count in counts.items():
        if count < 1:
            raise InputError(f"{name} ({count}) must be >= 1")
