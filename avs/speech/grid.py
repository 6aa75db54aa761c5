"""GRID (Cooke et al., JASA 2006): 34 people, 1000 sentences of six words each, in the public layout or an excerpt's.

The public layout is a folder a speaker (`s1/…/bbaf2n.mpg`) and alignments (`…/s1/bbaf2n.align`, or `s1/align/…`), in
units of 1/25000 s. An excerpt has `lips.tsv` or `faces.tsv`, with its splits, and maybe `words.tsv`.
"""

from __future__ import annotations

import hashlib
import re
import sys
from collections.abc import Iterable
from functools import cached_property
from pathlib import Path

from filelock import FileLock

from avs.core.archive import unpack
from avs.core.download import UnreachableError, resume
from avs.core.errors import InputError
from avs.core.execute import ExecutionParams
from avs.core.params import params
from avs.core.speech import Utterance, Word
from avs.core.store import raw_root, sha256_file, write_json
from avs.speech.table import read_cells, seconds

NAME = "grid"
URL = "https://zenodo.org/records/3625687/files/{name}?download=1"
TERMS = (
    "GRID: CC BY 4.0; cite M. Cooke, J. Barker, S. Cunningham, X. Shao: An audio-visual corpus for speech perception "
    "and automatic speech recognition, JASA 120 (5), 2006. It shows real people: do not use it to identify anyone."
)
UNITS = 25_000  # of an alignment, a second
MAX_BYTES = 4 << 30  # of a part of the archive
SPEAKERS = tuple(number for number in range(1, 35) if number != 21)  # there are no pictures of the 21st
_TABLES = ("lips", "faces")
_DIGITS = ("zero", "one", "two", "three", "four", "five", "six", "seven", "eight", "nine")
_TIMES = re.compile(r"[0-9]{1,9} [0-9]{1,9}")
_SPEAKER = re.compile(r"s([1-9]|[12]\d|3[0-4])")
_WORDS = (
    {"b": "bin", "l": "lay", "p": "place", "s": "set"},
    {"b": "blue", "g": "green", "r": "red", "w": "white"},
    {"a": "at", "b": "by", "i": "in", "w": "with"},
    {letter: letter for letter in "abcdefghijklmnopqrstuvxyz"},
    dict(zip("z123456789", _DIGITS, strict=True)),
    {"a": "again", "n": "now", "p": "please", "s": "soon"},
)
_COLUMNS = ("clip", "speaker", "video", "num_frames", "num_samples_16k", "transcript", "split")


@params
class GridParams:
    """folder: a local copy in either layout, with zips of the public record, or empty; table: of an excerpt.

    fetch: speakers that are downloaded.
    """

    folder: str = "data/grid"
    table: str = "lips"
    fetch: tuple[int, ...] = ()

    def __post_init__(self) -> None:
        if self.table not in _TABLES:
            raise ValueError(f"table ({self.table!r}) must be one of {', '.join(_TABLES)}")
        if unknown := [number for number in self.fetch if number not in SPEAKERS]:
            raise ValueError(f"fetch ({unknown[0]}) must be speakers from 1 to 34, without 21")


class Grid:
    def __init__(self, p: GridParams) -> None:
        self._p = p

    def folder(self) -> Path:
        """The user's copy, else where archives are unpacked."""
        given = Path(self._p.folder)
        there = (given / f"{self._p.table}.tsv").exists() or next(given.rglob("*.mpg"), None) is not None
        return given if there else raw_root() / "grid/unpacked"

    def prepare(self, execution: ExecutionParams) -> None:
        given = Path(self._p.folder)
        if self.folder() == given:
            return
        home = raw_root() / "grid"
        home.mkdir(parents=True, exist_ok=True)
        with FileLock(home / ".lock"):
            parts = [home / name for name in self._parts()]
            for path in parts:
                _download(path)
            for path in (*parts, *sorted(given.glob("*.zip"))):
                _unpack_once(path, home)
        if next(self.folder().rglob("*.mpg"), None) is None:
            raise InputError(
                f"speech_data.grid.folder ({given}) holds neither {self._p.table}.tsv nor any .mpg nor a zip of them "
                "(copy them there, or name the speakers to download: speech_data.grid.fetch)"
            )

    def _parts(self) -> list[str]:
        return [*(f"s{number}.zip" for number in self._p.fetch), *(["alignments.zip"] if self._p.fetch else [])]

    def utterances(self) -> list[Utterance]:
        table = self.folder() / f"{self._p.table}.tsv"
        return _excerpt(table) if table.exists() else [row for row, _ in self._corpus]

    def words(self) -> list[Word]:
        if not (self.folder() / f"{self._p.table}.tsv").exists():
            return [word for _, words in self._corpus for word in words]
        path = self.folder() / "words.tsv"
        return list(_excerpt_words(path)) if path.exists() else []

    @cached_property
    def _corpus(self) -> list[tuple[Utterance, list[Word]]]:
        folder = self.folder()
        alignments = {_place(path, folder): path for path in folder.rglob("*.align")}
        found = []
        for path in sorted(folder.rglob("*.mpg")):
            who, name = _place(path, folder)
            key = f"{who}_{name}"
            words = _aligned(key, alignments[who, name]) if (who, name) in alignments else []
            text = " ".join(word.word for word in words) or spelt(name)
            if not text:
                raise InputError(f"{path}: no alignment of it, and its name spells no sentence of GRID")
            video = path.relative_to(folder).as_posix()
            found.append((Utterance(key, NAME, split_of(text), video, 0, 0, text, who, ""), words))
        return found


