"""Data sets: each yields annotation rows and a folder of videos; `install` makes them one clip table."""

from __future__ import annotations

from collections.abc import Iterable
from concurrent.futures import ThreadPoolExecutor
from dataclasses import field
from functools import partial
from pathlib import Path
from typing import Literal, Protocol

from avs.core.clips import Clip, Failed, locate
from avs.core.errors import InputError
from avs.core.execute import ExecutionParams, Failure
from avs.core.params import params
from avs.core.store import known_sha256
from avs.datasets.annotations import Annotation, clip_key
from avs.datasets.ave import Ave, AveParams
from avs.datasets.demo import Demo, DemoParams
from avs.datasets.epic_sounds import EpicSounds, EpicSoundsParams
from avs.datasets.local import Local, LocalParams
from avs.datasets.youtube import YouTube, YouTubeParams

DatasetName = Literal["demo", "local", "manifest", "ave", "youtube", "epic_sounds"]
TAGS = {"ave": "official", "youtube": "auto"}  # ends of the names of availability lists, where not the data set's own


@params
class DataParams:
    """One block a data set; a stage fails when more than `max_failed_fraction` of its clips do."""

    demo: DemoParams
    local: LocalParams
    manifest: LocalParams = field(default_factory=LocalParams)
    ave: AveParams = field(default_factory=AveParams)
    youtube: YouTubeParams = field(default_factory=YouTubeParams)
    epic_sounds: EpicSoundsParams = field(default_factory=EpicSoundsParams)
    max_failed_fraction: float = 0.05

    def __post_init__(self) -> None:
        if not 0 <= self.max_failed_fraction <= 1:
            raise ValueError(f"max_failed_fraction ({self.max_failed_fraction}) must be a share from 0 to 1")


class Dataset(Protocol):
    """What a data set has to offer; each is made of the block of its name in `data`."""

    def folder(self) -> Path:
        """Where the videos lie, or will lie once prepared."""

    def prepare(self, execution: ExecutionParams) -> None:
        """Fetch or make the videos that are not there yet."""

    def annotations(self, check: bool = True) -> list[Annotation]:
        """The rows in their file's order, known once `prepare` is done; without `check`, wrong ones too."""


def open_dataset(name: DatasetName, data: DataParams) -> Dataset:
    datasets: dict[str, Dataset] = {
        "demo": Demo(data.demo),
        "local": Local("local", data.local),
        "manifest": Local("manifest", data.manifest),
        "ave": Ave(data.ave),
        "youtube": YouTube(data.youtube),
        "epic_sounds": EpicSounds(data.epic_sounds),
    }
    return datasets[name]


def install(dataset: Dataset, execution: ExecutionParams) -> tuple[list[Clip], list[Failed]]:
    """The clip table of a data set, and the rows whose video is missing or cannot be read."""
    dataset.prepare(execution)
    rows = [row for row in dataset.annotations() if row.used]
    digest = partial(_digest, dataset.folder())
    with ThreadPoolExecutor() as pool:
        digests = dict(pool.map(digest, {row.video for row in rows}))
    clips, failed = [], []
    for row in rows:
        key, found = clip_key(row.number, row.video), Failure(row.absent) if row.absent else digests[row.video]
        if isinstance(found, Failure):
            failed.append(Failed(key, row.video, found.reason))
        else:
            clips.append(_clip(key, row, found))
    return clips, failed


def check_splits(clips: Iterable[Clip]) -> None:
    """Raise InputError where there is nothing to learn from, or nothing to judge by."""
    splits = {clip.split for clip in clips if clip.event().any()}
    if "train" not in splits or splits == {"train"}:
        there = ", ".join(sorted(splits)) or "none"
        raise InputError(
            f"clips with an event are needed in train and in val or test (there are some in: {there}): add rows, or "
            "give them splits"
        )


def _clip(key: str, row: Annotation, digest: str) -> Clip:
    event = (row.start, row.end, row.seconds)
    return Clip(key, row.split, row.label, *event, row.video, digest, clip_start=row.clip_start)


def _digest(folder: Path, video: str) -> tuple[str, str | Failure]:
    try:
        path = locate(folder, video)
        if not path.exists():
            return video, Failure("video not found")
        if not path.is_file():  # reading a pipe or a device might never end
            return video, Failure("not a regular file")
        return video, known_sha256(path)
    except (OSError, ValueError) as error:
        return video, Failure(f"cannot be read: {error}")
