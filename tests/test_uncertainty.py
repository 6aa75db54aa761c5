"""The uncertainty that stands beside a verdict, against hand-made scores and repeated runs."""

import math

import numpy as np
import pytest

from avs.core.stats import minimum_detectable_effect
from avs.localization.uncertainty import MAIN, uncertainty

MEASURES = ("accuracy", "class_event")


def study(seeds: int, clips: int = 40) -> dict[str, dict[str, np.ndarray]]:
    rng = np.random.default_rng(0)
    arms = {arm: rng.normal(0.7, 0.1, clips) + rng.normal(0, 0.02, (seeds, 1)) for arm in MAIN}
    return dict.fromkeys(MEASURES, arms)


def test_each_measure_has_what_could_be_found_and_how_the_baseline_wanders() -> None:
    scores = study(seeds=4)
    found = uncertainty(scores, MEASURES, contrasts=10)
    assert set(found) == set(MEASURES)
    row, arms = found["accuracy"], scores["accuracy"]
    pair = [arms[arm] for arm in MAIN]
    assert row["minimum_detectable_effect"] == minimum_detectable_effect(*pair)
    assert row["minimum_detectable_effect_holm"] == minimum_detectable_effect(*pair, alpha=0.05 / 20)
    assert row["baseline_seed_sd"] == pytest.approx(arms["uniform"].mean(1).std(ddof=1), rel=1e-9)


def test_reruns_wander_as_disjoint_groups_of_seeds_do() -> None:
    """200 runs of 5 seeds each: what one run expects of the others, on average within 10 %."""
    rng = np.random.default_rng(0)
    clips = rng.normal(0.7, 0.1, 30)
    runs = clips + rng.normal(0, 0.03, (200, 5, 1))
    means = runs.mean((1, 2))
    rows = [uncertainty({"accuracy": dict.fromkeys(MAIN, run)}, ("accuracy",), 1)["accuracy"] for run in runs]
    expected = np.sqrt(np.mean([row["baseline_rerun_sd"] ** 2 for row in rows]))
    assert means.std(ddof=1) == pytest.approx(expected, rel=0.1)


def test_one_seed_cannot_say_how_the_baseline_wanders() -> None:
    row = uncertainty(study(seeds=1), MEASURES, contrasts=10)["accuracy"]
    assert math.isnan(row["baseline_seed_sd"])
    assert math.isnan(row["baseline_rerun_sd"])
    assert row["minimum_detectable_effect"] > 0


def test_clips_without_a_score_do_not_enter() -> None:
    scores = study(seeds=3)
    holed = {
        m: {arm: np.where(np.arange(42) < 40, np.pad(s, ((0, 0), (0, 2))), np.nan) for arm, s in by_arm.items()}
        for m, by_arm in scores.items()
    }
    assert uncertainty(holed, MEASURES, 10) == uncertainty(scores, MEASURES, 10)
