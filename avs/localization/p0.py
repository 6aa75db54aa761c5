"""The verdict of the study: do audio anchors beat uniform sampling at exactly the same token budget?"""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import numpy as np

from avs.core.clips import BACKGROUND, targets
from avs.core.stats import holm, paired_bootstrap, paired_t
from avs.localization.arms import mean_cost
from avs.localization.diagnose import DIAGNOSED, diagnose
from avs.localization.study import Answers, Study, answer, load_study, on_curve
from avs.localization.train import P0Params
from avs.localization.uncertainty import uncertainty
from avs.sampling.anchors import AnchorParams
from avs.sampling.tokens import BudgetParams

# The planned contrasts: named before any result is seen, and corrected together. They give the verdict.
CONTRASTS = (
    ("anchored_topk", "uniform"),
    ("anchored_topk", "random_topk"),
    ("oracle_topk", "uniform"),
    ("oracle_topk", "anchored_topk"),
    ("anchored_topk", "audio_concat_uniform"),
    ("audio_concat_anchored_topk", "anchored_topk"),
    ("audio_concat_anchored_topk", "audio_concat_uniform"),
    ("anchored_topk", "audio_feat_concat_uniform"),
    ("audio_feat_concat_anchored_topk", "anchored_topk"),
    ("audio_feat_concat_anchored_topk", "audio_feat_concat_uniform"),
)
# What explains it: planned too, and corrected together, apart from the verdict.
EXPLANATORY = (
    ("anchored_topk", "plan_concat_uniform"),
    ("plan_concat_uniform", "uniform"),
    ("anchored_topk", "anchored_shuffled"),
    ("anchored_topk", "anchored_permuted"),
    ("anchored_topk", "constant_topk"),
    ("anchored_topk", "visual_topk"),
    ("train_random_eval_anchored", "uniform"),
    ("train_random_eval_anchored", "random_topk"),
    ("anchored_topk", "flop_matched_uniform"),
    ("oracle_best", "oracle_topk"),
    ("uniform_high", "uniform"),
)
TESTED = ("accuracy", "class_event")

# measure → arm → score of each evaluated clip [seeds, clips]; NaN where a clip has no event to be scored on
Scores = Mapping[str, Mapping[str, np.ndarray]]


@dataclass(frozen=True)
class Result:
    """`metrics` and `headline` for people and `dvc metrics`, `rows` one a clip, `arms_plot` one row an arm,
    `curve_plot` one row a budget, `diagnosis` where an arm wins and loses."""

    metrics: dict[str, Any]
    headline: dict[str, float]
    rows: list[dict[str, Any]]
    arms_plot: list[dict[str, Any]]
    curve_plot: list[dict[str, Any]] = field(default_factory=list)
    diagnosis: dict[str, Any] = field(default_factory=dict)


def run_study(
    cache: Path,
    eventness: Path,
    *,
    k: int,
    anchors: AnchorParams,
    budget: BudgetParams,
    p: P0Params,
    device: str = "auto",
) -> Result:
    """Train and judge all arms. The first of `p.eval_splits` is the verdict; the others come under `splits`."""
    study = load_study(cache, eventness, k=k, anchors=anchors, budget=budget, p=p)
    answers = answer(study, p, device)
    scores = per_clip_scores(study, answers)
    splits = np.array([study.clips[i].split for i in answers.positions])
    parts = {name: only(scores, splits == name) for name in p.eval_splits}
    places = {name: answers.positions[splits == name] for name in p.eval_splits}
    metrics = {name: split_metrics(study, part, places[name], p, budget) for name, part in parts.items()}
    verdict, *others = p.eval_splits
    combined = metrics[verdict] | ({"splits": {name: metrics[name] for name in others}} if others else {})
    return Result(
        metrics=combined,
        headline=headline(combined),
        rows=clip_rows(study, answers),
        arms_plot=_arms_plot(combined, parts[verdict], p.resamples),
        curve_plot=_curve_plot(combined["curve"]),
        diagnosis={arm: diagnose(study, places[verdict], parts[verdict], arm, p.resamples) for arm in DIAGNOSED},
    )


def per_clip_scores(study: Study, answers: Answers) -> Scores:
    """`accuracy` over all seconds, `accuracy_event` over event seconds, and `class_event`: the share of event
    seconds whose class is right with background left out, where being told when the event is gives no answer away."""
    target = targets([study.clips[i] for i in answers.positions], study.classes)
    return score_answers(target, answers.best, answers.foreground)


def score_answers(target: np.ndarray, best: Mapping[str, np.ndarray], foreground: Mapping[str, np.ndarray]) -> Scores:
    """Scores of each arm's answers [seeds, clips, T] against the targets [clips, T]."""
    event = target != BACKGROUND
    return {
        "accuracy": {arm: (found == target).mean(-1) for arm, found in best.items()},
        "accuracy_event": {arm: _over_events(found == target, event) for arm, found in best.items()},
        "class_event": {arm: _over_events(found == target, event) for arm, found in foreground.items()},
    }


def split_metrics(
    study: Study, scores: Scores, positions: np.ndarray, p: P0Params, budget: BudgetParams
) -> dict[str, Any]:
    """Arms with their cost, and the contrasts between them, over the clips at `positions`."""
    seeds, clips = scores["accuracy"]["uniform"].shape
    price = {resolution: float(cost) for resolution, cost in budget.costs.items()}

    def row(name: str, plan: np.ndarray, measures: Iterable[str]) -> dict[str, Any]:
        judged = {measure: mean_std(scores[measure][name]) for measure in measures}
        return judged | {"tokens": mean_cost(plan, price), "gflops": mean_cost(plan, study.gflops)}

    curve = {
        str(total): {kind: row(on_curve(total, kind), plan[positions], TESTED) for kind, plan in kinds.items()}
        for total, kinds in study.curve.items()
    }
    return {
        "tokens_per_clip": study.tokens_per_clip,
        "clips": clips,
        "failed_clips": study.failed_clips,
        "seeds": seeds,
        "arms": {arm: row(arm, plans[:, positions], scores) for arm, plans in study.plans.items()},
        "contrasts": contrasts(scores, p.resamples),
        "uncertainty": uncertainty(scores, TESTED, len(CONTRASTS)),
        "curve": curve,
    }


