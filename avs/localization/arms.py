"""The arms of the study: how each spends the budget of a clip, and what the head sees beside the frames."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Literal

import numpy as np

from avs.core.errors import InputError
from avs.sampling.anchors import AnchorParams, max_high_anchors, select_anchors
from avs.sampling.tokens import BudgetParams

PlanName = Literal[
    "uniform",
    "low",
    "high",
    "random",
    "anchored",
    "oracle_first",
    "oracle_best",
    "shuffled",
    "permuted",
    "constant",
    "visual",
    "flop_matched",
]


@dataclass(frozen=True)
class Arm:
    """`plan` says where the resolution goes (see `layout`), in evaluation `evaluation` if that is another; `beside` is
    concatenated to each second's visual feature: its score, its audio features, or the anchored plan's resolution."""

    plan: PlanName = "uniform"
    beside: Literal["none", "score", "features", "plan"] = "none"
    evaluation: PlanName | None = None
    budget_matched: bool = True

    @property
    def evaluated(self) -> PlanName:
        return self.evaluation or self.plan


PRIMARY = {
    "uniform": Arm(),
    "uniform_low": Arm("low", budget_matched=False),
    "random_topk": Arm("random"),
    "anchored_topk": Arm("anchored"),
    "oracle_topk": Arm("oracle_first"),
    "audio_concat_uniform": Arm(beside="score"),
    "audio_concat_anchored_topk": Arm("anchored", "score"),
    "audio_feat_concat_uniform": Arm(beside="features"),
    "audio_feat_concat_anchored_topk": Arm("anchored", "features"),
}
# What each explains: see README. Each costs what uniform sampling costs, but for the two that say otherwise.
CONTROLS = {
    "plan_concat_uniform": Arm(beside="plan"),
    "anchored_shuffled": Arm("shuffled"),
    "anchored_permuted": Arm("permuted"),
    "constant_topk": Arm("constant"),
    "visual_topk": Arm("visual"),
    "train_random_eval_anchored": Arm("random", evaluation="anchored"),
    "oracle_first": Arm("oracle_first"),
    "oracle_best": Arm("oracle_best"),
    "flop_matched_uniform": Arm("flop_matched", budget_matched=False),
    "uniform_high": Arm("high", budget_matched=False),
}
ARMS = PRIMARY | CONTROLS


@dataclass(frozen=True)
class Proposal:
    """What the audio of one clip proposes: its scores, the anchors, and how many of them get high resolution.

    A clip whose scores are too flat (`std_threshold`), or whose anchors are all shifted out of it, has no `anchors`
    and is sampled uniformly: `fallback`. `ungated` are the anchors regardless of flatness.
    """

    scores: list[float]
    anchors: list[int]
    ungated: list[int]
    max_high: int | None
    fallback: bool


def propose(scores: np.ndarray, *, k: int, std_threshold: float, p: AnchorParams, cap: int | None = None) -> Proposal:
    """Anchors of one clip from its scores [T]; `std_threshold` is resolved, not `auto`, `cap` bounds max_high."""

    def select(threshold: float) -> list[int]:
        return select_anchors(
            scores,
            k=k,
            select=p.select,
            nms_radius=p.nms_radius,
            nms_strong_gap=p.nms_strong_gap,
            shift=p.shift,
            std_threshold=threshold,
        )

    anchors = select(std_threshold)
    max_high = max_high_anchors(
        scores,
        anchors,
        policy=p.high_policy,
        adjacent_dist=p.high_adjacent_dist,
        gap_threshold=p.high_gap_threshold,
        cap=cap,
    )
    return Proposal(
        [float(s) for s in scores], anchors, anchors or select(0.0), max_high, fallback=k > 0 and not anchors
    )


def propose_all(
    scores: np.ndarray, auto_threshold: float, *, k: int, p: AnchorParams, cap: int | None = None
) -> list[Proposal]:
    """What the audio of each clip proposes; `std_threshold: auto` is the one that suits the scale of the scores."""
    threshold = auto_threshold if p.std_threshold == "auto" else p.std_threshold
    return [propose(row, k=k, std_threshold=threshold, p=p, cap=cap) for row in scores]


def check_budgets(plans_by_arm: dict[str, np.ndarray], budget: BudgetParams) -> int:
    """The budget in tokens of a clip, from the uniform arm. Raises InputError where a clip of a budget-matched arm
    spends another number, or where `slack` allows that, more or too few."""
    spent = {name: clip_costs(plan, budget.costs) for name, plan in plans_by_arm.items() if ARMS[name].budget_matched}
    most = int(spent["uniform"].max())
    if any(total.max() > most or total.min() < most - budget.slack for total in spent.values()):
        ranges = ", ".join(f"{name} {t.min()}..{t.max()}" for name, t in spent.items())
        raise InputError(f"arms spend different numbers of tokens a clip: {ranges}")
    return most


def mean_cost(plan: np.ndarray, cost: dict[int, float]) -> float:
    """Mean over seeds and clips of what a clip's plan costs."""
    return float(clip_costs(plan, cost).mean())


def clip_costs(plan: np.ndarray, cost: dict[int, int] | dict[int, float]) -> np.ndarray:
    """What each plan [..., T] costs."""
    total = np.zeros(plan.shape[:-1])
    for resolution, price in cost.items():
        total += (plan == resolution).sum(axis=-1) * price
    return total
