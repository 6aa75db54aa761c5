"""Tables of utterances that others wrote: read strictly, each mistake named with its file, line and clip."""

from __future__ import annotations

import csv
import math
import re
from collections.abc import Iterator, Sequence
from pathlib import Path

from avs.core.clips import locate
from avs.core.errors import InputError
from avs.core.speech import Utterance, Word

COLUMNS = ("clip", "dataset_name", "split", "video", "start", "end", "transcript")
OPTIONAL = ("speaker", "landmarks")
WORD_COLUMNS = ("clip", "word", "start", "end")
_NAME = re.compile(r"[a-z0-9][a-z0-9_.-]*")  # small letters only: MCoRec and mcorec would be two
_MAX_KEY = 200
_MAX_ROWS = 10_000_000


def read_utterances(path: Path, folder: Path) -> list[Utterance]:
    """Rows of a TSV with the columns clip, dataset_name, split, video, start, end, transcript, maybe speaker and
    landmarks; `folder` is where videos and landmarks lie. Digests are left empty.

    Raises InputError naming line and clip where a row breaks a rule.
    """
    rows: list[Utterance] = []
    lines: dict[str, int] = {}
    for line, cells in read_cells(path, COLUMNS, OPTIONAL):
        clip = cells["clip"]
        where = f"{path}, line {line}: clip {clip!r}"
        row = _utterance(where, cells, folder)
        if clip in lines:
            raise InputError(f"{where}: also in line {lines[clip]}, but a clip has one row")
        lines[clip] = line
        rows.append(row)
    if not rows:
        raise InputError(f"{path}: no row (columns {', '.join(COLUMNS)}, maybe {', '.join(OPTIONAL)})")
    return rows


def read_words(path: Path, clips: Sequence[str]) -> list[Word]:
    """Rows of a TSV with the columns clip, word, start, end (seconds from the clip's start) of the named clips."""
    known, words = set(clips), []
    for line, cells in read_cells(path, WORD_COLUMNS):
        where = f"{path}, line {line}: clip {cells['clip']!r}"
        if cells["clip"] not in known:
            raise InputError(f"{where}: no such clip")
        start, end = (seconds(where, name, cells[name]) for name in ("start", "end"))
        if not cells["word"] or start > end:
            raise InputError(f"{where}: word ({cells['word']!r}) needs start ({start:g}) <= end ({end:g})")
        words.append(Word(cells["clip"], cells["word"], start, end))
    return words


def read_cells(
    path: Path, columns: Sequence[str], optional: Sequence[str] = ()
) -> Iterator[tuple[int, dict[str, str]]]:
    """Line numbers and cells of a TSV with a header; raises InputError for another shape, or columns not known."""
    try:
        with path.open(encoding="utf-8-sig", newline="") as file:
            reader = csv.DictReader(file, delimiter="\t", quoting=csv.QUOTE_NONE)
            _check_columns(path, reader.fieldnames or (), columns, optional)
            for count, row in enumerate(reader):
                if None in row or None in row.values():
                    raise InputError(f"{path}, line {reader.line_num}: must have {len(reader.fieldnames or ())} cells")
                if count >= _MAX_ROWS:
                    raise InputError(f"{path}: more than {_MAX_ROWS} rows")
                yield reader.line_num, {name: cell.strip() for name, cell in row.items()}
    except (OSError, UnicodeDecodeError, csv.Error) as error:
        raise InputError(f"{path}: cannot be read as a UTF-8 table: {error}") from error


def _check_columns(path: Path, found: Sequence[str], columns: Sequence[str], optional: Sequence[str]) -> None:
    absent = [name for name in columns if name not in found]
    unknown = [name for name in found if name not in (*columns, *optional)]
    if absent or unknown or len(set(found)) < len(found):
        known = ", ".join(columns) + (f", maybe {', '.join(optional)}" if optional else "")
        wrong = (
            f"no column {', '.join(absent)}" if absent else f"unknown or double column {', '.join(unknown or found)}"
        )
        raise InputError(f"{path}: {wrong} (columns, separated by tabs: {known})")


def _utterance(where: str, cells: dict[str, str], folder: Path) -> Utterance:
    if not is_key(cells["clip"]):
        raise InputError(f"{where}: must be a name without spaces or slashes, of at most {_MAX_KEY} characters")
    for name in ("dataset_name", "split"):
        if not _NAME.fullmatch(cells[name]):
            what = f"no {name}" if not cells[name] else f"{name} ({cells[name]!r})"
            raise InputError(f"{where}: {what}: it must be a word such as {_EXAMPLES[name]}, in small letters")
    if not cells["transcript"]:
        raise InputError(f"{where}: no transcript")
    for name in ("video", "landmarks"):
        if name == "video" or cells.get(name):
            _check_inside(where, name, folder, cells[name])
    start, end = (seconds(where, name, cells[name]) for name in ("start", "end"))
    if end and end <= start:
        raise InputError(f"{where}: end ({end:g}) must be after start ({start:g}), or empty for the video's end")
    return Utterance(
        key=cells["clip"],
        start=start,
        end=end,
        sha256="",
        speaker=cells.get("speaker", ""),
        landmarks=cells.get("landmarks", ""),
        **{name: cells[name] for name in ("dataset_name", "split", "video", "transcript")},
    )


_EXAMPLES = {"dataset_name": "grid, lrs2 or mcorec", "split": "train, val or test"}


def is_key(name: str) -> bool:
    """Whether a clip may be called so: its files' folder in a shard has that name."""
    wrong = any(c.isspace() or c in "/\\" or not c.isprintable() for c in name)
    return bool(name) and not wrong and name not in (".", "..") and len(name) <= _MAX_KEY


def _check_inside(where: str, column: str, folder: Path, name: str) -> None:
    try:
        locate(folder, name)
    except InputError as error:
        raise InputError(f"{where}: {column}: {error}") from None


def seconds(where: str, name: str, cell: str) -> float:
    """A time from a cell; none is 0. Raises InputError where it is no number of seconds."""
    try:
        value = float(cell or 0)
    except ValueError:
        value = math.nan
    if not 0 <= value < math.inf:
        raise InputError(f"{where}: {name} ({cell!r}) must be seconds, 0 or more, or empty")
    return value
