"""The baselines of the study: which seconds an arm anchors, which audio it concatenates, and so its plan."""

from __future__ import annotations

import random
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Literal

import numpy as np

from avs.core.clips import Clip
from avs.core.errors import InputError
from avs.sampling.anchors import AnchorParams, max_high_anchors, select_anchors
from avs.sampling.plans import plan_resolutions
from avs.sampling.tokens import BudgetParams, tokens


@dataclass(frozen=True)
class Arm:
    """`anchors` says where the high resolution goes; `audio` what is concatenated to each visual feature."""

    anchors: Literal["none", "random", "audio", "oracle"] = "none"
    audio: Literal["none", "score", "features"] = "none"
    budget_matched: bool = True


ARMS = {
    "uniform": Arm(),
    "uniform_low": Arm(budget_matched=False),
    "random_topk": Arm("random"),
    "anchored_topk": Arm("audio"),
    "oracle_topk": Arm("oracle"),
    "audio_concat_uniform": Arm(audio="score"),
    "audio_concat_anchored_topk": Arm("audio", "score"),
    "audio_feat_concat_uniform": Arm(audio="features"),
    "audio_feat_concat_anchored_topk": Arm("audio", "features"),
}


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
    return Proposal([float(s) for s in scores], anchors, select(0.0), max_high, fallback=k > 0 and not anchors)


def propose_all(
    scores: np.ndarray, auto_threshold: float, *, k: int, p: AnchorParams, cap: int | None = None
) -> list[Proposal]:
    """What the audio of each clip proposes; `std_threshold: auto` is the one that suits the scale of the scores."""
    threshold = auto_threshold if p.std_threshold == "auto" else p.std_threshold
    return [propose(row, k=k, std_threshold=threshold, p=p, cap=cap) for row in scores]


def plans(
    arm: Arm,
    clips: Sequence[Clip],
    proposals: Sequence[Proposal],
    budget: BudgetParams,
    *,
    k: int,
    seeds: int,
) -> np.ndarray:
    """Resolutions int [seeds, N, T] of an arm; only random anchors differ between seeds."""
    drawn = seeds if arm.anchors == "random" else 1
    table = np.array([_plan_all(arm, clips, proposals, budget, k, seed) for seed in range(drawn)])
    return np.broadcast_to(table, (seeds, *table.shape[1:]))


def check_budgets(plans_by_arm: dict[str, np.ndarray], budget: BudgetParams) -> int:
    """Tokens a clip spent by every budget-matched arm. Raises InputError where any clip of any arm differs."""
    cost = {resolution: tokens(resolution, budget.patch_size) for resolution in budget.resolutions}
    spent = {name: _spent(plan, cost) for name, plan in plans_by_arm.items() if ARMS[name].budget_matched}
    totals = np.unique(np.concatenate([total.ravel() for total in spent.values()]))
    if len(totals) != 1:
        ranges = ", ".join(f"{name} {t.min()}..{t.max()}" for name, t in spent.items())
        raise InputError(f"arms spend different numbers of tokens a clip: {ranges}")
    return int(totals[0])


def mean_cost(plan: np.ndarray, cost: dict[int, float]) -> float:
    """Mean over seeds and clips of what a clip's plan costs."""
    return float(_spent(plan, cost).mean())


def _spent(plan: np.ndarray, cost: dict[int, int] | dict[int, float]) -> np.ndarray:
    total = np.zeros(plan.shape[:2])
    for resolution, price in cost.items():
        total += (plan == resolution).sum(axis=-1) * price
    return total


def _plan_all(
    arm: Arm, clips: Sequence[Clip], proposals: Sequence[Proposal], budget: BudgetParams, k: int, seed: int
) -> list[list[int]]:
    if not arm.budget_matched:
        return [[budget.low_res] * clip.seconds for clip in clips]
    draw = random.Random(seed)
    return [_plan(arm, clip, proposal, budget, k, draw) for clip, proposal in zip(clips, proposals, strict=True)]


def _plan(arm: Arm, clip: Clip, proposal: Proposal, budget: BudgetParams, k: int, draw: random.Random) -> list[int]:
    return plan_resolutions(
        clip.seconds,
        _anchors(arm, clip, proposal, k, draw),
        low_res=budget.low_res,
        base_res=budget.base_res,
        high_res=budget.high_res,
        patch_size=budget.patch_size,
        base_alloc=budget.base_alloc,
        max_high=proposal.max_high if arm.anchors == "audio" else budget.max_high,
        scores=proposal.scores,
    )


def _anchors(arm: Arm, clip: Clip, proposal: Proposal, k: int, draw: random.Random) -> list[int]:
    if arm.anchors == "audio":
        return proposal.anchors
    if arm.anchors == "random":
        return draw.sample(range(clip.seconds), min(k, clip.seconds))
    if arm.anchors == "oracle":
        return [int(t) for t in np.flatnonzero(clip.event())[:k]]
    return []
