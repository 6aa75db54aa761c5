"""avs.core.stats: exact where arithmetic is, else within the sampling error of the stated seed."""

from __future__ import annotations

import itertools
import math
from collections.abc import Callable

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from scipy.stats import ttest_rel

from avs.core.errors import InputError
from avs.core.stats import holm, minimum_detectable_effect, paired_bootstrap, paired_t, permutation_test

PROBABILITIES = st.lists(st.floats(0, 1), max_size=12)


def scores(shape: tuple[int, ...], seed: int = 0) -> np.ndarray:
    return np.random.default_rng(seed).random(shape)


def test_bootstrap_finds_a_difference_and_repeats_itself() -> None:
    b = scores((5, 200))
    a = b + 0.05 + 0.05 * scores((5, 200), seed=1)
    diff, low, high, p = paired_bootstrap(a, b)
    assert diff == pytest.approx((a - b).mean(), abs=1e-12)
    assert 0 < low < diff < high
    assert p == 2 / 10001
    assert paired_bootstrap(a, b) == (diff, low, high, p)
    assert paired_bootstrap(a, b, seed=1) != (diff, low, high, p)
    swapped = paired_bootstrap(b, a)
    assert swapped == pytest.approx((-diff, -high, -low, p), abs=1e-3)


def test_bootstrap_interval_over_clips_is_the_textbook_one() -> None:
    a, b = scores((400,)), scores((400,), seed=1)
    diff, low, high, _ = paired_bootstrap(a, b)
    error = (a - b).std() / math.sqrt(400)
    # 1.96 standard errors; the quantiles of 10,000 resamples are known to about 0.03 of one.
    assert (high - diff) / error == pytest.approx(1.96, abs=0.1)
    assert (diff - low) / error == pytest.approx(1.96, abs=0.1)


@pytest.mark.parametrize(("clip", "seed", "run"), [(0.1, 0.0, 0.1), (0.02, 0.02, 0.02), (0.0, 0.0, 0.1)])
def test_bootstrap_spread_is_that_of_the_mean_of_clips_and_seeds(clip: float, seed: float, run: float) -> None:
    """Mean interval over simulated studies within 10 % of the true 2 x 1.96 standard errors."""
    seeds, clips = 20, 60
    rng = np.random.default_rng(0)
    true = 2 * 1.96 * math.sqrt(clip**2 / clips + seed**2 / seeds + run**2 / (clips * seeds))
    widths = []
    for _ in range(100):
        a = rng.normal(0, clip, clips) + rng.normal(0, seed, (seeds, 1)) + rng.normal(0, run, (seeds, clips))
        _, low, high, _ = paired_bootstrap(a, np.zeros_like(a), resamples=500)
        widths.append(high - low)
    assert np.mean(widths) == pytest.approx(true, rel=0.10)


def test_false_positive_rate_is_near_its_level() -> None:
    """200 studies without a difference, each clip equally hard for both arms: 5 % ± 2.7 standard errors."""
    rng = np.random.default_rng(0)
    rejected = 0
    for _ in range(200):
        right = rng.beta(2, 1, 80)
        a, b = rng.binomial(10, right, (2, 10, 80)) / 10
        rejected += paired_bootstrap(a, b, resamples=500)[3] < 0.05
    assert 0.01 <= rejected / 200 <= 0.092


@pytest.mark.parametrize(("seeds", "clips"), [(1, 6), (1, 15), (4, 15)])
def test_intervals_of_few_clips_hold_the_truth(seeds: int, clips: int) -> None:
    """95 % of 400 studies, within 2.7 standard errors; plain percentiles hold it in 88 % to 92 % of these."""
    rng = np.random.default_rng(clips)
    held = 0
    for _ in range(400):
        a = (
            rng.normal(0, 0.1, clips)
            + rng.normal(0, 0.02 * (seeds > 1), (seeds, 1))
            + rng.normal(0, 0.05, (seeds, clips))
        )
        _, low, high, _ = paired_bootstrap(a, np.zeros_like(a), resamples=400)
        held += low <= 0 <= high
    assert held / 400 == pytest.approx(0.95, abs=0.03)


