"""The metrics of the study once more, from the rows of single clips that its stages left."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from typing import Any

import numpy as np

from avs.localization.anchor_eval import DELTAS
from avs.localization.arms import mean_cost
from avs.localization.p0 import CONTRASTS, TESTED, contrasts, mean_std, only, score_answers
from avs.localization.recall import recall_table
from avs.localization.uncertainty import uncertainty
from avs.sampling.tokens import tokens

Rows = Sequence[Mapping[str, Any]]


def p0_again(
    rows: Rows, *, splits: Sequence[str], resamples: int, patch_size: int, gflops: Mapping[int, float] | None = None
) -> dict[str, Any]:
    """What the rows of `p0` tell of its metrics; GFLOPs where the cost of each resolution is given."""
    best, foreground = (_stacked(rows, name) for name in ("answers", "answers_foreground"))
    scores = score_answers(np.array([row["target"] for row in rows]), best, foreground)
    seeds = len(best["uniform"])
    shape = seeds, len(rows[0]["target"])
    plans = {arm: np.stack([np.broadcast_to(row["plans"][arm], shape) for row in rows], axis=1) for arm in best}
    prices = {"tokens": {r: float(tokens(r, patch_size)) for r in _resolutions(plans)}}
    prices |= {"gflops": dict(gflops)} if gflops else {}

    def evaluate(chosen: np.ndarray) -> dict[str, Any]:
        part = only(scores, chosen)
        arms: dict[str, Any] = {}
        for arm, plan in plans.items():
            arms[arm] = {measure: mean_std(by_arm[arm]) for measure, by_arm in part.items()}
            arms[arm] |= {name: mean_cost(plan[:, chosen], price) for name, price in prices.items()}
        return {
            "clips": int(chosen.sum()),
            "seeds": seeds,
            "arms": arms,
            "contrasts": contrasts(part, resamples),
            "uncertainty": uncertainty(part, TESTED, len(CONTRASTS)),
        }

    return _by_split(rows, splits, evaluate)


def anchors_again(rows: Rows, *, splits: Sequence[str], k: int) -> dict[str, Any]:
    """What the rows of `anchor_eval` tell of its metrics."""
    return _by_split(rows, splits, lambda chosen: _recall([rows[i] for i in np.flatnonzero(chosen).tolist()], k))


def _by_split(rows: Rows, splits: Sequence[str], evaluate: Callable[[np.ndarray], dict[str, Any]]) -> dict[str, Any]:
    """The first of the splits is the verdict, the others come under `splits`; `evaluate` gets a mask of the rows."""
    of = np.array([row["split"] for row in rows])
    verdict, *others = (evaluate(of == name) for name in splits)
    return verdict | ({"splits": dict(zip(splits[1:], others, strict=True))} if others else {})


def _resolutions(plans: Mapping[str, np.ndarray]) -> list[int]:
    return sorted({int(r) for plan in plans.values() for r in np.unique(plan)})


def _stacked(rows: Rows, name: str) -> dict[str, np.ndarray]:
    """Each arm's answers [seeds, clips, T]."""
    return {arm: np.stack([row[name][arm] for row in rows], axis=1) for arm in rows[0][name]}


def _recall(rows: Rows, k: int) -> dict[str, Any]:
    events = np.zeros((len(rows), len(rows[0]["scores"])), dtype=bool)
    for event, row in zip(events, rows, strict=True):
        event[row["event_seconds"]] = True
    found: dict[str, Any] = recall_table(events, [row["anchors"] for row in rows], k=k, deltas=DELTAS)
    fallback = float(np.mean([row["fallback"] for row in rows]))
    return found | {"clips": len(rows), "fallback": fallback, "event_share": float(events.mean())}
