"""Data sets: each yields annotation rows and a folder of videos; `install` makes them one clip table."""

from __future__ import annotations

from concurrent.futures import ThreadPoolExecutor
from functools import partial
from pathlib import Path
from typing import Literal, Protocol

from avs.core.clips import Clip, Failed, locate
from avs.core.execute import ExecutionParams, Failure
from avs.core.params import params
from avs.core.store import sha256_file
from avs.datasets import demo, local
from avs.datasets.annotations import Annotation

DatasetName = Literal["demo", "local"]


@params
class DataParams:
    """One block a data set; a stage fails when more than `max_failed_fraction` of its clips do."""

    demo: demo.DemoParams
    local: local.LocalParams
    max_failed_fraction: float = 0.05

    def __post_init__(self) -> None:
        if not 0 <= self.max_failed_fraction <= 1:
            raise ValueError(f"max_failed_fraction ({self.max_failed_fraction}) must be a share from 0 to 1")


class Dataset(Protocol):
    """What a data set has to offer; `demo` and `local` are the modules of that name bound to their parameters."""

    def folder(self) -> Path:
        """Where the videos lie, or will lie once prepared."""

    def prepare(self, execution: ExecutionParams) -> None:
        """Fetch or make the videos that are not there yet."""

    def annotations(self, check: bool = True) -> list[Annotation]:
        """The rows, in the order that numbers them; without `check`, those against the rules as well."""


def open_dataset(name: DatasetName, data: DataParams) -> Dataset:
    datasets: dict[str, Dataset] = {"demo": demo.Demo(data.demo), "local": local.Local(data.local)}
    return datasets[name]


def install(dataset: Dataset, execution: ExecutionParams) -> tuple[list[Clip], list[Failed]]:
    """The clip table of a data set, and the rows whose video is missing or cannot be read."""
    rows = dataset.annotations()
    dataset.prepare(execution)
    digest = partial(_digest, dataset.folder())
    with ThreadPoolExecutor() as pool:
        digests = dict(pool.map(digest, {row.video for row in rows}))
    clips, failed = [], []
    for number, row in enumerate(rows):
        key, found = clip_key(number, row.video), digests[row.video]
        if isinstance(found, Failure):
            failed.append(Failed(key, row.video, found.reason))
        else:
            clips.append(Clip(key, row.split, row.label, row.start, row.end, row.seconds, row.video, found))
    return clips, failed


def clip_key(number: int, video: str) -> str:
    """`<row number>-<video id>`; a subfolder's slash becomes an underscore."""
    folder, _, name = video.rpartition("/")
    return f"{number}-{folder}/{Path(name).stem}".replace("-/", "-").replace("/", "_")


def _digest(folder: Path, video: str) -> tuple[str, str | Failure]:
    try:
        return video, sha256_file(locate(folder, video))
    except FileNotFoundError:
        return video, Failure("video not found")
    except (OSError, ValueError) as error:
        return video, Failure(f"cannot be read: {error}")
