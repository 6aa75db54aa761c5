"""What AVE's annotations alone say: its size, videos with several rows, and how good anchors can be by chance."""

from __future__ import annotations

import sys
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np

from avs.core.clips import SPLITS
from avs.core.errors import InputError
from avs.datasets.annotations import Annotation, read_annotations
from avs.datasets.subsets import split_overlaps
from avs.localization.recall import recall_table
from benchmarks import record

AVE = Path("../shared/ave")
SECONDS, K = 10, 2


def measure(folder: Path) -> dict[str, Any]:
    """The figures of the annotations in `folder`. Raises InputError where there are none."""
    rows = read_annotations(folder, SECONDS)
    overlaps = split_overlaps(rows)
    events = np.stack([_event(row) for row in rows if row.split == "test"])
    recall = recall_table(events, [[]] * len(events), k=K)
    return {
        "rows": {"all": len(rows)} | {split: _count(rows, split) for split in SPLITS},
        "seconds": len(rows) * SECONDS,
        "videos": len({row.video for row in rows}),
        "classes": len({row.label for row in rows}),
        "overlaps": {
            "videos": len({row.video for row in overlaps}),
            "rows": len(overlaps),
            "with": {split: len({row.video for row in overlaps if row.split == split}) for split in ("val", "test")},
            "training_rows": _count(overlaps, "train"),
        },
        "relabelled": _relabelled(rows),
        "test": {
            "k": K,
            "event_share": round(float(events.mean()), 6),
            "background_share": round(float(1 - events.mean()), 6),
            "recall": {
                kind: {f"d{d}": round(recall[kind][f"recall_d{d}"], 6) for d in (0, 1, 2)}
                for kind in ("random", "random_spaced", "constant", "best")
            },
        },
    }


def _event(row: Annotation) -> np.ndarray:
    second = np.arange(row.seconds)
    return (second < row.end) & (second + 1 > row.start)


def _count(rows: Sequence[Annotation], split: str) -> int:
    return sum(row.split == split for row in rows)


def _relabelled(rows: Sequence[Annotation]) -> dict[str, int]:
    """Rows that get another label where each video keeps that of its last row only."""
    last = {row.video: row.label for row in rows}
    return {split: _count([row for row in rows if row.label != last[row.video]], split) for split in SPLITS}


def main(arguments: Sequence[str]) -> None:
    try:
        folder = Path(arguments[0]) if arguments else AVE
        record("ave_annotations", measure(folder), folder / "Annotations.txt")
    except InputError as error:
        sys.exit(f"error: {error}")


if __name__ == "__main__":
    main(sys.argv[1:])
