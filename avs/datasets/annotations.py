"""Annotation files: AVE's format with its split files, or a TSV with a header."""

from __future__ import annotations

import csv
import hashlib
from collections.abc import Iterable
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


def read_annotations(path: Path, seconds: int) -> list[Annotation]:
    """Rows of an AVE file, a TSV, or a folder that holds `Annotations.txt`; split '' where none is given.

    Raises InputError naming file and line.
    """
    path = path / "Annotations.txt" if path.is_dir() else path
    lines = _lines(path)
    rows = _tsv(path, lines, seconds) if path.suffix == ".tsv" else _ave(path, lines, seconds)
    if not rows:
        raise InputError(f"{path}: no annotation row (one a line: {AVE_HEADER})")
    return rows


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


def _ave(path: Path, lines: list[tuple[int, str]], seconds: int) -> list[Annotation]:
    splits = _ave_splits(path.parent)
    rows = []
    for number, line in lines:
        if line.strip() == AVE_HEADER:
            continue
        parts = line.strip().split("&")
        if len(parts) != 5:
            raise InputError(f"{path}, line {number}: {len(parts)} fields, expected {AVE_HEADER}: {line!r}")
        label, video, _, start, end = parts
        row = _row(f"{path}, line {number}", f"{video}.mp4", label, start, end, seconds)
        if splits and line.strip() not in splits:
            raise InputError(f"{path}, line {number}: in none of the split files beside it: {line!r}")
        rows.append(replace(row, split=splits.get(line.strip(), "")))
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


def _tsv(path: Path, lines: list[tuple[int, str]], seconds: int) -> list[Annotation]:
    reader = csv.DictReader((line for _, line in lines), delimiter="\t", quoting=csv.QUOTE_NONE)
    absent = [name for name in TSV_COLUMNS if name not in (reader.fieldnames or ())]
    if absent:
        raise InputError(f"{path}: no column {', '.join(absent)} (columns: {', '.join(TSV_COLUMNS)}, maybe split)")
    rows = []
    for (number, _), cells in zip(lines[1:], reader, strict=True):
        where = f"{path}, line {number}"
        video, label, start, end = (cells[name] or "" for name in TSV_COLUMNS)
        row = _row(where, video, label, start, end, seconds)
        split = cells.get("split") or ""
        if split not in ("", *SPLITS):
            raise InputError(f"{where}: split ({split!r}) must be one of {', '.join(SPLITS)}")
        rows.append(replace(row, split=split))
    return rows


def _row(where: str, video: str, label: str, start: str, end: str, seconds: int) -> Annotation:
    try:
        row = Annotation(video, label, float(start), float(end), seconds)
    except ValueError:
        raise InputError(f"{where}: start ({start!r}) and end ({end!r}) must be seconds") from None
    if label.lower() == "background":
        raise InputError(f"{where}: label ({label!r}) is what surrounds events: give a row of it start = end")
    if not video or not label:
        raise InputError(f"{where}: video ({video!r}) and label ({label!r}) may not be empty")
    if not 0 <= row.start <= row.end <= seconds:
        raise InputError(f"{where}: need 0 <= start ({start}) <= end ({end}) <= seconds ({seconds})")
    return row
