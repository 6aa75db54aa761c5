"""Annotation files: AVE's format with its split files, or a TSV with a header."""

from __future__ import annotations

import csv
import hashlib
import math
from collections.abc import Iterable, Sequence
from dataclasses import dataclass, replace
from pathlib import Path

from avs.core.clips import SPLITS
from avs.core.errors import InputError

AVE_HEADER = "Category&VideoID&Quality&StartTime&EndTime"
TSV_COLUMNS = ("video", "label", "start", "end")


@dataclass(frozen=True)
class Annotation:
    """One row: `video` is a path below the data set's folder, the event is [start, end) of `seconds` seconds."""

    video: str
    label: str
    start: float
    end: float
    seconds: int
    split: str = ""


def read_annotations(path: Path, seconds: int, check: bool = True) -> list[Annotation]:
    """Rows of an AVE file, a TSV, or a folder that holds `Annotations.txt`; split '' where none is given.

    Raises InputError naming file and line. Without `check`, a row that breaks a rule (see `faults`) is given as it
    is written, with times that are no numbers as NaN.
    """
    path = path / "Annotations.txt" if path.is_dir() else path
    lines = _lines(path)
    rows = _tsv(path, lines, seconds, check) if path.suffix == ".tsv" else _ave(path, lines, seconds, check)
    if not rows:
        raise InputError(f"{path}: no annotation row (one a line: {AVE_HEADER})")
    return rows


def faults(row: Annotation) -> list[str]:
    """The rules for annotations that a row breaks."""
    found = []
    if row.label.lower() == "background":
        found.append(f"label ({row.label!r}) is what surrounds events: give a row of it start = end")
    if not row.video or not row.label:
        found.append(f"video ({row.video!r}) and label ({row.label!r}) may not be empty")
    if not 0 <= row.start <= row.end <= row.seconds:
        found.append(f"need 0 <= start ({row.start:g}) <= end ({row.end:g}) <= seconds ({row.seconds})")
    if row.split not in ("", *SPLITS):
        found.append(f"split ({row.split!r}) must be one of {', '.join(SPLITS)}")
    return found


def with_hashed_splits(rows: Iterable[Annotation], val: float, test: float) -> list[Annotation]:
    """Give rows without a split one by the hash of their video, so that new videos never move old ones.

    Raises InputError where only some rows have one, since a video could then come into two splits.
    """
    rows = list(rows)
    without = [row.video for row in rows if not row.split]
    if 0 < len(without) < len(rows):
        raise InputError(f"{len(without)} of {len(rows)} rows have no split, first {without[0]}: give all one, or none")
    return [row if row.split else replace(row, split=_hashed_split(row.video, val, test)) for row in rows]


def _hashed_split(video: str, val: float, test: float) -> str:
    place = int(hashlib.sha256(video.encode()).hexdigest()[:8], 16) / 2**32
    return "test" if place < test else "val" if place < test + val else "train"


def _lines(path: Path) -> list[tuple[int, str]]:
    try:
        text = path.read_text(encoding="utf-8-sig")
    except (OSError, UnicodeDecodeError) as error:
        raise InputError(f"{path}: cannot be read as UTF-8 text: {error}") from error
    return [(number, line) for number, line in enumerate(text.splitlines(), 1) if line.strip()]


def _ave(path: Path, lines: list[tuple[int, str]], seconds: int, check: bool) -> list[Annotation]:
    splits = _ave_splits(path.parent)
    rows = []
    for number, line in lines:
        if line.strip() == AVE_HEADER:
            continue
        parts = line.strip().split("&")
        if len(parts) != 5:
            raise InputError(f"{path}, line {number}: {len(parts)} fields, expected {AVE_HEADER}: {line!r}")
        label, video, _, start, end = parts
        split = splits.get(line.strip(), "")
        row = _row(f"{path}, line {number}", (f"{video}.mp4", label, start, end, split), seconds, check)
        if check and splits and not split:
            raise InputError(f"{path}, line {number}: in none of the split files beside it: {line!r}")
        rows.append(row)
    return rows


def _ave_splits(folder: Path) -> dict[str, str]:
    """The split of each row, by its text, from trainSet.txt, valSet.txt and testSet.txt, or nothing."""
    splits: dict[str, str] = {}
    for split in SPLITS:
        path = folder / f"{split}Set.txt"
        if path.exists():
            for number, line in _lines(path):
                if splits.setdefault(line.strip(), split) != split:
                    raise InputError(f"{path}, line {number}: also in {splits[line.strip()]}Set.txt: {line!r}")
    return splits


def _tsv(path: Path, lines: list[tuple[int, str]], seconds: int, check: bool) -> list[Annotation]:
    reader = csv.DictReader((line for _, line in lines), delimiter="\t", quoting=csv.QUOTE_NONE)
    absent = [name for name in TSV_COLUMNS if name not in (reader.fieldnames or ())]
    if absent:
        raise InputError(f"{path}: no column {', '.join(absent)} (columns: {', '.join(TSV_COLUMNS)}, maybe split)")
    rows = []
    for (number, _), cells in zip(lines[1:], reader, strict=True):
        values = [cells.get(name) or "" for name in (*TSV_COLUMNS, "split")]
        rows.append(_row(f"{path}, line {number}", values, seconds, check))
    return rows


def _row(where: str, cells: Sequence[str], seconds: int, check: bool) -> Annotation:
    video, label, start, end, split = cells
    try:
        times = float(start), float(end)
    except ValueError:
        if check:
            raise InputError(f"{where}: start ({start!r}) and end ({end!r}) must be seconds") from None
        times = math.nan, math.nan
    row = Annotation(video, label, *times, seconds, split)
    if check and (broken := faults(row)):
        raise InputError(f"{where}: {broken[0]}")
    return row
