"""What the stages of the speech study left behind, as its page reads it."""

from __future__ import annotations

import csv
import hashlib
import json
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path
from typing import Any

from avs.avsr.normalize import plain
from avs.avsr.scores import Heard
from avs.avsr.wer import Edit, edits
from avs.core.clips import read_table
from avs.core.errors import InputError
from avs.lips.media import SpeechClip, SpeechShards

METRICS = "metrics.json"
HYPOTHESES = "hypotheses.tsv"
Tree = Mapping[str, Any]


@dataclass(frozen=True)
class SpeechResults:
    """`metrics`, `answers`, `curves` (name → steps and values) and `voices`, a folder of sounds, are avsr_train's."""

    metrics: Tree
    answers: Sequence[Heard]
    curves: Mapping[str, list[tuple[float, float]]]
    voices: Path
    media: SpeechShards
    fingerprint: str  # of the metrics and answers: what a file beside the page must belong to

    @cached_property
    def clips(self) -> list[str]:
        """Keys of the judged clips, in the order of the answers."""
        return list(dict.fromkeys(answer.clip for answer in self.answers))

    @cached_property
    def of_media(self) -> dict[str, SpeechClip]:
        return {clip.key: clip for clip in self.media.clips}


def load_speech(results: Path, media: Path) -> SpeechResults:
    """Read what avsr_train wrote to `results`, and the clips of `media`.

    Raises InputError for a file that is absent or no such file, and for answers of clips that `media` lacks.
    """
    metrics = _read(results / METRICS)
    found = SpeechResults(
        metrics=_tree(results / METRICS, metrics),
        answers=read_table(results / HYPOTHESES, Heard),
        curves=read_curves(results / "curves"),
        voices=results / "voices",
        media=SpeechShards(media),
        fingerprint=hashlib.sha256(metrics + _read(results / HYPOTHESES)).hexdigest(),
    )
    if unknown := [key for key in found.clips if key not in found.of_media]:
        raise InputError(f"{media} lacks {len(unknown)} clips of {results}, first {unknown[0]!r} (run: dvc repro)")
    return found


def marks(answer: Heard) -> list[Edit]:
    """Where what was understood differs from what was said: not in case and punctuation, which WER does not count."""
    return edits(answer.reference, answer.hypothesis, lambda word: plain(word).replace(" ", "") or word)


def read_curves(folder: Path) -> dict[str, list[tuple[float, float]]]:
    """DVCLive's curves, a folder a phase: `joint/loss` → steps and values, of the columns `step` and the last one."""
    found = {}
    for root in sorted(folder.glob("*/plots/metrics")):
        for path in sorted(root.rglob("*.tsv")):
            name = path.relative_to(root).with_suffix("").as_posix()
            found[f"{root.relative_to(folder).parts[0]}/{name}"] = _curve(path)
    return found


def _curve(path: Path) -> list[tuple[float, float]]:
    try:
        with path.open(encoding="utf-8", newline="") as file:
            reader = csv.DictReader(file, delimiter="\t")
            value = (reader.fieldnames or [""])[-1]
            return [(float(row["step"]), float(row[value])) for row in reader]
    except (OSError, KeyError, TypeError, ValueError) as error:
        raise InputError(f"{path}: must have columns step and value, of numbers: {error!r}") from None


def _tree(path: Path, text: bytes) -> Tree:
    try:
        tree = json.loads(text)
    except ValueError as error:
        raise InputError(f"{path}: is no JSON: {error}") from None
    if not isinstance(tree, dict) or not isinstance(tree.get("wer"), dict) or not tree["wer"]:
        raise InputError(f"{path}: has no `wer` (run: dvc repro)")
    return tree


def _read(path: Path) -> bytes:
    try:
        return path.read_bytes()
    except OSError:
        raise InputError(f"{path} is not there yet (run: dvc repro)") from None
