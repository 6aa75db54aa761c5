"""How small an effect the clips and seeds at hand could have shown, and how far the baseline wanders by itself."""

from __future__ import annotations

from collections.abc import Mapping, Sequence

import numpy as np

from avs.core.stats import minimum_detectable_effect

MAIN = ("anchored_topk", "uniform")
ALPHA = 0.05


def uncertainty(
    scores: Mapping[str, Mapping[str, np.ndarray]], measures: Sequence[str], contrasts: int
) -> dict[str, dict[str, float]]:
    """Of each of `measures`, from scores a clip [seeds, clips] by measure and arm.

    `minimum_detectable_effect`: the true difference of the main contrast that is found with power .8 at level .05;
    `minimum_detectable_effect_holm`: the same in Holm's worst case, at .05 over all contrasts of all measures.
    `baseline_seed_sd`: standard deviation of the baseline's mean between seeds; `baseline_rerun_sd`: that of the mean
    over as many other seeds, on the same clips, as disjoint groups of seeds would show. NaN with one clip or seed.
    """
    return {measure: _uncertainty(scores[measure], contrasts * len(measures)) for measure in measures}


def _uncertainty(by_arm: Mapping[str, np.ndarray], tests: int) -> dict[str, float]:
    a, b = (by_arm[arm] for arm in MAIN)
    by_seed = np.nanmean(b, axis=1)
    seed_sd = float(by_seed.std(ddof=1)) if len(by_seed) > 1 else float("nan")
    return {
        "minimum_detectable_effect": minimum_detectable_effect(a, b, alpha=ALPHA),
        "minimum_detectable_effect_holm": minimum_detectable_effect(a, b, alpha=ALPHA / tests),
        "baseline_seed_sd": seed_sd,
        "baseline_rerun_sd": seed_sd / len(by_seed) ** 0.5,
    }
