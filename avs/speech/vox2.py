"""VoxCeleb2 (Chung et al., 2018): celebrities who are interviewed, with texts that a recognizer wrote, or AVYT's tars.

`dev/mp4/idNNNNN/YOUTUBE/NNNNN.mp4` (or without `mp4`) is a video of a face, 224×224 with sound: cutting mouths out of
it takes `NNNNN.npy` beside the video, or a detector. The set itself has no text; nothing is taken that has none.
AVYT's `vox2-dev-*.tar` hold mouths and texts.
"""

from __future__ import annotations

import sys
from functools import cached_property
from pathlib import Path, PurePosixPath

from avs.core.clips import locate
from avs.core.errors import InputError
from avs.core.execute import ExecutionParams
from avs.core.params import params
from avs.core.speech import Utterance, Word
from avs.speech.subset import check_taken, clip_key, limited, named, one_line
from avs.speech.table import read_cells
from avs.speech.webdataset import Shard, read_shards, shards

NAME = "vox2"
SPLITS = {"dev": "train", "test": "test"}  # the kit's names of the published ones
SOURCE = (
    "VoxCeleb2 comes from www.robots.ox.ac.uk/~vgg/data/voxceleb, for research: put its mp4 there, and texts of your "
    "own, or of those who publish some; or vox2-dev-*.tar of AVYT, which hold both"
)


@params
class Vox2Params:
    """folder: of dev and test, or of tars; labels: in it, a table of video and transcript, or a folder of texts that
    have the videos' paths (`dev/mp4/…/00001.txt`); splits: of dev and test; limit: clips of a split, drawn."""

    folder: str = "data/vox2"
    labels: str = "labels.tsv"
    splits: tuple[str, ...] = ("dev",)
    limit: int | None = None

    def __post_init__(self) -> None:
        check_taken(self.splits, SPLITS, self.limit)


class Vox2:
    def __init__(self, p: Vox2Params) -> None:
        self._p = p

    def folder(self) -> Path:
        return Path(self._p.folder)

    def prepare(self, execution: ExecutionParams) -> None:
        where = f"speech_data.vox2.folder ({self.folder()})"
        if self._tars:
            return
        if absent := [split for split in self._p.splits if not (self.folder() / split).is_dir()]:
            raise InputError(f"{where} holds neither {absent[0]} nor vox2-SPLIT-*.tar. {SOURCE}")
        if not locate(self.folder(), self._p.labels).exists():
            raise InputError(f"{where} holds no {self._p.labels} (speech_data.vox2.labels). {SOURCE}")

    def utterances(self) -> list[Utterance]:
        return self._rows

    def words(self) -> list[Word]:
        return []

    @cached_property
    def _tars(self) -> list[Shard]:
        return shards(self.folder(), (NAME,))

    @cached_property
    def _rows(self) -> list[Utterance]:
        if self._tars:
            return read_shards(self.folder(), self._tars, self._p.splits, SPLITS, self._p.limit)
        path = locate(self.folder(), self._p.labels)
        texts = _folder(path) if path.is_dir() else _table(path)
        videos = [path for split in self._p.splits for path in sorted((self.folder() / split).rglob("*.mp4"))]
        names = {path: _name(path.relative_to(self.folder()).as_posix()) for path in videos}
        there = [path for path in videos if texts.get(names[path])]
        print(f"{NAME}: {len(there)} of {len(videos)} videos have a text, the others are left out", file=sys.stderr)
        drawn = limited(there, self._p.limit, lambda path: names[path].split("/")[0], lambda path: names[path])
        return [self._row(path, names[path], texts[names[path]]) for path in drawn]

    def _row(self, path: Path, name: str, text: str) -> Utterance:
        split, *_ = parts = name.split("/")
        if len(parts) < 3:
            raise InputError(f"{path}: must lie in the folder of a person, {split}/mp4/idNNNNN")
        video, landmarks = named(self.folder(), path)
        return Utterance(clip_key(name), NAME, SPLITS[split], video, 0, 0, text, parts[1], "", landmarks)


def _name(path: str) -> str:
    """What a video and its text have in common: the path below the set, without `mp4` and the file's kind."""
    return "/".join(
        part for part in PurePosixPath(path.removesuffix(".mp4").removesuffix(".txt")).parts if part != "mp4"
    )


def _table(path: Path) -> dict[str, str]:
    texts: dict[str, str] = {}
    for line, cells in read_cells(path, ("video", "transcript")):
        name = _name(cells["video"])
        if not name or name in texts:
            raise InputError(f"{path}, line {line}: video ({cells['video']!r}) must be a path, and there once")
        texts[name] = one_line(cells["transcript"])
    return texts


def _folder(folder: Path) -> dict[str, str]:
    texts = {}
    for path in folder.rglob("*.txt"):
        if not path.is_file():  # a pipe would be waited for
            continue
        try:
            texts[_name(path.relative_to(folder).as_posix())] = one_line(path.read_text(encoding="utf-8"))
        except UnicodeDecodeError as error:
            raise InputError(f"{path}: is no UTF-8 text: {error}") from None
    return texts