@given(st.integers(0, 10_000))
@settings(max_examples=40, deadline=None)
def test_the_interval_and_p_agree(seed: int) -> None:
    """Zero is outside the interval iff p < .05, but for the one resample that p adds: up to .002 with few clips."""
    rng = np.random.default_rng(seed)
    a = rng.normal(0.05, 0.1, (3, 12))
    _, low, high, p = paired_bootstrap(a, np.zeros_like(a), resamples=10_000)
    if abs(p - 0.05) > 0.003:
        assert (p < 0.05) == (low > 0 or high < 0)


def test_bootstrap_of_equal_scores() -> None:
    a = scores((3, 20))
    assert paired_bootstrap(a, a) == (0.0, 0.0, 0.0, 1.0)
    assert permutation_test(a, a) == 1.0


def test_bootstrap_of_a_constant_difference() -> None:
    diff, low, high, p = paired_bootstrap(scores((3, 20)) + 0.1, scores((3, 20)), resamples=99)
    assert (diff, low, high) == pytest.approx((0.1, 0.1, 0.1), abs=1e-12)
    assert p == 2 / 100


def test_clips_without_a_score_are_left_out() -> None:
    a, b = scores((3, 20)), scores((3, 20), seed=1)
    padded = [np.concatenate([x, np.full((3, 2), np.nan)], axis=1) for x in (a, b)]
    assert paired_bootstrap(*padded) == paired_bootstrap(a, b)
    assert permutation_test(*padded) == permutation_test(a, b)
    assert paired_t(*padded) == paired_t(a, b)


@pytest.mark.parametrize("test", [paired_bootstrap, permutation_test, paired_t])
def test_unpaired_scores_are_refused(test: Callable[[np.ndarray, np.ndarray], object]) -> None:
    a = scores((3, 4))
    holed = a.copy()
    holed[:, 1] = np.nan
    once = a.copy()
    once[0, 1] = np.nan
    with pytest.raises(InputError, match=r"\(3, 4\).*\(3, 3\)"):
        test(a, a[:, :3])
    for first, second in (a, holed), (once, once):
        with pytest.raises(InputError, match="same clips"):
            test(first, second)
    with pytest.raises(InputError, match="not NaN"):
        test(a * np.nan, a * np.nan)


def test_counts_are_checked() -> None:
    with pytest.raises(InputError, match=r"resamples \(0\) must be >= 1"):
        paired_bootstrap([1.0], [0.0], resamples=0)
    with pytest.raises(InputError, match=r"permutations \(0\) must be >= 1"):
        permutation_test([1.0], [0.0], permutations=0)


def test_permutation_is_near_the_exact_p() -> None:
    d = np.array([0.3, -0.1, 0.2, 0.25, 0.05, -0.02, 0.4, 0.1])
    means = [abs((d * signs).mean()) for signs in itertools.product((1, -1), repeat=len(d))]
    exact = np.mean([mean >= d.mean() - 1e-12 for mean in means])
    assert permutation_test(d, np.zeros(8)) == pytest.approx(exact, abs=1e-12)  # all 256 signs are tried
    assert permutation_test(d, np.zeros(8), permutations=200) == pytest.approx(exact, abs=0.05)


def test_work_in_chunks_covers_every_resample() -> None:
    _, low, high, p = paired_bootstrap(scores((5000,)), scores((5000,), seed=1), resamples=1001)
    assert low < high
    assert 0 < p <= 1


def test_t_test_over_seeds() -> None:
    a, b = scores((6, 30)), scores((6, 30), seed=1)
    expected = ttest_rel(a.mean(axis=1), b.mean(axis=1)).pvalue
    assert paired_t(a, b) == pytest.approx(expected, rel=1e-9)
    assert paired_t(a.mean(axis=1), b.mean(axis=1)) == pytest.approx(expected, rel=1e-9)
    assert math.isnan(paired_t(a[:1], b[:1]))
    assert math.isnan(paired_t([0.5, 0.6, 0.7], [0.4, 0.5, 0.6]))


