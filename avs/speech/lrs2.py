"""LRS2 (Afouras et al., 2018): sentences from British television, as the BBC gives them out, or as AVYT's tars.

`main/ID/NUMBER.mp4` and `.txt` are the clips that `train.txt`, `val.txt` and `test.txt` list; `pretrain/…`, listed by
`pretrain.txt`, are longer, and their texts say when each word is said. Faces are 160×160: cutting mouths out of them
takes `NUMBER.npy` beside the video, or a detector. AVYT's `lrs2-SPLIT-*.tar` hold mouths.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import replace
from functools import cached_property
from pathlib import Path

from avs.core.clips import locate
from avs.core.errors import InputError
from avs.core.execute import ExecutionParams, progress
from avs.core.params import params
from avs.core.speech import Utterance, Word
from avs.speech.subset import check_taken, clip_key, limited, named, one_line
from avs.speech.webdataset import Shard, read_shards, shards

NAME = "lrs2"
SPLITS = {"pretrain": "train", "train": "train", "val": "val", "test": "test"}  # the kit's names of the published ones
SOURCE = (
    "LRS2 is given out by the BBC (www.bbc.co.uk/rd/projects/lip-reading-datasets): sign its agreement, for research "
    "without commerce, and put mvlrs_v1 and the lists there; or lrs2-SPLIT-*.tar of AVYT, for those who have signed"
)
_HEADER = "WORD START END ASDSCORE"
_MAX_TEXT = 1 << 20  # bytes


@params
class Lrs2Params:
    """folder: of mvlrs_v1, or tars; splits: of pretrain, train, val, test (tars: others too, such as
    test_snr_0_interferer_2); longest: seconds of a clip, to which pretrain is cut between words; limit: videos of a
    split, drawn."""

    folder: str = "data/lrs2"
    splits: tuple[str, ...] = ("pretrain", "train", "val", "test")
    longest: float = 16.0
    limit: int | None = None

    def __post_init__(self) -> None:
        check_taken(self.splits, None, self.limit)
        if not 0 < self.longest < math.inf:
            raise ValueError(f"longest ({self.longest}) must be seconds, above 0")


class Lrs2:
    def __init__(self, p: Lrs2Params) -> None:
        self._p = p

    def folder(self) -> Path:
        return Path(self._p.folder)

    def prepare(self, execution: ExecutionParams) -> None:
        if not self._tars and self._root is None:
            where = f"speech_data.lrs2.folder ({self.folder()})"
            raise InputError(f"{where} holds neither main nor pretrain nor lrs2-SPLIT-*.tar. {SOURCE}")

    def utterances(self) -> list[Utterance]:
        return [row for row, _ in self._rows]

    def words(self) -> list[Word]:
        return [word for _, words in self._rows for word in words]

    @cached_property
    def _tars(self) -> list[Shard]:
        return shards(self.folder(), (NAME,), {"valid": "val"})

    @cached_property
    def _root(self) -> Path | None:
        places = (self.folder(), self.folder() / "mvlrs_v1")
        return next((place for place in places for name in ("main", "pretrain") if (place / name).is_dir()), None)

    @cached_property
    def _rows(self) -> list[tuple[Utterance, list[Word]]]:
        if self._tars:
            return [(row, []) for row in read_shards(self.folder(), self._tars, self._p.splits, SPLITS, self._p.limit)]
        names = [(split, name) for split in self._p.splits for name in self._listed(split)]
        drawn = limited(names, self._p.limit, lambda pair: pair[0], lambda pair: pair[1])
        return [row for split, name in progress(drawn, "texts", len(drawn)) for row in self._clips(split, name)]

    def _listed(self, split: str) -> list[str]:
        """ID/NUMBER of the videos of a split. Raises InputError where its list is not there, or is none."""
        root = self._root
        assert root is not None  # as `prepare` has found
        if split not in SPLITS:
            raise InputError(f"speech_data.lrs2.splits ({split!r}): LRS2 has {', '.join(SPLITS)}; AVYT's tars, others")
        path = next((p for p in (root / f"{split}.txt", root.parent / f"{split}.txt") if p.is_file()), None)
        if path is None:
            raise InputError(f"{root}: no list {split}.txt in it, nor beside it: get it, or change splits")
        lines = [line.split() for line in path.read_text(encoding="utf-8", errors="replace").splitlines()]
        names = list(dict.fromkeys(line[0] for line in lines if line))
        if odd := [name for name in names if name.count("/") != 1]:
            raise InputError(f"{path}: {odd[0]!r} must be ID/NUMBER")
        return names

    def _clips(self, split: str, name: str) -> list[tuple[Utterance, list[Word]]]:
        root = self._root
        assert root is not None
        part = "pretrain" if split == "pretrain" else "main"
        video = locate(root, f"{part}/{name}.mp4")
        text, words = read_text(video.with_suffix(".txt")) if video.exists() else ("", [])
        key, (where, landmarks) = clip_key(split, name), named(self.folder(), video)
        whole = Utterance(key, NAME, SPLITS[split], where, 0, 0, text, name.split("/")[0], "", landmarks)
        if not words or words[-1].end <= self._p.longest:
            return [(whole, [replace(word, clip=key) for word in words])]
        return [_piece(whole, number, piece) for number, piece in enumerate(cut(words, self._p.longest))]


def _piece(whole: Utterance, number: int, words: Sequence[Word]) -> tuple[Utterance, list[Word]]:
    key, start, text = f"{whole.key}_{number:02d}", words[0].start, " ".join(word.word for word in words)
    row = replace(whole, key=key, start=start, end=words[-1].end, transcript=text)
    return row, [Word(key, word.word, round(word.start - start, 3), round(word.end - start, 3)) for word in words]


def read_text(path: Path) -> tuple[str, list[Word]]:
    """What is said, and the words with their times (clips left empty) where the file has them.

    Raises InputError naming the line that is wrong.
    """
    if not path.is_file() or path.stat().st_size > _MAX_TEXT:
        raise InputError(f"{path}: not there, not a regular file, or larger than {_MAX_TEXT} bytes")
    lines = path.read_text(encoding="utf-8", errors="replace").splitlines()
    if not lines or not lines[0].startswith("Text:"):
        raise InputError(f"{path}, line 1: must be Text: and what is said")
    text = one_line(lines[0].removeprefix("Text:").replace("{", "").replace("}", ""))
    words: list[Word] = []
    if _HEADER in lines:
        begin = lines.index(_HEADER) + 1
        words = [_word(path, number, line) for number, line in enumerate(lines[begin:], begin + 1) if line.strip()]
    return text, words


def _word(path: Path, number: int, line: str) -> Word:
    try:
        word, start, end, _ = line.split()
        if 0 <= float(start) <= float(end) < math.inf:
            return Word("", word.strip("{}"), float(start), float(end))
    except ValueError:
        pass
    raise InputError(f"{path}, line {number}: must be {_HEADER}, in seconds: {line[:80]!r}")


def cut(words: Sequence[Word], longest: float) -> list[list[Word]]:
    """Pieces of at most `longest` seconds from their first word to their last; a word that is longer is one alone."""
    pieces: list[list[Word]] = []
    for word in words:
        if pieces and word.end - pieces[-1][0].start <= longest:
            pieces[-1].append(word)
        else:
            pieces.append([word])
    return pieces
