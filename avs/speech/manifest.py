"""Speech of one's own: videos anywhere below a folder, and one table that says who says what in which part of which."""

from __future__ import annotations

from pathlib import Path

from avs.core.errors import InputError
from avs.core.execute import ExecutionParams
from avs.core.params import params
from avs.core.speech import Utterance, Word
from avs.speech.table import read_utterances, read_words


@params
class ManifestParams:
    """videos: the folder that videos and landmarks lie in; rows, words: tables."""

    videos: str = "data/speech_manifest/videos"
    rows: str = "data/speech_manifest/rows.tsv"
    words: str = "data/speech_manifest/words.tsv"


class Manifest:
    def __init__(self, p: ManifestParams) -> None:
        self._p = p

    def folder(self) -> Path:
        return Path(self._p.videos)

    def prepare(self, execution: ExecutionParams) -> None:
        if not self.folder().is_dir():
            raise InputError(f"speech_data.manifest.videos ({self.folder()}) is not a folder")

    def utterances(self) -> list[Utterance]:
        return read_utterances(Path(self._p.rows), self.folder())

    def words(self) -> list[Word]:
        return read_words(Path(self._p.words), [row.key for row in self.utterances()])
