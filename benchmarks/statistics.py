"""Are the verdicts of the study calibrated? False positives and power where the truth is known, three ways.

`simulated`: clips, seeds and seconds drawn to spread as the demo's do, and judged by `contrasts`, as the study is.
`resampled`: the demo's own answers, with the arms of each clip swapped at random (nothing to find) or not (its effect).
`trained`: the trainer on the demo's features, with arms that differ in nothing but the draw of their random plans.
Each beside the paired t-test over seeds of the earlier work.
"""

from __future__ import annotations

import json
import sys
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
from scipy.stats import bootstrap, norm

from avs.core.errors import InputError
from avs.core.execute import progress
from avs.core.stats import minimum_detectable_effect, paired_bootstrap, paired_t, permutation_test
from avs.localization.p0 import CONTRASTS, TESTED, Scores, family, score_answers
from avs.localization.uncertainty import ALPHA, MAIN
from benchmarks import record
from benchmarks.null_training import load_material, reruns, trained_nulls

ANSWERS, CACHE = Path("results/p0/per_clip.jsonl"), Path("data/cache")
STUDIES, RESAMPLES, SECONDS = 200, 4000, 10
SIZES = {20: 5, 40: 5, 100: 5, 402: 10}  # clips: seeds; the demo's and AVE's last
DEMO = 100
RERUNS = 10
TRAINED = ("at_test_only", "in_training_too")

# the columns of the tables
NULL = ("false_positive_rate", "false_positive_rate_permutation", "false_positive_rate_t_test", "coverage")
SCIPY = ("percentile", "bca")
PLANTED = ("effect", "power", "power_holm", "coverage_effect")
WANDER = ("rerun_sd_expected", "rerun_sd", "lowest", "highest")


@dataclass(frozen=True)
class Spread:
    """A second is right where the sum of normal effects is above zero: `right` is how often, the others are standard
    deviations: of a clip for all arms, of a clip and of a second for one arm, of a seed, and of a second in one run."""

    right: float
    clip: float
    clip_arm: float
    second_arm: float
    seed: float
    run: float

    @property
    def total(self) -> float:
        return float(np.linalg.norm([self.clip, self.clip_arm, self.second_arm, self.seed, self.run]))

    def shift(self, effect: float) -> float:
        """What must be added to the sum for `effect` more of the seconds to be right."""
        return self.total * float(norm.ppf(self.right + effect) - norm.ppf(self.right))


SPREADS = {
    "accuracy": Spread(right=0.855, clip=0.3, clip_arm=0.2, second_arm=0.9, seed=0.03, run=0.27),
    "class_event": Spread(right=0.58, clip=0.4, clip_arm=0.7, second_arm=0.3, seed=0.06, run=0.6),
}


def simulate(clips: int, seeds: int, rng: np.random.Generator, effect: Mapping[str, float] | None = None) -> Scores:
    """Scores of a study in which all arms are equal, but for the first of the main contrast, better by `effect`.

    One clip in five has no event, hence no class over it; the others have an event of one to four seconds.
    """
    events = rng.integers(0, 5, clips)
    counts = {"accuracy": np.full(clips, SECONDS), "class_event": events}
    hard = rng.normal(size=(clips, 1))
    scores: dict[str, dict[str, np.ndarray]] = {measure: {} for measure in SPREADS}
    for arm in sorted({arm for pair in CONTRASTS for arm in pair}):
        own, second = rng.normal(size=(clips, 1)), rng.normal(size=(clips, SECONDS))
        seed, run = rng.normal(size=(seeds, 1, 1)), rng.normal(size=(seeds, clips, SECONDS))
        for measure, s in SPREADS.items():
            better = s.shift(effect[measure]) if effect and arm == MAIN[0] else 0.0
            mean = s.total * norm.ppf(s.right) + better
            right = mean + s.clip * hard + s.clip_arm * own + s.second_arm * second + s.seed * seed + s.run * run > 0
            scores[measure][arm] = _share(right, counts[measure])
    return scores


def _share(right: np.ndarray, counts: np.ndarray) -> np.ndarray:
    """Of bool [S, N, T] the share of the first `counts` [N] seconds; NaN where there is none."""
    seen = np.arange(right.shape[-1]) < counts[:, None]
    return np.where(counts > 0, (right & seen).sum(-1) / np.maximum(counts, 1), np.nan)


def judge(scores: Scores, truth: Mapping[str, float]) -> dict[str, dict[str, float]]:
    """The verdict on a study whose true main difference is known, and what other tests would have said of it."""
    verdict = family(scores, CONTRASTS, RESAMPLES)
    rows = {}
    for measure in TESTED:
        row, pair = verdict[measure]["-".join(MAIN)], [scores[measure][arm] for arm in MAIN]
        rows[measure] = _judged(row, pair, truth[measure]) | {"found_holm": row["p_holm"] < ALPHA}
    any_found = any(row["p_holm"] < ALPHA for part in verdict.values() for row in part.values())
    return rows | {"family": {"found": any_found}}


