"""Data sets of speech: each yields rows of utterances and a folder of videos; `install` makes them one table."""

from __future__ import annotations

from collections.abc import Iterable
from concurrent.futures import ThreadPoolExecutor
from dataclasses import field, replace
from functools import partial
from pathlib import Path
from typing import Literal, Protocol

from avs.core.clips import Failed, locate
from avs.core.execute import ExecutionParams, Failure
from avs.core.params import params
from avs.core.speech import Utterance, Word
from avs.core.store import sha256_file
from avs.speech.demo import SpeechDemo, SpeechDemoParams
from avs.speech.grid import Grid, GridParams
from avs.speech.manifest import Manifest, ManifestParams

SpeechName = Literal["demo", "grid", "manifest"]


@params
class SpeechDataParams:
    """One block a data set; a stage fails when more than `max_failed_fraction` of its clips do."""

    demo: SpeechDemoParams = field(default_factory=SpeechDemoParams)
    grid: GridParams = field(default_factory=GridParams)
    manifest: ManifestParams = field(default_factory=ManifestParams)
    max_failed_fraction: float = 0.05

    def __post_init__(self) -> None:
        if not 0 <= self.max_failed_fraction <= 1:
            raise ValueError(f"max_failed_fraction ({self.max_failed_fraction}) must be a share from 0 to 1")


class SpeechSet(Protocol):
    """What a data set has to offer; each is made of the block of its name in `speech_data`."""

    def folder(self) -> Path:
        """Where the videos lie, or will lie once prepared."""

    def prepare(self, execution: ExecutionParams) -> None:
        """Fetch or make the videos that are not there yet."""

    def utterances(self) -> list[Utterance]:
        """The rows, without digests, in a fixed order, known once `prepare` is done."""

    def words(self) -> list[Word]:
        """When each word is said, where that is known."""


def open_speech(name: SpeechName, data: SpeechDataParams) -> SpeechSet:
    sets: dict[str, SpeechSet] = {
        "demo": SpeechDemo(data.demo),
        "grid": Grid(data.grid),
        "manifest": Manifest(data.manifest),
    }
    return sets[name]


def install_speech(dataset: SpeechSet, execution: ExecutionParams) -> tuple[list[Utterance], list[Word], list[Failed]]:
    """The table of a data set, its words, and the rows whose video or landmarks are missing or cannot be read."""
    dataset.prepare(execution)
    rows = dataset.utterances()
    names = {name for row in rows for name in (row.video, row.landmarks) if name}
    with ThreadPoolExecutor() as pool:
        digests = dict(pool.map(partial(_digest, dataset.folder()), names))
    clips, failed = [], []
    for row in rows:
        found = [digests[name] for name in (row.video, row.landmarks) if name]
        reasons = [one.reason for one in found if isinstance(one, Failure)]
        if reasons:
            failed.append(Failed(row.key, row.video, reasons[0]))
        else:
            clips.append(_with_digests(row, [one for one in found if isinstance(one, str)]))
    return clips, _of(clips, dataset.words()), failed


def _with_digests(row: Utterance, digests: list[str]) -> Utterance:
    return replace(row, sha256=digests[0], landmarks_sha256=digests[1] if row.landmarks else "")


def _of(clips: Iterable[Utterance], words: Iterable[Word]) -> list[Word]:
    there = {clip.key for clip in clips}
    return [word for word in words if word.clip in there]


def _digest(folder: Path, name: str) -> tuple[str, str | Failure]:
    try:
        path = locate(folder, name)
        if not path.exists():
            return name, Failure(f"{name} not found")
        if not path.is_file():  # reading a pipe or a device might never end
            return name, Failure(f"{name} is not a regular file")
        return name, sha256_file(path)
    except (OSError, ValueError) as error:
        return name, Failure(f"cannot be read: {error}")
