"""EPIC-SOUNDS: sounds in long kitchen videos, as windows with one event each, and as whole videos with all of them.

The annotations are the published CSV files; the videos are EPIC-KITCHENS-100's, which the user has to bring.
"""

from __future__ import annotations

import csv
import hashlib
import re
import sys
from collections import defaultdict
from collections.abc import Iterable
from dataclasses import dataclass
from pathlib import Path

from avs.core.errors import InputError
from avs.core.execute import ExecutionParams
from avs.core.params import params
from avs.datasets.annotations import Annotation
from avs.datasets.subsets import check_limit, limited

TERMS = (
    "EPIC-SOUNDS: annotations and videos (EPIC-KITCHENS-100) are under CC BY-NC 4.0: not for commercial use; ask its "
    "makers for access to the videos, and cite Huh et al., EPIC-SOUNDS, ICASSP 2023, and Damen et al., IJCV 2022."
)
FILES = {"train": "EPIC_Sounds_train.csv", "val": "EPIC_Sounds_validation.csv"}  # the test set's labels are not public
COLUMNS = ("video_id", "start_timestamp", "stop_timestamp", "class")
_VIDEO = re.compile(r"P\d+_\d+", re.ASCII)
_SUFFIXES = {".mp4", ".m4v", ".mov", ".mkv", ".webm", ".avi"}  # frames, flow and notes have a video's name too
_TIME = re.compile(r"(\d+):([0-5]\d):([0-5]\d(?:\.\d+)?)", re.ASCII)


@params
class EpicSoundsParams:
    """videos: a folder with `P01_01.MP4`, … anywhere below; annotations: that of the CSV files.

    seconds: of a window; limit: windows a split, drawn by `seed`.
    """

    videos: str = "data/epic_sounds/videos"
    annotations: str = "data/epic_sounds/annotations"
    seconds: int = 10
    limit: int | None = None
    seed: int = 0

    def __post_init__(self) -> None:
        check_limit(self.limit)
        if self.seconds < 1:
            raise ValueError(f"seconds ({self.seconds}) must be >= 1")


@dataclass(frozen=True)
class Sound:
    """One row of a CSV file; `number` counts over both files; times in seconds of the video."""

    number: int
    split: str
    video: str
    start: float
    end: float
    label: str


class EpicSounds:
    """Rows are windows, each about one event that lies anywhere in it; other events of a window are not told."""

    def __init__(self, p: EpicSoundsParams) -> None:
        self._p = p

    def folder(self) -> Path:
        return Path(self._p.videos)

    def prepare(self, execution: ExecutionParams) -> None:
        sounds, there = self._found()
        known = {sound.video for sound in sounds}
        print(f"epic_sounds: {len(known & there.keys())} of {len(known)} videos are there", file=sys.stderr)

    def annotations(self, check: bool = True) -> list[Annotation]:
        """The windows of the videos that are there."""
        sounds, there = self._found()
        ends = _ends(sounds)
        rows = [self._window(s, there[s.video], ends[s.video]) for s in sounds if s.video in there]
        return limited(rows, self._p.limit, self._p.seed)

    def videos(self) -> dict[str, str]:
        """The path below the folder of each video that is there, by its id."""
        paths = (path for path in self.folder().rglob("P*_*.*") if path.suffix.casefold() in _SUFFIXES)
        found = sorted(path for path in paths if _VIDEO.fullmatch(path.stem))
        return {path.stem: str(path.relative_to(self.folder())) for path in reversed(found)}

    def _found(self) -> tuple[list[Sound], dict[str, str]]:
        """All rows, and the videos that are there. Raises InputError where none of the rows' is."""
        sounds, there = read_sounds(Path(self._p.annotations)), self.videos()
        known = {sound.video for sound in sounds}
        if not known & there.keys():
            raise InputError(f"data.epic_sounds.videos ({self.folder()}) holds none of {len(known)} videos. {TERMS}")
        return sounds, there

    def _window(self, sound: Sound, video: str, last: float) -> Annotation:
        """A window about the event, at a place drawn by the row, so that no second of it is likelier than others."""
        seconds, share = self._p.seconds, _draw(sound)
        early, late = sorted((sound.end - seconds, sound.start))
        begin = round(max(min(early + share * (late - early), last - seconds), 0), 3)
        start, end = (min(max(time - begin, 0), seconds) for time in (sound.start, sound.end))
        event = (sound.label, round(start, 6), round(end, 6), seconds)
        return Annotation(video, *event, sound.split, sound.number, clip_start=begin)


def read_sounds(folder: Path) -> list[Sound]:
    """All rows of the training and validation files. Raises InputError naming file and line, or the way to them."""
    if not any((folder / name).exists() for name in FILES.values()):
        raise InputError(
            f"data.epic_sounds.annotations ({folder}) holds neither of {', '.join(FILES.values())} "
            "(they are in the repository epic-kitchens/epic-sounds-annotations on GitHub)"
        )
    sounds: list[Sound] = []
    for split, name in FILES.items():
        if (folder / name).exists():
            sounds += _read(folder / name, split, len(sounds))
    return sounds


def events_by_video(sounds: Iterable[Sound], split: str) -> dict[str, list[tuple[float, float]]]:
    """All events of each video of a split, [start, end) seconds."""
    events = defaultdict(list)
    for sound in sounds:
        if sound.split == split:
            events[sound.video].append((sound.start, sound.end))
    return dict(events)


def _read(path: Path, split: str, first: int) -> list[Sound]:
    try:
        with path.open(encoding="utf-8-sig", newline="") as file:
            reader = csv.DictReader(file)
            absent = [name for name in COLUMNS if name not in (reader.fieldnames or ())]
            if absent:
                raise InputError(f"{path}: no column {', '.join(absent)}")
            return [
                _sound(f"{path}, line {reader.line_num}", cells, split, first + n) for n, cells in enumerate(reader)
            ]
    except (OSError, UnicodeDecodeError, csv.Error) as error:
        raise InputError(f"{path}: cannot be read as a CSV file: {error}") from error


def _sound(where: str, cells: dict[str, str], split: str, number: int) -> Sound:
    video, start, end, label = (cells[name] or "" for name in COLUMNS)
    if not _VIDEO.fullmatch(video) or not label:
        raise InputError(f"{where}: video_id ({video!r}) must be like P01_01, and class ({label!r}) not empty")
    sound = Sound(number, split, video, _seconds(where, start), _seconds(where, end), label)
    if sound.start > sound.end:
        raise InputError(f"{where}: starts ({start}) after it stops ({end})")
    return sound


def _seconds(where: str, text: str) -> float:
    match = _TIME.fullmatch(text)
    if match is None:
        raise InputError(f"{where}: time ({text!r}) must be HH:mm:ss.SSS")
    hours, minutes, seconds = match.groups()
    return 3600 * int(hours) + 60 * int(minutes) + float(seconds)


def _ends(sounds: Iterable[Sound]) -> dict[str, float]:
    """When the last event of each video ends: until then at least there is video."""
    ends: dict[str, float] = defaultdict(float)
    for sound in sounds:
        ends[sound.video] = max(ends[sound.video], sound.end)
    return ends


def _draw(sound: Sound) -> float:
    """A number in [0, 1) that depends on the row only."""
    digest = hashlib.sha256(f"{sound.video} {sound.start} {sound.end} {sound.label}".encode()).hexdigest()
    return int(digest[:8], 16) / 2**32
