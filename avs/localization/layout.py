"""From an arm's name to its plans: the resolution of every second of every clip, for every seed."""

from __future__ import annotations

import random
from collections.abc import Callable, Hashable, Sequence
from dataclasses import dataclass
from functools import cached_property

import numpy as np

from avs.core.clips import SPLITS, Clip
from avs.localization.arms import PlanName, Proposal, clip_costs
from avs.sampling.allocate import reachable
from avs.sampling.anchors import select_anchors
from avs.sampling.plans import even_plan, plan_anchors, ranked_plan, ranking, wanted_plan
from avs.sampling.tokens import BudgetParams

CURVE = ("even", "anchored", "oracle")


@dataclass(frozen=True)
class Material:
    """What plans are made from: N clips of T seconds, what their audio proposes, how much moves in each second
    (`motion` [N, T]), and what an image costs at each resolution (`gflops`)."""

    clips: Sequence[Clip]
    proposals: Sequence[Proposal]
    motion: np.ndarray
    gflops: dict[int, float]
    budget: BudgetParams
    k: int

    @property
    def seconds(self) -> int:
        return self.clips[0].seconds

    @property
    def events(self) -> np.ndarray:
        return np.stack([clip.event() for clip in self.clips])

    @cached_property
    def anchored(self) -> np.ndarray:
        """The anchored plan of each clip, [N, T]."""
        rows = [(p.anchors, p.max_high, p.scores) for p in self.proposals]
        return np.array([plan_anchors(self.budget, self.seconds, a, max_high=h, scores=s) for a, h, s in rows])

    def of_split(self, split: str) -> np.ndarray:
        return np.flatnonzero([clip.split == split for clip in self.clips])


def lay_out(name: PlanName, material: Material, seeds: int) -> np.ndarray:
    """Resolutions int [seeds, N, T]; only plans that are drawn differ between seeds."""
    rule = _RULES[name]
    table = np.stack([rule(material, seed) for seed in range(seeds if name in _DRAWN else 1)])
    return np.broadcast_to(table, (seeds, *table.shape[1:]))


def curve_plans(material: Material, shares: Sequence[float]) -> dict[int, dict[str, np.ndarray]]:
    """Tokens of a clip → `even` | `anchored` | `oracle` → resolutions [N, T], all of exactly these tokens, or less than
    them by the slack of the budget.

    Budgets: all low, the study's own, all high, and of `shares` between the ends the nearest totals that can be met.
    `even` knows nothing of the clip; `anchored` spends on the anchors, then as `base_alloc` says, where there are any;
    `oracle` spends on the event's seconds.
    """
    budget, seconds = material.budget, material.seconds
    low, _, high = (seconds * cost for cost in budget.costs.values())
    totals = np.array(reachable([[*budget.costs.values()]] * seconds))
    wanted = [low + share * (high - low) for share in shares]
    near = [int(totals[np.abs(totals - total).argmin()]) for total in wanted]
    return {total: _curve_point(material, total) for total in sorted({low, budget.clip_tokens(seconds), high, *near})}


def _curve_point(m: Material, total: int) -> dict[str, np.ndarray]:
    even = even_plan(m.budget, m.seconds, total)

    def anchored(anchors: tuple[int, ...], scores: tuple[float, ...]) -> list[int]:
        order = ranking(m.seconds, anchors, m.budget.base_alloc, scores)
        return ranked_plan(m.budget, order, total) if anchors else even

    scores = [tuple(p.scores) if m.budget.base_alloc == "score" else () for p in m.proposals]
    rows = list(zip((tuple(p.anchors) for p in m.proposals), scores, strict=True))
    return {
        "even": np.tile(even, (len(m.clips), 1)),
        "anchored": _each(anchored, rows),
        "oracle": _oracle(m, total),
    }


def _oracle(m: Material, total: int) -> np.ndarray:
    """The most of `total` tokens on event seconds; even where there is none, or nothing else."""
    even = even_plan(m.budget, m.seconds, total)

    def plan(*event: bool) -> list[int]:
        return wanted_plan(m.budget, np.array(event), total) if any(event) and not all(event) else even

    return _each(plan, [tuple(event) for event in m.events.tolist()])


def _each(plan: Callable[..., list[int]], rows: Sequence[tuple[Hashable, ...]]) -> np.ndarray:
    """[N, T]: the plan of each row's arguments, found once for equal rows."""
    found: dict[tuple[Hashable, ...], list[int]] = {}
    return np.array([found[row] if row in found else found.setdefault(row, plan(*row)) for row in rows])


