"""Every eventness backend on the composed pairs: do its anchors meet the events, and what does it cost?

Where a backend's published weights cannot be had, random ones of the same size show the cost and nothing else. What
learns from the training rows does so, cross-fitted, with enough epochs for a data set of this size.
"""

from __future__ import annotations

import sys
import time
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

import numpy as np

from avs.audio.backend import Backend
from avs.audio.eventness import EventnessParams, make_backend, methods, published_weights
from avs.audio.features import basic_features
from avs.audio.supervised import Supervised, plan_lessons
from avs.core.clips import Clip
from avs.core.errors import InputError
from avs.core.execute import one_thread, progress
from avs.core.media import read_media
from avs.core.weights import fetch
from avs.datasets.annotations import read_annotations
from avs.localization.recall import recall_table
from avs.sampling.anchors import select_anchors
from benchmarks import record

PAIRS = Path("../shared/pairs")
SECONDS, K = 10, 2
EPOCHS = 500
TIMED = 3  # clips that random weights are timed on

COMBINED = ("energy+yamnet", "energy+silero_vad")
UNJUDGED = {"weights": "random", "recall_d0": None, "fallback": None}
READINGS = ("ast softmax_padded",)


def main(pairs: Path) -> None:
    clips, sounds = read_clips(pairs)
    test = [i for i, clip in enumerate(clips) if clip.split == "test" and clip.event().any()]
    events = np.stack([clips[i].event() for i in test])
    rows: dict[str, Any] = {}
    for name in progress(sorted({*methods(), *COMBINED, *READINGS}), "backends"):
        backend = _made(name)
        if backend.weights_digest == "random":
            rows[name] = _measured(backend, sounds[test[:TIMED]])[1] | UNJUDGED
        else:
            scores, rows[name] = _scored(backend, clips, sounds, test)
            rows[name] |= _judged(scores, rows[name]["std_threshold"], events)
    controls = recall_table(events, [[]] * len(events), k=K, deltas=(0,))
    figures = {
        "clips": len(test),
        "k": K,
        "learnt": {"epochs": EPOCHS, "folds": EventnessParams().folds, "clips": _count(clips, "train")},
        "controls": {kind: round(controls[kind]["recall_d0"], 4) for kind in ("random", "constant", "best")},
        "methods": rows,
    }
    record("eventness", figures, pairs / "Annotations.txt")
    print(table(figures))


def _made(name: str) -> Backend:
    """The backend of a row, with random weights where its published ones cannot be had."""
    method, _, reading = name.partition(" ")
    try:
        for source in filter(None, [published_weights().get(method)]):
            fetch(source)
        return make_backend(method, reading=reading or None)
    except InputError as error:
        print(error, file=sys.stderr)
        return make_backend(method, weights="random", reading=reading or None)


def table(figures: dict[str, Any]) -> str:
    """The rows of docs/eventness.md."""
    lines = [
        "| method | weights | recall | uniform | CPU s a clip | unit | threshold |",
        "|---|---|---|---|---|---|---|",
    ]
    for name, row in sorted(figures["methods"].items()):
        judged = [_cell(row["recall_d0"]), _cell(row["fallback"]), f"{row['cpu_seconds_per_clip']:.2g}"]
        lines.append(f"| {' | '.join([name, row['weights'], *judged, row['unit'], str(row['std_threshold'])])} |")
    controls = [f"| *{kind}* | | {_cell(recall)} | | | | |" for kind, recall in sorted(figures["controls"].items())]
    return "\n".join(lines + controls)


def _cell(value: float | None) -> str:
    return "not measured" if value is None else f"{value:.3f}"


def read_clips(pairs: Path) -> tuple[list[Clip], np.ndarray]:
    """All rows and their sounds, float32 [N, S]; no two rows share a video, whose name stands for its digest."""
    if not pairs.is_dir():
        raise InputError(f"the composed pairs are not at {pairs}: name their folder")
    rows = read_annotations(pairs, SECONDS)
    clips = [Clip(str(i), r.split, r.label, r.start, r.end, SECONDS, r.video, r.video) for i, r in enumerate(rows)]
    media = (read_media(pairs / "videos" / clip.video, SECONDS) for clip in progress(clips, "decode"))
    return clips, np.stack([m.audio.astype(np.float32) / 32768 for m in media])


def _count(clips: Sequence[Clip], split: str) -> int:
    return sum(clip.split == split for clip in clips)


def _scored(
    backend: Backend, clips: Sequence[Clip], sounds: np.ndarray, test: list[int]
) -> tuple[np.ndarray, dict[str, Any]]:
    """Scores [n, T] of the test clips, and the row of the table but for what they are worth."""
    if not isinstance(backend, Supervised):
        scores, row = _measured(backend, sounds[test])
        parts = backend.identity.get("parts", {"": backend.identity}).values()
        return scores, row | {"weights": "published" if any(part["weights"] for part in parts) else "none"}
    described, row = _measured(backend, sounds, _learnt_from(backend))
    lessons = plan_lessons(clips, EventnessParams().folds)
    scores = backend.learn(described, clips, lessons, epochs=EPOCHS)
    return scores[test], row | {"weights": "learnt"}


def _learnt_from(backend: Supervised) -> Callable[[np.ndarray], np.ndarray]:
    own = backend.inputs == "fbank"
    return lambda sound: backend.describe(sound, SECONDS) if own else basic_features(sound, num_seconds=SECONDS)


def _judged(scores: np.ndarray, std_threshold: float, events: np.ndarray) -> dict[str, float]:
    anchors = [select_anchors(row, k=K) for row in scores]
    flat = [not select_anchors(row, k=K, std_threshold=std_threshold) for row in scores]
    recall = recall_table(events, anchors, k=K, deltas=(0,))["anchors"]["recall_d0"]
    return {"recall_d0": round(recall, 4), "fallback": round(float(np.mean(flat)), 4)}


def _measured(
    backend: Backend, sounds: np.ndarray, describe: Callable[[np.ndarray], np.ndarray] | None = None
) -> tuple[np.ndarray, dict[str, Any]]:
    """What `describe` (by default the backend) says of each clip, and the median CPU seconds that one took.

    In one thread, once the model is there. CPU seconds, since those of the clock tell as much of what else the machine
    does; for what is learnt they are those of the features, the fit left out.
    """
    describe = describe or backend
    describe(sounds[:1])
    seconds, found = [], []
    with one_thread():
        for sound in sounds:
            started = time.thread_time()
            found.append(describe(sound[None])[0])
            seconds.append(time.thread_time() - started)
    scale = {"unit": backend.scale.unit, "std_threshold": backend.scale.std_threshold}
    return np.stack(found), scale | {"cpu_seconds_per_clip": round(float(np.median(seconds)), 5)}


def run(arguments: Sequence[str]) -> None:
    try:
        main(Path(arguments[0]) if arguments else PAIRS)
    except InputError as error:
        sys.exit(f"error: {error}")


if __name__ == "__main__":
    run(sys.argv[1:])
