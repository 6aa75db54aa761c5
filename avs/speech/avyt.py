"""AVYT: talking faces from YouTube as WebDataset tars, alone (`avyt-*.tar`) and mixed with others (`avyt-mix-*.tar`).

Clips of people who are silent have no text: a recognizer learns from them to write nothing.
"""

from __future__ import annotations

from functools import cached_property
from pathlib import Path

from avs.core.errors import InputError
from avs.core.execute import ExecutionParams
from avs.core.params import params
from avs.core.speech import Utterance, Word
from avs.speech.subset import check_taken
from avs.speech.webdataset import read_shards, shards

NAMES = ("avyt", "avyt-mix")
SPLITS = {"talking": "train", "silent": "train", "train": "train", "test": "test"}  # the last two are of avyt-mix
SOURCE = (
    "Get the folders avyt and avyt-mix of huggingface.co/datasets/nguyenvulebinh/AVYT; its videos belong to those who "
    "put them on YouTube: use them for research, and do not pass them on"
)


@params
class AvytParams:
    """folder: of the tars; splits: of talking and silent (avyt), train and test (avyt-mix); limit: clips of a split of
    each, drawn."""

    folder: str = "data/avyt"
    splits: tuple[str, ...] = ("talking", "silent", "train", "test")
    limit: int | None = None

    def __post_init__(self) -> None:
        check_taken(self.splits, SPLITS, self.limit)


class Avyt:
    def __init__(self, p: AvytParams) -> None:
        self._p = p

    def folder(self) -> Path:
        return Path(self._p.folder)

    def prepare(self, execution: ExecutionParams) -> None:
        if not shards(self.folder(), NAMES):
            where = f"speech_data.avyt.folder ({self.folder()})"
            raise InputError(f"{where} holds neither avyt-SPLIT-*.tar nor avyt-mix-SPLIT-*.tar. {SOURCE}")

    def utterances(self) -> list[Utterance]:
        return self._rows

    def words(self) -> list[Word]:
        return []

    @cached_property
    def _rows(self) -> list[Utterance]:
        return read_shards(self.folder(), shards(self.folder(), NAMES), self._p.splits, SPLITS, self._p.limit)