def _same(resolution: int, m: Material) -> np.ndarray:
    return np.full((len(m.clips), m.seconds), resolution)


def _planned(
    m: Material, anchors: Sequence[Sequence[int]], scores: Sequence[Sequence[float]] | np.ndarray
) -> np.ndarray:
    """Plans of the uniform budget about the anchors of each clip, with `max_high` of the budget."""

    def plan(anchors: tuple[int, ...], scores: tuple[float, ...]) -> list[int]:
        return plan_anchors(m.budget, m.seconds, anchors, max_high=m.budget.max_high, scores=scores)

    pairs = zip(anchors, scores, strict=True)
    return _each(plan, [(tuple(a), tuple(s) if m.budget.base_alloc == "score" else ()) for a, s in pairs])


def _random(m: Material, seed: int) -> np.ndarray:
    draw = random.Random(seed)
    anchors = [draw.sample(range(m.seconds), min(m.k, m.seconds)) for _ in m.clips]
    return _planned(m, anchors, [p.scores for p in m.proposals])


def _oracle_first(m: Material, _: int) -> np.ndarray:
    """The first k event seconds: what the original calls its oracle."""
    anchors = [np.flatnonzero(event)[: m.k].tolist() for event in m.events]
    return _planned(m, anchors, [p.scores for p in m.proposals])


def _oracle_best(m: Material, _: int) -> np.ndarray:
    """The most tokens on event seconds that the budget allows, whatever k."""
    return _oracle(m, m.budget.clip_tokens(m.seconds))


def _shuffled(m: Material, seed: int) -> np.ndarray:
    """Another clip's anchored plan, each used once: all that they do is the same, but they fit no clip."""
    rng = np.random.default_rng([seed, 1])
    donor = np.arange(len(m.clips))
    for split in SPLITS:
        members = m.of_split(split)
        donor[members] = members[_derangement(len(members), rng)]
    return m.anchored[donor]


def _derangement(size: int, rng: np.random.Generator) -> np.ndarray:
    """A uniformly drawn permutation that leaves nothing in its place, where there is one."""
    drawn = rng.permutation(size)
    while size > 1 and (drawn == np.arange(size)).any():
        drawn = rng.permutation(size)
    return drawn


def _permuted(m: Material, seed: int) -> np.ndarray:
    """The clip's anchored plan with its seconds in another order: as many of each resolution, at chance places."""
    return np.random.default_rng([seed, 2]).permuted(m.anchored, axis=1)


def _constant(m: Material, _: int) -> np.ndarray:
    """One plan for every clip, about the k seconds that are most often event seconds in training."""
    often = m.events[m.of_split("train")].sum(axis=0)
    anchors = sorted(range(m.seconds), key=lambda second: (-often[second], second))[: m.k]
    return _planned(m, [anchors] * len(m.clips), [often] * len(m.clips))


def _visual(m: Material, _: int) -> np.ndarray:
    """The k seconds with the most motion: anchors that cost next to nothing, and need no sound."""
    return _planned(m, [select_anchors(row, k=m.k) for row in m.motion], m.motion)


def _flop_matched(m: Material, _: int) -> np.ndarray:
    """Uniform, but as many seconds of a split at high (or low) resolution as make up the GFLOPs of its anchored plans.

    They are drawn, alike for all seeds, and evenly: no clip gets a second one before every clip has one.
    """
    rng = np.random.default_rng(3)
    low, base, high = m.budget.resolutions
    plan, extra = _same(base, m), clip_costs(m.anchored, m.gflops) - m.seconds * m.gflops[base]
    for split in SPLITS:
        members = m.of_split(split)
        other = high if extra[members].sum() > 0 else low
        count = round(float(extra[members].sum() / (m.gflops[other] - m.gflops[base])))
        turns = rng.permuted(np.tile(np.arange(m.seconds), (len(members), 1)), axis=1) * len(members)
        chosen = turns + rng.permutation(len(members))[:, None] < count
        plan[members] = np.where(chosen, other, base)
    return plan


_DRAWN = ("random", "shuffled", "permuted")
_RULES: dict[PlanName, Callable[[Material, int], np.ndarray]] = {
    "uniform": lambda m, _: _same(m.budget.base_res, m),
    "low": lambda m, _: _same(m.budget.low_res, m),
    "high": lambda m, _: _same(m.budget.high_res, m),
    "random": _random,
    "anchored": lambda m, _: m.anchored,
    "oracle_first": _oracle_first,
    "oracle_best": _oracle_best,
    "shuffled": _shuffled,
    "permuted": _permuted,
    "constant": _constant,
    "visual": _visual,
    "flop_matched": _flop_matched,
}
