"""The data doctor: what is wrong with a data set, row by row, before it costs anything."""

from __future__ import annotations

import math
import time
from collections import Counter, defaultdict
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, replace
from functools import partial
from pathlib import Path
from typing import Literal, TypeVar

from avs.core.clips import SPLITS, locate
from avs.core.errors import InputError
from avs.core.execute import ExecutionParams, Failure, map_items
from avs.core.media import MediaError, read_media
from avs.core.probe import Probe, probe
from avs.core.store import sha256_file
from avs.datasets.annotations import Annotation, clip_key, faults

Severity = Literal["stop", "lost", "warning", "note"]

# dB relative to full scale: well below the noise floor of any microphone that records an event
SILENT_LEVEL = -60.0
SLOW_RATE, FAST_RATE = 2.0, 121.0  # frames a second
SMALL_SIDE = 128  # pixels: less than the usual low resolution
_SLACK = 0.5  # seconds


@dataclass(frozen=True)
class Problem:
    """stop: no stage will start; lost: the row can't be used; warning: results suffer; note: it is dealt with."""

    severity: Severity
    remedy: str


PROBLEMS = {
    "bad_annotation": Problem("stop", "mend the row, or delete it"),
    "no_split": Problem("stop", "give every row a split, or none"),
    "empty_split": Problem("stop", "put rows with an event into train, and into val or test"),
    "missing": Problem("lost", "put the video into the folder, or delete its rows"),
    "unreadable": Problem("lost", "fetch the file again, or delete its rows"),
    "truncated": Problem("lost", "fetch the file again, or delete its rows"),
    "ends_early": Problem("lost", "use a shorter clip length for all, or delete its rows"),
    "damaged": Problem("warning", "fetch the file again; what cannot be decoded is concealed"),
    "short": Problem("warning", "nothing must be done: the last frame is held"),
    "no_audio": Problem("warning", "find a copy with sound: else its eventness is that of silence"),
    "silent": Problem("warning", "listen to it: a muted upload says nothing of the event"),
    "same_bytes": Problem("warning", "keep one of the copies"),
    "same_row": Problem("warning", "delete one of the rows"),
    "two_splits": Problem("warning", "keep its rows in one split: the test would see what was trained on"),
    "class_spelling": Problem("warning", "spell the class one way: as it is, these are two classes"),
    "no_event": Problem("warning", "correct start and end, unless it is background on purpose"),
    "untrained_class": Problem("warning", "move rows of the class to train, or delete them"),
    "short_audio": Problem("note", "filled with silence"),
    "late_audio": Problem("note", "filled with silence, not shifted"),
    "long": Problem("note", "only the beginning is used"),
    "odd_rate": Problem("note", "frames are taken by time stamp, not by number"),
    "rotated": Problem("note", "turned upright"),
    "small": Problem("note", "scaled up: high resolution shows no more of it"),
}


@dataclass(frozen=True)
class Finding:
    """One problem of one row; `key` is `-` where it is not about a row."""

    key: str
    video: str
    problem: str
    severity: str
    detail: str
    remedy: str


@dataclass(frozen=True)
class Diagnosis:
    """What was found in `rows`; `seconds` is what looking at each of `looked_at` videos took on average."""

    rows: list[Annotation]
    findings: list[Finding]
    looked_at: int = 0
    seconds: float = 0.0

    def count(self, problem: str) -> int:
        """How many rows have it, or how many classes, where it is about classes."""
        return len({f.key if f.video else f.detail for f in self.findings if f.problem == problem})

    @property
    def lost(self) -> int:
        """How many rows the stages could not use."""
        return len({f.key for f in self.findings if f.video and f.severity in ("stop", "lost")})

    def verdict(self, max_failed: float) -> str:
        """Why the stages would not start, or would lose more than a share of `max_failed` of the rows; else ''."""
        if any(f.severity == "stop" for f in self.findings):
            return "no stage will start before the annotations are mended"
        if self.lost == len(self.rows):
            return "none is left"
        return f"more than a share of {max_failed:g}" if self.lost > max_failed * len(self.rows) else ""


