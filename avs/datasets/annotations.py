"""Annotation files: AVE's format with its split files of either kind, or a TSV with a header."""

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
_MAX_ROWS = 10_000_000


@dataclass(frozen=True)
class Annotation:
    """One row: `video` is a path below the data set's folder, the event is [start, end) of `seconds` seconds.

    `number` is the row's own in its file, from 0; the clip begins `clip_start` seconds into the video; no clip is
    made of a row with `used` false. `absent` is why the video is not there, where the data set knows.
    """

    video: str
    label: str
    start: float
    end: float
    seconds: int
    split: str = ""
    number: int = 0
    clip_start: float = 0
    used: bool = True
    absent: str = ""


def clip_key(number: int, video: str) -> str:
    """`<row number>-<video id>`; a subfolder's slash becomes an underscore."""
    folder, _, name = video.rpartition("/")
    return f"{number}-{folder}/{Path(name).stem}".replace("-/", "-").replace("/", "_")


def read_annotations(path: Path, seconds: int, check: bool = True) -> list[Annotation]:
    """Rows of an AVE file, a TSV, or a folder that holds `Annotations.txt`; split '' where none is given.

    Raises InputError naming file and line. Without `check`, a row that breaks a rule (see `faults`) is given as it
    is written, with times that are no numbers as NaN.
    """
    path = path / "Annotations.txt" if path.is_dir() else path
    lines = _lines(path)
    rows = _tsv(path, lines, seconds, check) if path.suffix == ".tsv" else _ave(path, lines, seconds, check)
    if not rows:
        form = f"columns {', '.join(TSV_COLUMNS)}" if path.suffix == ".tsv" else f"one a line: {AVE_HEADER}"
        raise InputError(f"{path}: no annotation row ({form})")
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
    if not 0 <= row.clip_start < math.inf:
        found.append(f"clip_start ({row.clip_start:g}) must be seconds into the video, 0 or more")
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
    lines = [(number, line.strip()) for number, line in lines if line.strip() != AVE_HEADER]
    splits = _set_files(path.parent, lines) or _order_files(path.parent, len(lines))
    rows = []
    for index, (number, line) in enumerate(lines):
        parts = line.split("&")
        if len(parts) != 5:
            raise InputError(f"{path}, line {number}: {len(parts)} fields, expected {AVE_HEADER}: {line!r}")
        label, video, _, start, end = parts
        split = splits.get(index, "")
        row = _row(f"{path}, line {number}", (f"{video}.mp4", label, start, end, split), seconds, check)
        if check and splits and not split:
            raise InputError(f"{path}, line {number}: in none of the split files beside it: {line!r}")
        rows.append(replace(row, number=index))
    return rows


def _set_files(folder: Path, rows: list[tuple[int, str]]) -> dict[int, str]:
    """The split of each row from trainSet.txt, valSet.txt and testSet.txt, which hold the rows again, or nothing."""
    splits: dict[str, str] = {}
    for split in SPLITS:
        path = folder / f"{split}Set.txt"
        if path.exists():
            for number, line in _lines(path):
                if splits.setdefault(line.strip(), split) != split:
                    raise InputError(f"{path}, line {number}: also in {splits[line.strip()]}Set.txt: {line!r}")
    return {index: splits[line] for index, (_, line) in enumerate(rows) if line in splits}


def _order_files(folder: Path, count: int) -> dict[int, str]:
    """The split of each of `count` rows from train_order.h5, val_order.h5 and test_order.h5, or nothing."""
    splits: dict[int, str] = {}
    for split in SPLITS:
        path = folder / f"{split}_order.h5"
        for index in _order(path) if path.exists() else ():
            if not 0 <= index < count:
                raise InputError(f"{path}: row {index} of {count} rows")
            if splits.setdefault(index, split) != split:
                raise InputError(f"{path}: row {index} is also in {splits[index]}_order.h5")
    return splits


def _order(path: Path) -> list[int]:
    """The row numbers in the dataset `order` of an HDF5 file, which may not lead to other files."""
    import h5py  # slow to import, and seldom needed

    try:
        with h5py.File(path) as file:
            if isinstance(file.get("order", getlink=True), h5py.HardLink):
                order = file["order"]
                plain = isinstance(order, h5py.Dataset) and not (order.external or order.is_virtual)
                # A chunk is read whole, however few rows are in it.
                small = plain and max(order.size, math.prod(order.chunks or ())) <= _MAX_ROWS
                if small and order.ndim == 1 and order.dtype.kind in "iu":
                    return order[:].tolist()
    except (OSError, KeyError, RuntimeError, ValueError) as error:
        raise InputError(f"{path}: cannot be read as HDF5: {error}") from error
    raise InputError(f"{path}: has no list of row numbers named `order`")


def _tsv(path: Path, lines: list[tuple[int, str]], seconds: int, check: bool) -> list[Annotation]:
    reader = csv.DictReader((line for _, line in lines), delimiter="\t", quoting=csv.QUOTE_NONE)
    try:
        return _tsv_rows(path, lines, reader, seconds, check)
    except csv.Error as error:
        raise InputError(f"{path}, line {lines[reader.reader.line_num - 1][0]}: {error}") from error


def _tsv_rows(
    path: Path, lines: list[tuple[int, str]], reader: csv.DictReader[str], seconds: int, check: bool
) -> list[Annotation]:
    absent = [name for name in TSV_COLUMNS if name not in (reader.fieldnames or ())]
    if absent:
        known = ", ".join(TSV_COLUMNS)
        raise InputError(f"{path}: no column {', '.join(absent)} (columns: {known}, maybe split and clip_start)")
    rows = []
    for index, ((number, _), cells) in enumerate(zip(lines[1:], reader, strict=True)):
        values = [cells.get(name) or "" for name in (*TSV_COLUMNS, "split", "clip_start")]
        rows.append(replace(_row(f"{path}, line {number}", values, seconds, check), number=index))
    return rows


def _row(where: str, cells: Sequence[str], seconds: int, check: bool) -> Annotation:
    """One row of the text of video, label, start, end and split, and maybe of where the clip begins."""
    video, label, start, end, split, *place = cells
    try:
        times = float(start), float(end), float("".join(place) or 0)
    except ValueError:
        if check:
            wrong = f"start ({start!r}), end ({end!r}) and clip_start ({''.join(place)!r}) must be seconds"
            raise InputError(f"{where}: {wrong}") from None
        times = math.nan, math.nan, 0
    row = Annotation(video, label, *times[:2], seconds, split, clip_start=times[2])
    if check and (broken := faults(row)):
        raise InputError(f"{where}: {broken[0]}")
    return row