def judge_pair(pair: Sequence[np.ndarray], truth: float) -> dict[str, float]:
    """The same for two arms alone."""
    _, low, high, p = paired_bootstrap(*pair, resamples=RESAMPLES)
    t_p = paired_t(*(np.nanmean(scores, axis=1) for scores in pair))
    return _judged({"ci_low": low, "ci_high": high, "p": p, "t_p": t_p}, pair, truth)


def _judged(row: Mapping[str, float], pair: Sequence[np.ndarray], truth: float) -> dict[str, float]:
    first, second = pair
    return {
        "found": row["p"] < ALPHA,
        "covered": row["ci_low"] <= truth <= row["ci_high"],
        "found_t_test": row["t_p"] < ALPHA,
        "found_permutation": permutation_test(first, second, permutations=1000) < ALPHA,
        "least": minimum_detectable_effect(first, second),
    }


def covered_by_scipy(pair: Sequence[np.ndarray], truth: float) -> dict[str, float]:
    """Whether plain intervals over the clips' means hold the truth: percentiles, and bias-corrected (BCa) ones."""
    clips = (pair[0] - pair[1]).mean(axis=0)
    clips = clips[~np.isnan(clips)]
    held = {}
    for method in ("percentile", "BCa") if np.ptp(clips) else ():
        found = bootstrap((clips,), np.mean, n_resamples=1000, method=method, rng=0).confidence_interval
        held[method.lower()] = found.low <= truth <= found.high
    return held


def rates(judged: Sequence[Mapping[str, float]]) -> dict[str, float]:
    """The mean of each column; a study for which one is not defined does not enter it."""
    columns = {name: [row[name] for row in judged if name in row] for name in judged[0]}
    return {name: round(float(np.mean(values)), 4) for name, values in columns.items()}


def simulated(clips: int, seeds: int) -> dict[str, Any]:
    """Nulls; then as many studies with an effect as small as the nulls say can be found."""
    rng = np.random.default_rng(clips)
    nothing = dict.fromkeys(TESTED, 0.0)
    drawn = [simulate(clips, seeds, rng) for _ in range(STUDIES)]
    null = [judge(scores, nothing) for scores in progress(drawn, f"{clips} clips, null")]
    plain = {m: [covered_by_scipy([s[m][arm] for arm in MAIN], 0.0) for s in drawn] for m in TESTED}
    least = {m: rates([row[m] for row in null])["least"] for m in TESTED}
    effects = (simulate(clips, seeds, rng, least) for _ in range(STUDIES))
    planted = [judge(scores, least) for scores in progress(effects, f"{clips} clips, planted", STUDIES)]
    found: dict[str, Any] = {"seeds": seeds, "family_wise_rate": rates([row["family"] for row in null])["found"]}
    for m in TESTED:
        rows = rates([row[m] for row in null]), rates([row[m] for row in planted])
        found[m] = _null(rows[0]) | {"coverage_scipy": rates(plain[m])} | _planted(rows[1], least[m])
        found[m] |= {"spread": spread([s[m][MAIN[0]] - s[m][MAIN[1]] for s in drawn])}
    return found


def _null(row: Mapping[str, float]) -> dict[str, float]:
    return {
        "false_positive_rate": row["found"],
        "false_positive_rate_t_test": row["found_t_test"],
        "false_positive_rate_permutation": row["found_permutation"],
        "coverage": row["covered"],
    }


def _planted(row: Mapping[str, float], effect: float) -> dict[str, float]:
    held = {"power_holm": row["found_holm"]} if "found_holm" in row else {}
    return {"effect": effect, "power": row["found"], "coverage_effect": row["covered"]} | held


def spread(differences: Sequence[np.ndarray]) -> dict[str, float]:
    """Standard deviations of differences [S, N]: of clips' means, of single runs about these, of seeds' means."""
    shown = [d[:, ~np.isnan(d[0])] for d in differences]
    parts = {
        "clips": [d.mean(0).std(ddof=1) for d in shown],
        "runs": [np.sqrt((d - d.mean(0)).var() * len(d) / (len(d) - 1)) for d in shown],
        "seeds": [d.mean(1).std(ddof=1) for d in shown],
    }
    return {name: round(float(np.mean(values)), 4) for name, values in parts.items()}


def read_answers(path: Path) -> dict[str, np.ndarray]:
    """Scores [2, seeds, clips] of the two arms of the main contrast, a measure."""
    try:
        rows = [json.loads(line) for line in path.read_text().splitlines()]
    except OSError as error:
        raise InputError(f"{path}: {error.strerror} (run: dvc repro)") from error
    best, foreground = (
        {arm: np.stack([row[kind][arm] for row in rows], axis=1) for arm in MAIN}
        for kind in ("answers", "answers_foreground")
    )
    scores = score_answers(np.array([row["target"] for row in rows]), best, foreground)
    return {measure: np.stack([scores[measure][arm] for arm in MAIN]) for measure in TESTED}


