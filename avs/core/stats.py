"""Is one arm better than another: paired bootstrap, permutation and t tests, Holm's adjustment, what could be found."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from typing import overload

import numpy as np
import scipy

from avs.core.errors import InputError

Scores = np.ndarray | Sequence[float] | Sequence[Sequence[float]]

ALPHA = 0.05  # of a family of contrasts, after Holm
_CHUNK_ELEMENTS = 2_000_000
_ROUNDING = 1e-12


def paired_bootstrap(
    a: Scores, b: Scores, *, resamples: int = 10000, seed: int = 0
) -> tuple[float, float, float, float]:
    """Mean of a - b with its 95 % interval and two-sided p: (diff, low, high, p).

    a, b: scores a clip, [N] or [seeds, N]; a clip that is NaN in both is left out. Each resample draws
    clips with replacement and, apart from them, seeds. Drawing both crossed would count the noise of
    single runs three times (Owen 2007, "The pigeonhole bootstrap", Ann. Appl. Stat. 1), hence here the seed
    effects are first shrunk to their variance component, so that the noise is counted once, with the clips.

    Plain percentiles of the resamples are too narrow with few clips. As in the expanded percentile interval
    (Hesterberg 2015, "What teachers should know about the bootstrap", Am. Stat. 69) the clips' part is widened by
    sqrt(N / (N - 1)), and the quantiles are those that stand to the normal distribution's as Student's t does,
    with Satterthwaite's degrees of freedom for clips and seeds together.

    p is 1 less the level of the interval that ends at zero, with one added to the resamples beyond it and to all;
    where none is beyond, Student's t may say that zero is further away. p is not below 2 / (resamples + 1), and not
    below 2 / 2^N, the least that the signs of N clips can give: resampling a few clips that agree would be sure of
    anything. One clip alone has p = 1 and no interval: low and high are diff.
    Raises InputError where the shapes or the NaN of a and b differ, or no clip is left.
    """
    _require_positive(resamples=resamples)
    difference = _paired(a, b)
    clips = difference.mean(axis=0)
    diff, count = float(difference.mean()), len(clips)
    if count == 1:
        return diff, diff, diff, 1.0
    rng = np.random.default_rng(seed)
    draws = diff + (_resampled_means(clips, resamples, rng) - clips.mean()) * np.sqrt(count / (count - 1))
    if len(difference) > 1:
        draws += _resampled_means(_seed_effects(difference), resamples, rng)
    slack = _ROUNDING * np.abs(difference).max()
    low, high, p = _read_off(draws, abs(diff), *_error(difference), slack)
    return diff, low, high, min(1.0, max(p, 2.0 ** (1 - count)))


def ratio_bootstrap(
    parts: Sequence[float] | np.ndarray, wholes: Sequence[float] | np.ndarray, *, resamples: int = 10000, seed: int = 0
) -> tuple[float, float, float, float]:
    """sum(parts) / sum(wholes) over clips with its 95 % interval and two-sided p of zero: (ratio, low, high, p).

    parts, wholes: [N], such as the wrong words and all words of each clip; wholes >= 0. For two systems on the same
    clips, the difference of their ratios is the ratio of the differences of their parts. Each resample draws clips
    with replacement. The interval is widened for few clips, and p read off, as by `paired_bootstrap`; the standard
    error behind it is that of a ratio (Cochran 1977, "Sampling techniques", 6.4). p is not below 2 / 2^M, M the clips
    whose part is not zero. One clip alone has p = 1 and no interval: low and high are the ratio.
    Raises InputError for other shapes, numbers that are not finite, and wholes that are negative or all zero.
    """
    _require_positive(resamples=resamples)
    part, whole = _parts(parts, wholes)
    ratio, count = float(part.sum() / whole.sum()), len(part)
    if count == 1:
        return ratio, ratio, ratio, 1.0
    # of a resample, the ratio less the ratio of all
    rest = part - ratio * whole
    drawn = _resampled_means(np.stack([rest, whole], axis=1), resamples, np.random.default_rng(seed))
    drawn = drawn[drawn[:, 1] > 0]  # clips of no word alone have no ratio
    draws = ratio + drawn[:, 0] / drawn[:, 1] * np.sqrt(count / (count - 1))
    slack = _ROUNDING * np.abs(part).max() / whole.mean()
    error = float(rest.std(ddof=1) / whole.mean() / np.sqrt(count))
    low, high, p = _read_off(draws, abs(ratio), error if error > slack else 0.0, count - 1, slack)
    return ratio, low, high, min(1.0, max(p, 2.0 ** (1 - np.count_nonzero(part))))


def permutation_test(a: Scores, b: Scores, *, permutations: int = 10000, seed: int = 0) -> float:
    """Two-sided p of the mean of a - b, from tossing the sign of each clip's difference.

    a, b as for paired_bootstrap; seeds are averaged first. All signs are tried where `permutations` suffice for
    that; else they are drawn, and one is added to both counts, so p is never 0.
    """
    _require_positive(permutations=permutations)
    clips = _paired(a, b).mean(axis=0)
    found = scipy.stats.permutation_test(
        (clips,),
        np.mean,
        permutation_type="samples",
        vectorized=True,
        n_resamples=permutations,
        batch=max(1, _CHUNK_ELEMENTS // len(clips)),
        rng=np.random.default_rng(seed),
    )
    return float(found.pvalue)


def minimum_detectable_effect(a: Scores, b: Scores, *, alpha: float = 0.05, power: float = 0.8) -> float:
    """The true difference that a two-sided test at level alpha finds with this power in data such as these.

    a, b as for paired_bootstrap. From the standard error of their difference, over clips and seeds, and the
    noncentral t distribution; how large the difference is does not enter. NaN for one clip.
    Raises InputError unless 0 < alpha < power < 1.
    """
    if not 0 < alpha < power < 1:
        raise InputError(f"alpha ({alpha}) and power ({power}) must be 0 < alpha < power < 1")
    difference = _paired(a, b)
    if difference.shape[1] == 1:
        return float("nan")
    error, freedom = _error(difference)
    least = scipy.stats.t.isf(alpha / 2, freedom)
    # scipy's noncentral t fails for few clips: the normal distribution, averaged over quantiles of the estimated error
    estimated = np.sqrt(scipy.stats.chi2.ppf((np.arange(2000) + 0.5) / 2000, freedom) / freedom)

    def lacking(errors: float) -> float:
        found = scipy.stats.norm.cdf(errors - least * estimated) + scipy.stats.norm.cdf(-errors - least * estimated)
        return power - found.mean()

    return float(error * scipy.optimize.brentq(lacking, 0.0, 3 * least + 10))


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
    return float(scipy.stats.ttest_1samp(seeds, 0.0).pvalue)


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
    adjusted = np.empty_like(p)
    adjusted[order] = np.minimum(np.maximum.accumulate(p[order] * np.arange(len(p), 0, -1)), 1.0)
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


def _parts(parts: Sequence[float] | np.ndarray, wholes: Sequence[float] | np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    part, whole = (np.asarray(values, dtype=float) for values in (parts, wholes))
    if part.ndim != 1 or part.shape != whole.shape:
        raise InputError(f"parts {part.shape} and wholes {whole.shape} must both be [N]")
    if not (np.isfinite(part).all() and np.isfinite(whole).all() and (whole >= 0).all() and whole.sum() > 0):
        raise InputError("parts and wholes must be finite numbers, wholes >= 0 and not all 0")
    return part, whole


def _read_off(
    draws: np.ndarray, distance: float, error: float, freedom: float, slack: float
) -> tuple[float, float, float]:
    """Low and high end of the interval, and p, from resamples of an estimate that is `distance` away from zero."""
    outside = scipy.stats.norm.cdf(scipy.stats.t.ppf(0.025, freedom))
    low, high = np.quantile(draws, [outside, 1 - outside])
    tail = min((draws <= slack).sum(), (draws >= -slack).sum())
    p = 2 * scipy.stats.t.sf(scipy.stats.norm.isf((tail + 1) / (len(draws) + 1)), freedom)
    if tail == 0:
        p = min(p, 2 * scipy.stats.t.sf(distance / error, freedom) if error else 0.0)
    return float(low), float(high), max(float(p), 2 / (len(draws) + 1))


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


def _error(difference: np.ndarray) -> tuple[float, float]:
    """Standard error of the mean over clips and seeds of differences [S, N > 1], and its degrees of freedom.

    The variance of clip means holds the clips' and the runs' noise; that of the seeds is beside it. Satterthwaite
    (1946): the freedom of a sum of variances.
    """
    clips = difference.mean(axis=0)
    parts = [(clips.var(ddof=1) / len(clips), len(clips) - 1)]
    if len(difference) > 1:
        parts.append(((_seed_effects(difference) ** 2).mean() / len(difference), len(difference) - 1))
    total = sum(variance for variance, _ in parts)
    if total <= (_ROUNDING * np.abs(difference).max()) ** 2:
        return 0.0, len(clips) - 1
    return float(np.sqrt(total)), float(total**2 / sum(variance**2 / freedom for variance, freedom in parts))


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