def spelt(name: str) -> str:
    """The sentence that a file is named after: bbaf2n is "bin blue at f two now"; '' where it is none."""
    if len(name) != len(_WORDS) or not all(letter in words for letter, words in zip(name, _WORDS, strict=True)):
        return ""
    return " ".join(words[letter] for letter, words in zip(name, _WORDS, strict=True))


def split_of(sentence: str) -> str:
    """By the SHA-256 of its text: the first ten twelfths are for training, one for val and one for test."""
    place = int(hashlib.sha256(sentence.encode()).hexdigest()[:8], 16) / 2**32
    return "train" if place < 10 / 12 else "val" if place < 11 / 12 else "test"


def _place(path: Path, folder: Path) -> tuple[str, str]:
    """The speaker, which is the last folder of such a name, and the sentence."""
    who = [part for part in path.relative_to(folder).parts[:-1] if _SPEAKER.fullmatch(part)]
    if not who:
        raise InputError(f"{path}: in no folder of a speaker (s1 to s34)")
    return who[-1], path.stem


def _aligned(clip: str, path: Path) -> list[Word]:
    words = []
    for number, line in enumerate(path.read_text(encoding="utf-8", errors="replace").splitlines(), 1):
        match line.split():
            case []:
                continue
            case [start, end, word] if _TIMES.fullmatch(f"{start} {end}") and int(start) <= int(end):
                words.append(Word(clip, word.lower(), int(start) / UNITS, int(end) / UNITS))
            case _:
                raise InputError(f"{path}, line {number}: must be start, end and word, in 1/{UNITS} s: {line!r}")
    return [word for word in words if word.word not in ("sil", "sp")]


def _excerpt(table: Path) -> list[Utterance]:
    rows = []
    for line, cells in read_cells(table, _COLUMNS):
        if not (cells["clip"] and cells["video"] and cells["transcript"] and cells["split"]):
            raise InputError(f"{table}, line {line}: clip {cells['clip']!r}: video, transcript and split are needed")
        split = "val" if cells["split"] == "valid" else cells["split"]
        who, text = cells["speaker"], cells["transcript"]
        rows.append(Utterance(cells["clip"], NAME, split, cells["video"], 0, 0, text, who, ""))
    return rows


def _excerpt_words(path: Path) -> Iterable[Word]:
    for line, cells in read_cells(path, ("clip", "word", "start_s", "end_s")):
        where = f"{path}, line {line}: clip {cells['clip']!r}"
        start, end = (seconds(where, name, cells[name]) for name in ("start_s", "end_s"))
        yield Word(cells["clip"], cells["word"], start, end)


def _unpack_once(path: Path, home: Path) -> None:
    digest = sha256_file(path)
    record = home / f"{path.stem}-{digest[:12]}.json"
    if not record.exists():
        print(f"{path.name}: {path.stat().st_size} bytes, sha256 {digest}", file=sys.stderr)
        unpack(path, home / "unpacked")
        write_json(record, {"archive": path.name, "bytes": path.stat().st_size, "sha256": digest})


def _download(path: Path) -> None:
    """Bring a part of the public record, going on after each broken connection as long as something arrives."""
    if path.exists():
        return
    print(TERMS, file=sys.stderr)
    url, partial = URL.format(name=path.name), path.with_suffix(".partial")
    while True:
        before = partial.stat().st_size if partial.exists() else 0
        try:
            resume(url, partial, path.name, limit=MAX_BYTES)
            partial.replace(path)
            return
        except UnreachableError as reason:
            if not partial.exists() or partial.stat().st_size <= before:
                way_out = f"Run again to go on; or get it from {url} and put it at {path}"
                raise InputError(f"{path.name}: cannot be fetched ({reason}). {way_out}") from None
