"""How good the anchors are by themselves: recall of event seconds, beside the controls that make it readable."""

from __future__ import annotations

import json
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np

from avs.core.clips import Clip, read_table
from avs.core.errors import InputError
from avs.core.store import read_array
from avs.localization.arms import Proposal, propose_all
from avs.localization.recall import recall_table
from avs.sampling.anchors import AnchorParams

DELTAS = (0, 1, 2)


def evaluate_anchors(
    eventness: Path, *, k: int, anchors: AnchorParams, splits: Sequence[str]
) -> tuple[dict[str, Any], list[dict[str, Any]]]:
    """Metrics and one row a clip, of the clips that have an event; the first of `splits`, the others under `splits`.

    All anchors are judged, those of clips too that the study would sample uniformly because their scores are
    flat: the share of those is `fallback`.
    """
    clips = read_table(eventness / "index.tsv", Clip)
    meta = json.loads((eventness / "meta.json").read_text())
    proposals = propose_all(read_array(eventness / "scores.npy"), meta["scale"]["std_threshold"], k=k, p=anchors)
    found = {name: _evaluate(clips, proposals, name, k) for name in splits}
    metrics, *others = ({"failed_clips": meta["failed_clips"]} | numbers for numbers, _ in found.values())
    if others:
        metrics["splits"] = dict(zip(splits[1:], others, strict=True))
    return metrics, [row for _, rows in found.values() for row in rows]


def _evaluate(
    clips: Sequence[Clip], proposals: Sequence[Proposal], split: str, k: int
) -> tuple[dict[str, Any], list[dict[str, Any]]]:
    chosen = [i for i, clip in enumerate(clips) if clip.split == split and clip.event().any()]
    if not chosen:
        raise InputError(f"no clip with an event in split {split!r} (see p0.eval_splits)")
    events = np.stack([clips[i].event() for i in chosen])
    judged = [proposals[i].ungated for i in chosen]
    fallback = [proposals[i].fallback for i in chosen]
    metrics: dict[str, Any] = {
        "clips": len(chosen),
        "fallback": float(np.mean(fallback)),
        "event_share": float(events.mean()),
    }
    metrics |= recall_table(events, judged, k=k, deltas=DELTAS)
    rows = [
        {
            "clip": clips[i].key,
            "split": clips[i].split,
            "event_seconds": np.flatnonzero(event).tolist(),
            "scores": [round(score, 6) for score in proposals[i].scores],
            "anchors": proposals[i].ungated,
            "fallback": proposals[i].fallback,
        }
        for i, event in zip(chosen, events, strict=True)
    ]
    return metrics, rows


def recall_curves(metrics: dict[str, Any]) -> list[dict[str, Any]]:
    """Recall against the tolerance Δ in seconds, a column a kind of anchor."""
    kinds = [kind for kind, row in metrics.items() if isinstance(row, dict) and kind != "splits"]
    return [{"delta": d} | {kind: metrics[kind][f"recall_d{d}"] for kind in kinds} for d in DELTAS]