def diagnose(
    rows: list[Annotation], folder: Path | None, execution: ExecutionParams, *, full: bool = False
) -> Diagnosis:
    """Check the annotation rows in use and, where a folder is given, look at their videos.

    rows: read without checking them. full: decode every clip as preprocessing would, instead of its sound and
    key frames only.
    """
    rows = [row for row in rows if row.used]
    if not rows:
        raise InputError("the data set has no row to look at")
    found = list(_annotation_findings(rows))
    if folder is None:
        return Diagnosis(rows, _sorted(found, rows))
    starts: dict[str, set[float]] = defaultdict(set)
    for row in filter(_has_place, rows):
        starts[row.video].add(row.clip_start)
    jobs = [(row.video, row.seconds, tuple(sorted(starts.pop(row.video)))) for row in rows if row.video in starts]
    began = time.perf_counter()
    looks = map_items(partial(_examine, folder, full), jobs, execution, "doctor")
    spent = time.perf_counter() - began
    results: dict[str, Look | Failure] = {job[0]: look for job, look in zip(jobs, looks, strict=True)}
    found += [
        _finding(row, problem, detail)
        for row in filter(_has_place, rows)
        for problem, detail in _media_problems(results[row.video], row)
    ]
    found += _same_bytes(rows, {name: look.sha256 for name, look in results.items() if isinstance(look, Look)})
    return Diagnosis(rows, _sorted(found, rows), len(jobs), spent / max(len(jobs), 1))


def _has_place(row: Annotation) -> bool:
    return bool(row.video) and 0 <= row.clip_start < math.inf


@dataclass(frozen=True)
class Part:
    """What a look at one clip of a video gave: a probe, the reason why there is none, flags if it was decoded."""

    probe: Probe | None = None
    failure: str = ""
    flags: tuple[str, ...] = ()


@dataclass(frozen=True)
class Look:
    """A video's digest, and its clips by their start."""

    sha256: str
    parts: dict[float, Part]


def _examine(folder: Path, full: bool, job: tuple[str, int, tuple[float, ...]]) -> Look:
    name, seconds, starts = job
    path = locate(folder, name)
    if not path.is_file():
        raise MediaError("is no file" if path.exists() else "no such file")
    return Look(sha256_file(path), {start: _look_at(path, seconds, start, full) for start in starts})


def _look_at(path: Path, seconds: int, start: float, full: bool) -> Part:
    found = None
    try:
        found = probe(path, seconds, start=start)
        return Part(found, flags=read_media(path, seconds, start=start).flags if full else ())
    except MediaError as error:
        return Part(found, failure=str(error))


def _media_problems(look: Look | Failure, row: Annotation) -> Iterator[tuple[str, str]]:
    if isinstance(look, Failure):
        yield "missing" if look.reason == "no such file" else "unreadable", look.reason
        return
    part = look.parts[row.clip_start]
    if part.probe is None:
        yield "unreadable", part.failure
        return
    yield from _picture_problems(part, part.probe, row.seconds)
    if len(look.parts) == 1 and not row.clip_start and part.probe.announced > row.seconds + _SLACK:
        yield "long", f"{part.probe.announced:.2f} s, of which {row.seconds} s are used"
    yield from _sound_problems(part.probe, row.seconds)


def _picture_problems(part: Part, p: Probe, seconds: int) -> Iterator[tuple[str, str]]:
    ends = f"video ends at {p.end:.2f} s of {seconds} s"
    lost = bool(part.failure) or p.end <= seconds - 1
    if lost:
        cut = p.end < min(p.announced, seconds) - _SLACK
        reason = part.failure or ends
        yield ("truncated", f"{reason}; its header says {p.announced:.2f} s") if cut else ("ends_early", reason)
    elif p.damaged or "damaged" in part.flags:
        yield "damaged", "the decoder met errors"
    if not lost and p.end <= seconds - _SLACK:
        yield "short", ends
    if p.variable_rate and not lost:
        yield "odd_rate", f"variable, {p.rate:.1f} frames a second on average"
    elif p.rate and not SLOW_RATE <= p.rate <= FAST_RATE:
        yield "odd_rate", f"{p.rate:.2f} frames a second"
    if p.rotation:
        yield "rotated", f"by {p.rotation} degrees, shown as {p.width}x{p.height}"
    if min(p.width, p.height) < SMALL_SIDE:
        yield "small", f"{p.width}x{p.height} pixels"


