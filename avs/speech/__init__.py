"""Data sets of speech: each yields rows of utterances and a folder of videos; `install` makes them one table."""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import field, replace
from functools import partial
from multiprocessing.pool import ThreadPool
from pathlib import Path
from typing import Literal, Protocol

from avs.core import tars
from avs.core.clips import Failed, locate
from avs.core.errors import InputError
from avs.core.execute import ExecutionParams, Failure, progress
from avs.core.params import params
from avs.core.speech import Utterance, Word
from avs.speech.avyt import Avyt, AvytParams
from avs.speech.demo import SpeechDemo, SpeechDemoParams
from avs.speech.grid import Grid, GridParams
from avs.speech.lrs2 import Lrs2, Lrs2Params
from avs.speech.manifest import Manifest, ManifestParams
from avs.speech.mcorec import MCoRec, MCoRecParams
from avs.speech.mixture import Mixture, MixtureParams
from avs.speech.table import is_key
from avs.speech.vox2 import Vox2, Vox2Params

SpeechName = Literal["demo", "grid", "manifest", "mcorec", "lrs2", "vox2", "avyt", "mixture"]


@params
class SpeechDataParams:
    """One block a data set; a stage fails when more than `max_failed_fraction` of its clips do."""

    demo: SpeechDemoParams = field(default_factory=SpeechDemoParams)
    grid: GridParams = field(default_factory=GridParams)
    manifest: ManifestParams = field(default_factory=ManifestParams)
    mcorec: MCoRecParams = field(default_factory=MCoRecParams)
    lrs2: Lrs2Params = field(default_factory=Lrs2Params)
    vox2: Vox2Params = field(default_factory=Vox2Params)
    avyt: AvytParams = field(default_factory=AvytParams)
    mixture: MixtureParams = field(default_factory=MixtureParams)
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
        "mcorec": MCoRec(data.mcorec),
        "lrs2": Lrs2(data.lrs2),
        "vox2": Vox2(data.vox2),
        "avyt": Avyt(data.avyt),
    }
    return Mixture(data.mixture, sets) if name == "mixture" else sets[name]


def install_speech(dataset: SpeechSet, execution: ExecutionParams) -> tuple[list[Utterance], list[Word], list[Failed]]:
    """The table of a data set, its words, and the rows whose video or landmarks are missing or cannot be read.

    Raises InputError, before any of them is read, for clips of one name.
    """
    dataset.prepare(execution)
    rows = dataset.utterances()
    _check_keys(rows)
    names = sorted({name for row in rows for name in (row.video, row.landmarks) if name})
    digest = partial(_digest, dataset.folder())
    with ThreadPool() as pool:
        digests = dict(progress(pool.imap(digest, names, chunksize=4), "digests", len(names)))
    clips, failed = [], []
    for row in rows:
        found = [digests[name] for name in (row.video, row.landmarks) if name]
        reasons = [one.reason for one in found if isinstance(one, Failure)]
        if reasons:
            failed.append(Failed(row.key, row.video, reasons[0]))
        else:
            clips.append(_with_digests(row, [one for one in found if isinstance(one, str)]))
    return clips, _of(clips, dataset.words()), failed


def _check_keys(rows: Iterable[Utterance]) -> None:
    seen: dict[str, str] = {}
    for row in rows:
        if not is_key(row.key):
            raise InputError(f"{row.video}: a clip cannot be called {row.key!r}")
        if row.key in seen:
            raise InputError(f"clip {row.key!r} is there twice: {seen[row.key]} and {row.video} (remove one)")
        seen[row.key] = row.video


def _with_digests(row: Utterance, digests: list[str]) -> Utterance:
    return replace(row, sha256=digests[0], landmarks_sha256=digests[1] if row.landmarks else "")


def _of(clips: Iterable[Utterance], words: Iterable[Word]) -> list[Word]:
    there = {clip.key for clip in clips}
    return [word for word in words if word.clip in there]


def _digest(folder: Path, name: str) -> tuple[str, str | Failure]:
    try:
        path = locate(folder, name)
        part = tars.find(path)
        if part is None:  # reading a pipe or a device might never end
            return name, Failure(f"{name} is not a regular file" if path.exists() else f"{name} not found")
        return name, part.sha256()
    except (OSError, ValueError) as error:
        return name, Failure(f"cannot be read: {error}")
