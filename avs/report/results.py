"""What the stages of the AVS study left behind, as its page reads it."""

from __future__ import annotations

import hashlib
import json
from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np

from avs.core.clips import BACKGROUND, class_names
from avs.core.errors import InputError
from avs.localization import p0
from avs.localization.arms import ARMS
from avs.preprocess import MediaShards

MAIN, BASELINE = "anchored_topk", "uniform"
PLANNED = [f"{a}-{b}" for a, b in p0.CONTRASTS]
EXPLANATORY = [f"{a}-{b}" for a, b in p0.EXPLANATORY]
MEASURES = {"accuracy": "accuracy", "class_event": "class of event seconds"}

Tree = Mapping[str, Any]


@dataclass(frozen=True)
class Results:
    """`metrics`, `rows`, `arms_plot`, `diagnosis` are p0's; `recall` and `curves` are anchor_eval's."""

    metrics: Tree
    rows: list[dict[str, Any]]
    arms_plot: list[dict[str, Any]]
    recall: Tree
    curves: list[dict[str, Any]]
    diagnosis: Tree | None
    media: MediaShards
    fingerprint: str  # of p0's numbers and rows: what a file beside the page must belong to

    @property
    def classes(self) -> list[str]:
        return class_names(self.media.table())


def load_results(results: Path, media: Path) -> Results:
    """Read what p0 and anchor_eval wrote below `results`, and the clips of `media`.

    Raises InputError for a file that is absent, or rows of clips that `media` lacks.
    """
    study, anchors = results / "p0", results / "anchor_eval"
    diagnosis = study / "diagnosis.json"
    found = Results(
        metrics=read_json(study / "metrics.json"),
        rows=read_rows(study / "per_clip.jsonl"),
        arms_plot=read_json(study / "plots/arms.json"),
        recall=read_json(anchors / "metrics.json"),
        curves=read_json(anchors / "plots/recall.json"),
        diagnosis=read_json(diagnosis) if diagnosis.exists() else None,
        media=MediaShards(media),
        fingerprint=hashlib.sha256(
            (_text(study / "metrics.json") + _text(study / "per_clip.jsonl")).encode()
        ).hexdigest(),
    )
    known = {clip.key for clip in found.media.clips}
    if unknown := [row["clip"] for row in found.rows if row["clip"] not in known]:
        raise InputError(f"{media} lacks {len(unknown)} clips of {study}, first {unknown[0]!r} (run: dvc repro)")
    return found


def families(metrics: Tree) -> dict[str, dict[str, dict[str, Tree]]]:
    """Family → measure → contrast → its row: `planned`, which give the verdict, and `explanatory`, all others.

    Each family is corrected by itself.
    """
    tested = metrics["contrasts"]
    found = {
        "planned": {m: {name: rows[name] for name in PLANNED if name in rows} for m, rows in tested.items()},
        "explanatory": {
            m: {name: rows[name] for name in ordered(rows, EXPLANATORY) if name not in PLANNED}
            for m, rows in tested.items()
        },
    }
    return {family: part for family, part in found.items() if any(part.values())}


def read_json(path: Path) -> Any:
    return json.loads(_text(path))


def read_rows(path: Path) -> list[dict[str, Any]]:
    return [json.loads(line) for line in _text(path).splitlines()]


def _text(path: Path) -> str:
    try:
        return path.read_text(encoding="utf-8")
    except OSError:
        raise InputError(f"{path} is not there yet (run: dvc repro)") from None


def clip_score(row: Tree, arm: str, measure: str) -> float:
    """A clip's accuracy or class over events, mean over seeds, as `p0.per_clip_scores` has it; NaN without an event."""
    target = np.array(row["target"])
    if measure == "accuracy":
        return float((np.array(row["answers"][arm]) == target).mean())
    event = target != BACKGROUND
    right = np.array(row["answers_foreground"][arm]) == target
    return float(right[:, event].mean()) if event.any() else float("nan")


def gains(rows: Iterable[Tree]) -> list[float]:
    """Of each clip: how much larger a share of its seconds is right with the anchors than with uniform sampling."""
    return [clip_score(row, MAIN, "accuracy") - clip_score(row, BASELINE, "accuracy") for row in rows]


def ordered(names: Iterable[str], known: Iterable[str] = ARMS) -> list[str]:
    """The known names in their order, which means something, then the others by name."""
    there = set(names)
    first = [name for name in known if name in there]
    return first + sorted(there.difference(first))
