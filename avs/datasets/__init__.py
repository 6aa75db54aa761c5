"""Data sets: each yields annotation rows and a folder of videos; `install` makes them one clip table."""

from __future__ import annotations

import hashlib
from collections.abc import Sequence
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Literal, Protocol

from avs.core.clips import Clip, Failed, locate
from avs.core.execute import ExecutionParams
from avs.core.params import params
from avs.datasets import demo, local
from avs.datasets.annotations import Annotation

DatasetName = Literal["demo", "local"]


@params
class DataParams:
    """One block a data set; a stage fails when more than `max_failed_fraction` of its clips do."""

    demo: demo.DemoParams
    local: local.LocalParams
    max_failed_fraction: float = 0.05


class Dataset(Protocol):
    """What a data set has to offer; `demo` and `local` are the modules of that name bound to their parameters."""

    def folder(self) -> Path:
        """Where the videos lie, or will lie once prepared."""

    def prepare(self, execution: ExecutionParams) -> None:
        """Fetch or make the videos that are not there yet."""

    def annotations(self) -> list[Annotation]:
        """The rows, in the order that numbers them."""


def open_dataset(name: DatasetName, data: DataParams) -> Dataset:
    datasets: dict[str, Dataset] = {"demo": demo.Demo(data.demo), "local": local.Local(data.local)}
    return datasets[name]


def install(dataset: Dataset, execution: ExecutionParams) -> tuple[list[Clip], list[Failed]]:
    """The clip table of a data set, and the rows whose video is missing."""
    rows = dataset.annotations()
    dataset.prepare(execution)
    paths = [locate(dataset.folder(), row.video) for row in rows]
    digests = _digests(sorted({path for path in paths if path is not None}))
    clips, failed = [], []
    for number, (row, path) in enumerate(zip(rows, paths, strict=True)):
        key = clip_key(number, row.video)
        if path in digests:
            clips.append(Clip(key, row.split, row.label, row.start, row.end, row.seconds, row.video, digests[path]))
        else:
            reason = "video not found" if path else "the path leaves the data set's folder"
            failed.append(Failed(key, row.video, reason))
    return clips, failed


def clip_key(number: int, video: str) -> str:
    """`<row number>-<video id>`; a subfolder's slash becomes an underscore."""
    return f"{number}-{str(Path(video).with_suffix('')).replace('/', '_')}"


def _digests(paths: Sequence[Path]) -> dict[Path | None, str]:
    present = [path for path in paths if path.is_file()]
    with ThreadPoolExecutor() as pool:
        return dict(zip(present, pool.map(_sha256, present), strict=True))


def _sha256(path: Path) -> str:
    with path.open("rb") as file:
        return hashlib.file_digest(file, "sha256").hexdigest()
