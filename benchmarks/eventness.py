"""Every eventness backend on the composed pairs: do its anchors meet the events, and what does it cost?

Where a backend's published weights cannot be had, random ones of the same size show the cost and nothing else.
"""

from __future__ import annotations

import sys
import time
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np

from avs.audio.eventness import Backend, make_backend
from avs.core.clips import Clip
from avs.core.errors import InputError
from avs.core.execute import one_thread, progress
from avs.core.media import read_media
from avs.datasets.annotations import read_annotations
from avs.localization.recall import recall_table
from avs.sampling.anchors import select_anchors
from benchmarks import record

PAIRS = Path("../shared/pairs")
SECONDS, K = 10, 2
TIMED = 3  # clips that random weights are timed on

PUBLISHED: dict[str, dict[str, Any]] = {
    name: {} for name in ("energy", "energy_delta", "yamnet", "silero_vad", "energy+yamnet", "energy+silero_vad")
}
RANDOM: dict[str, dict[str, Any]] = {
    "ast": {},
    "ast softmax_padded": {"reading": "softmax_padded"},
    "panns": {},
    "audiomae": {},
}


def main(pairs: Path) -> None:
    clips, sounds = _test_clips(pairs)
    events = np.stack([clip.event() for clip in clips])
    methods: dict[str, Any] = {}
    for name, options in progress(PUBLISHED.items(), "backends"):
        methods[name] = _judged(make_backend(name, **options), sounds, events)
    for name, options in progress(RANDOM.items(), "random weights"):
        backend = make_backend(name.split()[0], weights="random", **options)
        methods[name] = _cost(backend, sounds[:TIMED])[1] | {"weights": "random", "recall_d0": None, "fallback": None}
    controls = recall_table(events, [[]] * len(events), k=K, deltas=(0,))
    figures = {
        "clips": len(clips),
        "k": K,
        "controls": {kind: round(controls[kind]["recall_d0"], 4) for kind in ("random", "constant", "best")},
        "methods": methods,
    }
    record("eventness", figures)
    print(table(figures))


def table(figures: dict[str, Any]) -> str:
    """The rows of docs/eventness.md."""
    lines = [
        "| method | weights | recall | uniform | CPU s a clip | unit | threshold |",
        "|---|---|---|---|---|---|---|",
    ]
    for name, row in figures["methods"].items():
        judged = [_cell(row["recall_d0"]), _cell(row["fallback"]), f"{row['cpu_seconds_per_clip']:.2g}"]
        lines.append(f"| {' | '.join([name, row['weights'], *judged, row['unit'], str(row['std_threshold'])])} |")
    controls = [f"| *{kind}* | | {_cell(recall)} | | | | |" for kind, recall in figures["controls"].items()]
    return "\n".join(lines + controls)


def _cell(value: float | None) -> str:
    return "not measured" if value is None else f"{value:.3f}"


def _test_clips(pairs: Path) -> tuple[list[Clip], np.ndarray]:
    """The test rows that have an event, and their sounds, float32 [N, S]."""
    if not pairs.is_dir():
        raise InputError(f"the composed pairs are not at {pairs}: name their folder")
    rows = [row for row in read_annotations(pairs, SECONDS) if row.split == "test"]
    clips = [
        Clip(str(i), row.split, row.label, row.start, row.end, SECONDS, row.video, "") for i, row in enumerate(rows)
    ]
    media = [read_media(pairs / "videos" / clip.video, SECONDS) for clip in progress(clips, "decode")]
    return clips, np.stack([m.audio.astype(np.float32) / 32768 for m in media])


def _judged(backend: Backend, sounds: np.ndarray, events: np.ndarray) -> dict[str, Any]:
    scores, cost = _cost(backend, sounds)
    anchors = [select_anchors(row, k=K) for row in scores]
    gated = [not select_anchors(row, k=K, std_threshold=backend.scale.std_threshold) for row in scores]
    has_weights = any(_weights(backend.identity))
    return cost | {
        "weights": "published" if has_weights else "none",
        "recall_d0": round(recall_table(events, anchors, k=K, deltas=(0,))["anchors"]["recall_d0"], 4),
        "fallback": round(float(np.mean(gated)), 4),
    }


def _weights(identity: dict[str, Any]) -> list[str | None]:
    parts = identity.get("parts", {}).values()
    return [identity["weights"], *(part["weights"] for part in parts)]


def _cost(backend: Backend, sounds: np.ndarray) -> tuple[np.ndarray, dict[str, Any]]:
    """Scores [N, T], with the median of a clip's CPU seconds in one thread once the model is there.

    CPU seconds, since those of the clock tell as much of what else the machine does.
    """
    backend(sounds[:1])
    seconds, scores = [], []
    with one_thread():
        for sound in sounds:
            started = time.thread_time()
            scores.append(backend(sound[None])[0])
            seconds.append(time.thread_time() - started)
    scale = {"unit": backend.scale.unit, "std_threshold": backend.scale.std_threshold}
    return np.stack(scores), scale | {"cpu_seconds_per_clip": round(float(np.median(seconds)), 5)}


def run(arguments: Sequence[str]) -> None:
    try:
        main(Path(arguments[0]) if arguments else PAIRS)
    except InputError as error:
        sys.exit(f"error: {error}")


if __name__ == "__main__":
    run(sys.argv[1:])