def test_holm_by_hand() -> None:
    np.testing.assert_allclose(holm([0.01, 0.04, 0.03, 0.005]), [0.03, 0.06, 0.06, 0.02], atol=1e-12)
    assert holm({"b": 0.03, "a": 0.02}) == pytest.approx({"b": 0.04, "a": 0.04}, abs=1e-12)
    assert list(holm({"b": 0.03, "a": 0.02})) == ["b", "a"]
    with pytest.raises(InputError, match=r"\[0, 1\]"):
        holm([0.1, float("nan")])


@given(PROBABILITIES)
def test_holm_properties(pvalues: list[float]) -> None:
    p, adjusted = np.array(pvalues), holm(pvalues)
    assert adjusted.shape == p.shape
    assert (adjusted >= p).all()
    assert (adjusted <= np.minimum(1, p * len(p))).all()
    order = np.argsort(p, kind="stable")
    assert (np.diff(adjusted[order]) >= 0).all()
    # Rejecting by the adjusted values is Holm's procedure: step down until the first failure.
    passes = p[order] * np.arange(len(p), 0, -1) <= 0.05
    assert ((adjusted <= 0.05).sum()) == (len(p) if passes.all() else passes.argmin())


def test_holm_is_that_of_statsmodels() -> None:
    multitest = pytest.importorskip("statsmodels.stats.multitest", reason="statsmodels is not installed")
    p = np.random.default_rng(0).random(20) ** 3
    np.testing.assert_allclose(holm(p), multitest.multipletests(p, method="holm")[1], atol=1e-12)


def test_a_few_clips_that_agree_prove_nothing() -> None:
    for count in (1, 2, 5):
        assert paired_bootstrap(np.ones(count), np.zeros(count), resamples=1000)[3] == 2.0 ** (1 - count)
    assert paired_bootstrap(np.ones(40), np.zeros(40), resamples=1000)[3] == 2 / 1001


def test_one_clip_says_nothing() -> None:
    assert paired_bootstrap([0.9], [0.4]) == (0.5, 0.5, 0.5, 1.0)
    assert math.isnan(minimum_detectable_effect([0.9], [0.4]))


@pytest.mark.parametrize("clips", [8, 40])
def test_the_minimum_detectable_effect_is_found_so_often(clips: int) -> None:
    """80 % of 400 studies with that effect are significant, within three standard errors."""
    rng = np.random.default_rng(0)
    many = rng.normal(0, 0.1, (200, clips))
    effect = np.mean([minimum_detectable_effect(d, np.zeros(clips)) for d in many])
    studies = effect + rng.normal(0, 0.1, (400, clips))
    found = [paired_bootstrap(d, np.zeros(clips), resamples=500)[3] < 0.05 for d in studies]
    assert np.mean(found) == pytest.approx(0.8, abs=0.06)


def test_the_minimum_detectable_effect_knows_what_makes_it_larger() -> None:
    a, b = scores((4, 50)), scores((4, 50), seed=1)
    least = minimum_detectable_effect(a, b)
    assert minimum_detectable_effect(a + 0.3, b) == pytest.approx(least, rel=1e-9)
    assert minimum_detectable_effect(a, b, alpha=0.05 / 20) > least
    assert minimum_detectable_effect(a, b, power=0.95) > least
    assert minimum_detectable_effect(a[:, :20], b[:, :20]) > least
    assert minimum_detectable_effect(a + np.arange(4)[:, None], b) > least
    assert minimum_detectable_effect(a, a) == 0
    for options in {"alpha": 0.0}, {"alpha": 0.9}, {"power": 1.0}:
        with pytest.raises(InputError, match="0 < alpha < power < 1"):
            minimum_detectable_effect(a, b, **options)


def test_the_minimum_detectable_effect_is_the_textbook_one() -> None:
    """Bloom (1995): 2.8 standard errors where clips are many."""
    a, b = scores((500,)), scores((500,), seed=1)
    errors = minimum_detectable_effect(a, b) / ((a - b).std(ddof=1) / math.sqrt(500))
    assert errors == pytest.approx(2.8, abs=0.02)