def _sound_problems(p: Probe, seconds: int) -> Iterator[tuple[str, str]]:
    if p.sound is None:
        yield "no_audio", "no sound in it"
        return
    start, end = p.sound
    if p.level < SILENT_LEVEL:
        yield "silent", f"{p.level:.0f} dB of full scale" if p.level > -300 else "digital silence"
    if start > 0.05:
        yield "late_audio", f"sound starts at {start:.2f} s"
    if end < min(seconds, p.end) - _SLACK:
        yield "short_audio", f"sound ends at {end:.2f} s"


def _annotation_findings(rows: Sequence[Annotation]) -> Iterator[Finding]:
    videos = _grouped(rows, lambda row: row.video)
    usual = _usual_spelling(row.label for row in rows)
    some_split = any(row.split for row in rows)
    first: dict[Annotation, Annotation] = {}
    for row in rows:
        found = partial(_finding, row)
        yield from (found("bad_annotation", fault) for fault in faults(row))
        if row.start == row.end:
            yield found("no_event", f"start = end = {row.start:g}")
        if some_split and not row.split:
            yield found("no_split", "others have one")
        earlier = first.setdefault(replace(row, split="", number=0), row)
        if earlier is not row:
            yield found("same_row", f"as {clip_key(earlier.number, row.video)}")
        splits = sorted({rows[n].split for n in videos[row.video]} & set(SPLITS))
        if len(splits) > 1 and row.video:
            yield found("two_splits", f"its rows are in {' and '.join(splits)}")
        if row.label != usual[row.label]:
            yield found("class_spelling", f"{row.label!r}, elsewhere {usual[row.label]!r}")
    eventful = {row.split for row in rows if row.start < row.end}
    for wanted in (("train",), ("val", "test")) if some_split else ():
        if not eventful & set(wanted):
            yield _row_less("empty_split", f"no row with an event in {' or '.join(wanted)}")
    trained = {row.label for row in rows if row.split == "train"}
    for label in sorted({row.label for row in rows} - trained) if trained else ():
        yield _row_less("untrained_class", f"{label!r} has no row in train")


def _usual_spelling(labels: Iterable[str]) -> dict[str, str]:
    """For each label the commonest of those that differ from it in case, space and punctuation only."""
    counts = Counter(labels)
    groups: dict[str, list[str]] = defaultdict(list)
    for label in counts:
        groups["".join(filter(str.isalnum, label.casefold()))].append(label)
    return {label: max(group, key=lambda one: counts[one]) for group in groups.values() for label in group}


def _same_bytes(rows: Sequence[Annotation], digests: Mapping[str, str]) -> Iterator[Finding]:
    """Videos that are copies of another, and those that so come into two splits."""
    copies = _grouped([row for row in rows if row.video in digests], lambda row: digests[row.video])
    kept = [row for row in rows if row.video in digests]
    for row in rows:
        if row.video not in digests:
            continue
        others = [kept[n] for n in copies[digests[row.video]] if kept[n].video != row.video]
        if others:
            yield _finding(row, "same_bytes", f"as {others[0].video}")
        if elsewhere := next((other for other in others if other.split != row.split), None):
            yield _finding(row, "two_splits", f"its copy {elsewhere.video} is in {elsewhere.split}")


Item = TypeVar("Item")


def _grouped(items: Iterable[Item], key: Callable[[Item], str]) -> dict[str, list[int]]:
    """Positions of the items by their key."""
    groups: dict[str, list[int]] = defaultdict(list)
    for number, item in enumerate(items):
        groups[key(item)].append(number)
    return groups


def _finding(row: Annotation, problem: str, detail: str) -> Finding:
    known = PROBLEMS[problem]
    return Finding(clip_key(row.number, row.video), row.video, problem, known.severity, detail, known.remedy)


def _row_less(problem: str, detail: str) -> Finding:
    return Finding("-", "", problem, PROBLEMS[problem].severity, detail, PROBLEMS[problem].remedy)


def _sorted(found: Iterable[Finding], rows: Sequence[Annotation]) -> list[Finding]:
    """Worst first, then in the order of the rows."""
    order = {clip_key(row.number, row.video): row.number for row in rows}
    rank = {name: number for number, name in enumerate(PROBLEMS)}
    return sorted(found, key=lambda f: (rank[f.problem], order.get(f.key, -1)))
