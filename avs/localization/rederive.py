"""The metrics of the study once more, from the rows of single clips that its stages left."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from typing import Any

import numpy as np

from avs.localization.anchor_eval import DELTAS
from avs.localization.arms import mean_cost
from avs.localization.p0 import contrasts, mean_std, score_answers
from avs.localization.recall import recall_table
from avs.sampling.tokens import tokens

Rows = Sequence[Mapping[str, Any]]


def p0_again(
    rows: Rows, *, splits: Sequence[str], resamples: int, patch_size: int, gflops: Mapping[int, float] | None = None
) -> dict[str, Any]:
    """What the rows of `p0` tell of its metrics; GFLOPs where the cost of each resolution is given."""
    return _by_split(rows, splits, lambda chosen: _study(chosen, resamples, patch_size, gflops))


def anchors_again(rows: Rows, *, splits: Sequence[str], k: int) -> dict[str, Any]:
    """What the rows of `anchor_eval` tell of its metrics."""
    return _by_split(rows, splits, lambda chosen: _recall(chosen, k))


def _by_split(rows: Rows, splits: Sequence[str], evaluate: Callable[[Rows], dict[str, Any]]) -> dict[str, Any]:
    """The first of the splits is the verdict, the others come under `splits`."""
    verdict, *others = (evaluate([row for row in rows if row["split"] == name]) for name in splits)
    return verdict | ({"splits": dict(zip(splits[1:], others, strict=True))} if others else {})


def _study(rows: Rows, resamples: int, patch_size: int, gflops: Mapping[int, float] | None) -> dict[str, Any]:
    best, foreground = (_stacked(rows, name) for name in ("answers", "answers_foreground"))
    scores = score_answers(np.array([row["target"] for row in rows]), best, foreground)
    seeds, clips = scores["accuracy"]["uniform"].shape
    arms: dict[str, Any] = {}
    for arm in best:
        plan = np.stack([np.broadcast_to(row["plans"][arm], best[arm][:, 0].shape) for row in rows], axis=1)
        price = {int(r): float(tokens(int(r), patch_size)) for r in np.unique(plan)}
        arms[arm] = {measure: mean_std(by_arm[arm]) for measure, by_arm in scores.items()}
        arms[arm]["tokens"] = mean_cost(plan, price)
        if gflops:
            arms[arm]["gflops"] = mean_cost(plan, dict(gflops))
    return {"clips": clips, "seeds": seeds, "arms": arms, "contrasts": contrasts(scores, resamples)}


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