def contrasts(scores: Scores, resamples: int) -> dict[str, dict[str, dict[str, float]]]:
    """The planned and the explanatory contrasts of each tested measure, each family corrected by itself."""
    planned, explanatory = (family(scores, pairs, resamples) for pairs in (CONTRASTS, EXPLANATORY))
    return {measure: planned[measure] | explanatory[measure] for measure in TESTED}


def family(scores: Scores, pairs: Sequence[tuple[str, str]], resamples: int) -> dict[str, dict[str, dict[str, float]]]:
    """Measure → `a-b` → the contrast of arms a and b: paired bootstrap over clips with the seeds inside.

    Holm's correction covers all pairs and measures together. `t_p` is the original's t-test over seeds: it knows
    nothing of the spread between clips, and is there for comparison only.
    """
    rows = {(m, a, b): _contrast(scores[m][a], scores[m][b], resamples) for m in TESTED for a, b in pairs}
    found: dict[str, dict[str, dict[str, float]]] = {measure: {} for measure in TESTED}
    for (measure, a, b), adjusted in zip(rows, holm([row["p"] for row in rows.values()]), strict=True):
        found[measure][f"{a}-{b}"] = rows[measure, a, b] | {"p_holm": float(adjusted)}
    return found


def _contrast(first: np.ndarray, second: np.ndarray, resamples: int) -> dict[str, float]:
    diff, low, high, p = paired_bootstrap(first, second, resamples=resamples)
    t_p = paired_t(np.nanmean(first, axis=1), np.nanmean(second, axis=1))
    return {"diff": diff, "ci_low": low, "ci_high": high, "p": p, "t_p": t_p}


def clip_rows(study: Study, answers: Answers) -> list[dict[str, Any]]:
    """One row an evaluated clip: scores, anchors, and each arm's plan in evaluation and answers ([seeds][T] class
    indices)."""
    return [
        {
            "clip": study.clips[position].key,
            "split": study.clips[position].split,
            "target": targets([study.clips[position]], study.classes)[0].tolist(),
            "scores": [round(score, 6) for score in study.proposals[position].scores],
            "motion": [round(float(moved), 3) for moved in study.motion[position]],
            "anchors": study.proposals[position].anchors,
            "max_high": study.proposals[position].max_high,
            "fallback": study.proposals[position].fallback,
            "plans": {arm: _distinct(plan[:, position]) for arm, plan in study.plans.items()},
            "answers": {arm: answers.best[arm][:, place].tolist() for arm in study.plans},
            "answers_foreground": {arm: answers.foreground[arm][:, place].tolist() for arm in study.plans},
        }
        for place, position in enumerate(answers.positions)
    ]


def _distinct(plan: np.ndarray) -> list[int] | list[list[int]]:
    """A plan [seeds, T]; once where all seeds share it."""
    return plan[0].tolist() if (plan == plan[0]).all() else plan.tolist()


def only(scores: Scores, chosen: np.ndarray) -> Scores:
    return {m: {arm: score[:, chosen] for arm, score in by_arm.items()} for m, by_arm in scores.items()}


def _over_events(right: np.ndarray, event: np.ndarray) -> np.ndarray:
    counts = event.sum(-1)
    return np.where(counts > 0, (right & event).sum(-1) / np.maximum(counts, 1), np.nan)


def mean_std(scores: np.ndarray) -> dict[str, float]:
    """Mean over clips and seeds, and the standard deviation between seeds."""
    by_seed = np.nanmean(scores, axis=1)
    return {"mean": float(by_seed.mean()), "std": float(by_seed.std(ddof=1)) if len(by_seed) > 1 else 0.0}


def headline(metrics: Mapping[str, Any]) -> dict[str, float]:
    """The few numbers that a person compares between runs."""
    main = {arm: metrics["arms"][arm]["accuracy"]["mean"] for arm in ("uniform", "anchored_topk", "oracle_topk")}
    line = {f"accuracy_{arm}": value for arm, value in main.items()}
    for measure in TESTED:
        row = metrics["contrasts"][measure]["anchored_topk-uniform"]
        line |= {
            f"{measure}_anchored_minus_uniform_{name}": row[name] for name in ("diff", "ci_low", "ci_high", "p_holm")
        }
    return line


def _arms_plot(metrics: Mapping[str, Any], scores: Scores, resamples: int) -> list[dict[str, Any]]:
    """Accuracy of each arm with its 95 % interval over clips, beside what it costs."""
    rows = []
    for arm in metrics["arms"]:
        score = scores["accuracy"][arm]
        mean, low, high, _ = paired_bootstrap(score, np.zeros_like(score), resamples=resamples)
        cost = {name: metrics["arms"][arm][name] for name in ("tokens", "gflops")}
        rows.append({"arm": arm, "accuracy": mean, "low": low, "high": high} | cost)
    return rows


def _curve_plot(curve: Mapping[str, Any]) -> list[dict[str, Any]]:
    """Accuracy of each kind of plan, a row a budget."""
    return [
        {"tokens": int(total)} | {kind: row["accuracy"]["mean"] for kind, row in kinds.items()}
        for total, kinds in curve.items()
    ]
