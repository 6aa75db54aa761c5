"""What was heard, as word error rates with intervals, and the differences between models that answer the study.

A *model* is a way to ask one trained system: `audio` (lips withheld), `video` (sound withheld), `av` (both), and
`*_seanet`, where SEANet takes the voice out of the mixture before; `*_separate`, the same with both networks as they
were before they were trained jointly. `*_wrong` are controls: SEANet is steered by the lips of another clip, while the
recognizer sees the right ones.
"""

from __future__ import annotations

from collections.abc import Collection, Iterable, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

from avs.avsr.wer import wer, wer_difference
from avs.core.clips import write_table
from avs.core.errors import InputError
from avs.core.stats import holm

MODELS = ("audio", "video", "av", "audio_seanet", "av_seanet")
# before joint training, the networks that later are `*_seanet`
SEPARATE = {"audio_seanet": "audio_separate", "av_seanet": "av_separate"}
CONTROLS = ("audio_wrong", "av_wrong")

# In each noisy condition. Do lips help; does SEANet help, with and without lips in the recognizer; does joint training.
PLANNED = (
    ("av", "audio"),
    ("av_seanet", "av"),
    ("audio_seanet", "audio"),
    ("av_seanet", "av_separate"),
    ("audio_seanet", "audio_separate"),
)
# The whole system against plain recognition; lips twice against lips in SEANet only; does sound still add to lips; is
# it the right lips that SEANet needs.
EXPLANATORY = (
    ("av_separate", "av"),
    ("audio_separate", "audio"),
    ("av_seanet", "audio"),
    ("av_seanet", "audio_seanet"),
    ("av", "video"),
    ("av_seanet", "video"),
    ("audio_seanet", "audio_wrong"),
    ("av_seanet", "av_wrong"),
)
CLEAN = "clean"  # in it, the planned pairs ask what lips and SEANet cost where they are not needed: explanatory


@dataclass(frozen=True)
class Heard:
    """A row of hypotheses.tsv: the texts as they are, errors and words as they count once both are normalised."""

    clip: str
    dataset_name: str
    speaker: str
    condition: str
    model: str
    reference: str
    hypothesis: str
    errors: int
    words: int


def score(rows: Sequence[Heard]) -> dict[str, Any]:
    """Metrics of what was heard: {clips, words, wer: {MODEL: {CONDITION: {wer, low, high}}}, contrasts}.

    contrasts: {CONDITION: {"A-B": {diff, ci_low, ci_high, p, p_holm}}}, WER of A less that of B, with Holm's adjustment
    over each of `families` by itself.
    Raises InputError where models or conditions differ in their clips.
    """
    errors, words = _counts(rows)
    rates: dict[str, dict[str, dict[str, float]]] = {}
    for (name, condition), wrong in errors.items():
        rates.setdefault(name, {})[condition] = wer(wrong, words)
    contrasts: dict[str, dict[str, dict[str, float]]] = {}
    for family in families(errors).values():
        tested = {(c, a, b): wer_difference(errors[a, c], errors[b, c], words) for c, a, b in family}
        adjusted = holm([row["p"] for row in tested.values()])
        for ((condition, a, b), row), p_holm in zip(tested.items(), adjusted, strict=True):
            contrasts.setdefault(condition, {})[f"{a}-{b}"] = row | {"p_holm": float(p_holm)}
    return {"clips": len(words), "words": sum(words), "wer": rates, "contrasts": contrasts}


def families(decoded: Collection[tuple[str, str]]) -> dict[str, list[tuple[str, str, str]]]:
    """(condition, A, B) of each contrast between what was decoded, (model, condition): `planned`, and `explanatory`."""
    there = set(decoded)
    conditions = list(dict.fromkeys(condition for _, condition in decoded))
    noisy = [condition for condition in conditions if condition != CLEAN]
    clean = [condition for condition in conditions if condition == CLEAN]
    asked = {
        "planned": [(c, *pair) for pair in PLANNED for c in noisy],
        "explanatory": [(c, *pair) for pair in PLANNED for c in clean]
        + [(c, *pair) for pair in EXPLANATORY for c in noisy],
    }
    return {name: [(c, a, b) for c, a, b in family if {(a, c), (b, c)} <= there] for name, family in asked.items()}


def write_hypotheses(path: Path, rows: Iterable[Heard]) -> None:
    """As a TSV with a row a line: tabs, line ends and other signs that do not print become spaces."""
    safe = (replace(row, reference=_line(row.reference), hypothesis=_line(row.hypothesis)) for row in rows)
    write_table(path, safe, Heard)


def _line(text: str) -> str:
    return " ".join("".join(sign if sign.isprintable() else " " for sign in text).split())


def _counts(rows: Sequence[Heard]) -> tuple[dict[tuple[str, str], list[int]], list[int]]:
    """Errors of each clip by (model, condition), and words of each clip."""
    errors: dict[tuple[str, str], dict[str, int]] = {}
    words: dict[str, int] = {}
    for row in rows:
        errors.setdefault((row.model, row.condition), {})[row.clip] = row.errors
        if words.setdefault(row.clip, row.words) != row.words:
            raise InputError(f"clip {row.clip} has {row.words} words in one row and {words[row.clip]} in another")
    for place, found in errors.items():
        if found.keys() != words.keys():
            raise InputError(f"{' in '.join(place)} has {len(found)} of {len(words)} clips: nothing can be paired")
    return {place: [found[clip] for clip in words] for place, found in errors.items()}, list(words.values())
