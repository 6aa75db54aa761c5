"""Why eventness is cross-fitted: with events at random places, what was learnt by heart looks like skill."""

from __future__ import annotations

import sys
from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path

import numpy as np

from avs.audio.eventness import make_backend
from avs.audio.supervised import Supervised, plan_lessons
from avs.core.clips import Clip
from avs.core.errors import InputError
from avs.localization.recall import recall_table
from avs.sampling.anchors import select_anchors
from benchmarks import record
from benchmarks.eventness import EPOCHS, PAIRS, SECONDS, K, read_clips

METHOD, DRAWS, FOLDS = "audio_fbank_mlp", 5, 5


def main(pairs: Path) -> None:
    clips, sounds = read_clips(pairs)
    backend = make_backend(METHOD)
    assert isinstance(backend, Supervised)
    features = np.concatenate([backend.describe(sound[None], SECONDS) for sound in sounds])
    found: dict[str, list[float]] = {"one_fold_train": [], "crossed_train": [], "test": []}
    for draw in range(DRAWS):
        moved = _moved(clips, np.random.default_rng(draw))
        for folds, name in ((1, "one_fold_train"), (FOLDS, "crossed_train")):
            scores = backend.learn(features, moved, plan_lessons(moved, folds), epochs=EPOCHS)
            found[name].append(_recall(moved, scores, "train"))
        found["test"].append(_recall(moved, scores, "test"))
    recall = {name: round(float(np.mean(values)), 4) for name, values in found.items()}
    spread = {name: round(float(np.std(values, ddof=1)), 4) for name, values in found.items()}
    settings = {"method": METHOD, "draws": DRAWS, "folds": FOLDS, "epochs": EPOCHS, "k": K, "chance": K / SECONDS}
    record("crossfit", settings | {"recall_d0": recall, "std_between_draws": spread}, pairs / "Annotations.txt")


def _moved(clips: Sequence[Clip], rng: np.random.Generator) -> list[Clip]:
    """The clips with their events, as long as they are, at random places of what is heard."""
    lengths = [int(clip.event().sum()) for clip in clips]
    starts = [int(rng.integers(0, SECONDS - length + 1)) for length in lengths]
    moved = zip(clips, starts, lengths, strict=True)
    return [replace(clip, start=start, end=start + length) for clip, start, length in moved]


def _recall(clips: Sequence[Clip], scores: np.ndarray, split: str) -> float:
    chosen = [i for i, clip in enumerate(clips) if clip.split == split and clip.event().any()]
    events = np.stack([clips[i].event() for i in chosen])
    return recall_table(events, [select_anchors(scores[i], k=K) for i in chosen], k=K)["anchors"]["recall_d0"]


if __name__ == "__main__":
    try:
        main(Path(sys.argv[1]) if sys.argv[1:] else PAIRS)
    except InputError as error:
        sys.exit(f"error: {error}")