def resampled(scores: np.ndarray, clips: int, rng: np.random.Generator) -> dict[str, Any]:
    """Studies of so many clips drawn from scores [2, S, N]: with their effect, and with the arms of each clip swapped
    at random, which leaves nothing to find."""
    scores = scores[..., ~np.isnan(scores[0, 0])]
    effect = float((scores[0] - scores[1]).mean())
    null, planted = [], []
    for _ in range(STUDIES):
        drawn = scores[..., rng.integers(scores.shape[-1], size=clips)]
        planted.append(judge_pair(drawn, effect))
        null.append(judge_pair(np.where(rng.random(clips) < 0.5, drawn, drawn[::-1]), 0.0))
    return _null(rates(null)) | _planted(rates(planted), round(effect, 4))


def trained() -> dict[str, Any]:
    """Nulls with the trainer, and how far the baseline's mean wanders between runs that differ in their seeds."""
    material = load_material(CACHE)
    found: dict[str, Any] = {}
    for name, apart in zip(TRAINED, (False, True), strict=True):
        judged = [judge_pair(pair, 0.0) for pair in trained_nulls(material, STUDIES, apart=apart)]
        found[name] = _null(rates(judged))
    return found | {"reruns": wander(reruns(material, RERUNS))}


def wander(runs: np.ndarray) -> dict[str, float]:
    """Of accuracies [runs, S, N]: what one run expects the spread between runs to be, and what it is."""
    by_seed = runs.mean(-1)
    expected = float(np.sqrt((by_seed.var(axis=1, ddof=1) / by_seed.shape[1]).mean()))
    means = by_seed.mean(1)
    figures = {
        "rerun_sd_expected": expected,
        "rerun_sd": means.std(ddof=1),
        "lowest": means.min(),
        "highest": means.max(),
    }
    return {"runs": len(runs)} | {name: round(float(value), 4) for name, value in figures.items()}


def main() -> None:
    answers = read_answers(ANSWERS)
    figures: dict[str, Any] = {"studies": STUDIES, "resamples": RESAMPLES, "contrasts": len(CONTRASTS) * len(TESTED)}
    rng = np.random.default_rng(0)
    figures["resampled"] = {m: {str(n): resampled(answers[m], n, rng) for n in SIZES} for m in TESTED}
    figures["spread_demo"] = {m: spread([answers[m][0] - answers[m][1]]) for m in TESTED}
    figures["simulated"] = {str(clips): simulated(clips, seeds) for clips, seeds in SIZES.items()}
    figures["trained"] = trained()
    demo = figures["simulated"][str(DEMO)]["accuracy"]
    figures |= {name: demo[name] for name in ("false_positive_rate", "false_positive_rate_t_test", "power")}
    record("statistics", figures)
    print(table(figures))


def table(figures: dict[str, Any]) -> str:
    """The tables of docs/statistics.md: nothing to find, something to find, and the baseline alone."""
    drawn, answers = figures["simulated"], figures["resampled"]
    sizes = sorted(drawn, key=int)
    rows = [("simulated", m, size, drawn[size][m]) for m in TESTED for size in sizes]
    rows += [("answers", m, size, answers[m][size]) for m in TESTED for size in sizes]
    trainer = [(f"trainer, {name}", "accuracy", str(DEMO), figures["trained"][name]) for name in TRAINED]
    titles = "this kit", "permutation", "t over seeds", "interval holds 0", "percentiles do", "BCa does"
    nulls = [
        (*row[:3], *_cells(row[3], NULL), *_cells(row[3].get("coverage_scipy", {}), SCIPY)) for row in rows + trainer
    ]
    planted = [(*of, *_cells(row, PLANTED)) for *of, row in rows]
    family = [(size, drawn[size]["seeds"], _cell(drawn[size]["family_wise_rate"])) for size in sizes]
    wandered = figures["trained"]["reruns"]
    tables = [
        _table(("nothing to find", "measure", "clips", *titles), nulls),
        _table(("clips", "seeds", f"any of {figures['contrasts']} contrasts after Holm"), family),
        _table(("an effect", "measure", "clips", "true", "power", "after Holm", "interval holds it"), planted),
        _table(("runs of uniform", *WANDER), [(wandered["runs"], *_cells(wandered, WANDER))]),
    ]
    return "\n\n".join(tables)


def _table(titles: Sequence[str], rows: Sequence[Sequence[Any]]) -> str:
    return "\n".join(f"| {' | '.join(map(str, row))} |" for row in (titles, ["---"] * len(titles), *rows))


def _cells(row: Mapping[str, float], names: Sequence[str]) -> list[str]:
    return [_cell(row.get(name)) for name in names]


def _cell(value: float | None) -> str:
    return "" if value is None else f"{value:.3f}"


if __name__ == "__main__":
    try:
        main()
    except InputError as error:
        sys.exit(f"error: {error}")
