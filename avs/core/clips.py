"""The clip table: what a clip is, where it comes from, its split and label. Every stage hands it on as a TSV."""

from __future__ import annotations

import csv
import io
from collections.abc import Iterable, Sequence
from dataclasses import dataclass, fields
from pathlib import Path, PurePosixPath
from typing import TypeVar, get_type_hints

import numpy as np

from avs.core.errors import InputError
from avs.core.store import atomic

BACKGROUND = 0
SPLITS = ("train", "val", "test")
MAX_SECONDS = 24 * 3600  # of a clip


@dataclass(frozen=True)
class Clip:
    """One row of an annotation file; `key` is `<row number>-<video id>`, since a video may have several rows.

    `seconds` is T; the event lies in [`start`, `end`) seconds; `video` is relative to the data set's folder and
    `sha256` that of its bytes; `media` is the digest of its decoded frames and sound; `flags` (comma-separated)
    say what is unusual about them, for example `no_audio`. The clip begins `clip_start` seconds into its video.
    """

    key: str
    split: str
    label: str
    start: float
    end: float
    seconds: int
    video: str
    sha256: str
    media: str = ""
    flags: str = ""
    clip_start: float = 0

    def __post_init__(self) -> None:
        if not 0 < self.seconds <= MAX_SECONDS:
            raise ValueError(f"seconds ({self.seconds}) must be from 1 to {MAX_SECONDS}")

    def event(self) -> np.ndarray:
        """Bool [T]: segment [t, t+1) carries the label iff it overlaps [start, end)."""
        t = np.arange(self.seconds)
        return (self.start < self.end) & (t < self.end) & (t + 1 > self.start)


@dataclass(frozen=True)
class Failed:
    """A clip that could not be used, and why."""

    key: str
    video: str
    reason: str


Row = TypeVar("Row")


def write_table(path: Path, rows: Iterable[object], cls: type) -> None:
    """Write dataclass rows as a TSV with a header."""
    names = [field.name for field in fields(cls)]
    text = io.StringIO()
    writer = csv.writer(text, delimiter="\t", lineterminator="\n")
    writer.writerow(names)
    writer.writerows([_text(getattr(row, name)) for name in names] for row in rows)
    with atomic(path) as file:
        file.write(text.getvalue().encode())


def read_table(path: Path, cls: type[Row]) -> list[Row]:
    """Read a TSV that `write_table` wrote. Raises InputError naming the line that does not fit `cls`."""
    types = get_type_hints(cls)
    try:
        with path.open(encoding="utf-8", newline="") as file:
            reader = csv.DictReader(file, delimiter="\t")
            return [cls(**{name: types[name](value) for name, value in row.items()}) for row in reader]
    except OSError as error:
        raise InputError(f"{path}: {error.strerror} (run: dvc repro)") from error
    except (TypeError, KeyError, ValueError, csv.Error) as error:
        raise InputError(f"{path}, line {reader.line_num}: not a {cls.__name__} row: {error}") from error


def check_failures(
    failed: Sequence[Failed], total: int, max_fraction: float, limit: str = "data.max_failed_fraction"
) -> None:
    """Raise InputError when more than `max_fraction` (of the name `limit`) of `total` clips failed, or none is left."""
    if failed and (len(failed) == total or len(failed) > max_fraction * total):
        shown = "; ".join(f"{f.key}: {f.reason}" for f in failed[:3])
        raise InputError(
            f"{len(failed)} of {total} clips failed, more than {limit} ({max_fraction}) allows, "
            f"first {shown} (mend or remove them, or raise the limit)"
        )
    if total == 0:
        raise InputError("the data set has no clip")


def locate(folder: Path, video: str) -> Path:
    """The video's path. Raises InputError where its name leads out of the folder; links within it are followed."""
    name = PurePosixPath(video)
    if name.is_absolute() or ".." in name.parts or not name.name:
        raise InputError(f"its name ({video!r}) must be a path below the data set's folder")
    return folder / name


def class_names(clips: Iterable[Clip]) -> list[str]:
    """`background` at index 0, then the labels in alphabetical order from 1."""
    return ["background", *sorted({clip.label for clip in clips if clip.event().any()})]


def targets(clips: Sequence[Clip], classes: Sequence[str]) -> np.ndarray:
    """Class index of each second: int64 [N, T]."""
    index = {name: number for number, name in enumerate(classes)}
    return np.stack([np.where(clip.event(), index.get(clip.label, BACKGROUND), BACKGROUND) for clip in clips])


def _text(value: object) -> str:
    return str(int(value)) if isinstance(value, float) and value.is_integer() else str(value)
