"""AVE (Tian et al., ECCV 2018): 4143 rows over 4097 ten-second videos, from the official archive or a copy of it."""

from __future__ import annotations

import json
import sys
from pathlib import Path

from filelock import FileLock

from avs.core.archive import contents_key, unpack
from avs.core.download import UnreachableError, check_free, resume
from avs.core.errors import InputError
from avs.core.execute import ExecutionParams
from avs.core.params import params
from avs.core.store import raw_root, sha256_file, write_json
from avs.datasets.annotations import Annotation, read_annotations
from avs.datasets.subsets import check_limit, limited, without_overlaps

_FILE = "1FjKwe79e0u96vdjIVwfRQ1V6SoDHe7kK"
URL = f"https://drive.usercontent.google.com/download?id={_FILE}&export=download&confirm=t"
SIZE = 5_665_119_358  # bytes of the archive; its authors publish no digest
SECONDS = 10
_VIDEOS = ("AVE", "videos")  # names of the folder of videos, in the official archive and elsewhere
TERMS = (
    "AVE: its authors state no licence. Its videos come from YouTube and belong to those who put them there: use them "
    "for research, do not pass them on, and cite Tian et al., Audio-Visual Event Localization in Unconstrained "
    "Videos, ECCV 2018."
)


@params
class AveParams:
    """Where AVE comes from: `folder`, if it holds the videos, else `archive`, else the download.

    annotations: the folder of Annotations.txt and its split files, if they are not with the videos; limit: rows
    a split, drawn by `seed`; drop_overlaps: leave out training rows whose video is in another split too.
    """

    folder: str = "data/ave"
    archive: str | None = None
    sha256: str | None = None
    annotations: str | None = None
    drop_overlaps: bool = False
    limit: int | None = None
    seed: int = 0

    def __post_init__(self) -> None:
        check_limit(self.limit)
        for name in ("folder", "archive", "annotations"):
            if (getattr(self, name) or "").startswith("~"):
                raise ValueError(f"{name} ({getattr(self, name)!r}) must be written out: ~ is a shell's word")
        if self.sha256 is not None and (len(self.sha256) != 64 or set(self.sha256) - set("0123456789abcdef")):
            raise ValueError(f"sha256 ({self.sha256!r}) must be 64 hex digits, or null")


class Ave:
    def __init__(self, p: AveParams) -> None:
        self._p = p

    def folder(self) -> Path:
        return next((path for name in _VIDEOS if (path := self._root() / name).is_dir()), self._root())

    def prepare(self, execution: ExecutionParams) -> None:
        if self._p.annotations:
            self.annotations()  # a mistake in them is found before anything is downloaded
        if not self._given():
            _unpack_once(self._archive(), self._home(), self._p)

    def annotations(self, check: bool = True) -> list[Annotation]:
        rows = read_annotations(self._annotations_path(), SECONDS, check)
        if check and not all(row.split for row in rows):
            raise InputError("AVE: no trainSet.txt or train_order.h5 beside Annotations.txt (set data.ave.annotations)")
        return limited(without_overlaps(rows) if self._p.drop_overlaps else rows, self._p.limit, self._p.seed)

    def _given(self) -> bool:
        """Whether `folder` holds an unpacked copy; one that the user has named, or put annotations into, must."""
        folder = Path(self._p.folder)
        found = any(_has_videos(place) for place in (folder, folder / "AVE_Dataset"))
        alone = (folder / "Annotations.txt").exists() and not self._p.annotations
        if not found and (alone or self._p.folder != AveParams.folder):
            raise InputError(
                f"data.ave.folder ({folder}) holds no videos: neither {' nor '.join(_VIDEOS)} nor any .mp4 "
                "(for annotations without them, set data.ave.annotations)"
            )
        return found

    def _annotations_path(self) -> Path:
        if self._p.annotations:
            return Path(self._p.annotations)
        root = self._root()
        if not (root / "Annotations.txt").exists():
            raise InputError(
                f"{root} holds no Annotations.txt (AVE is not there yet: dvc repro install@clips with dataset=ave; or "
                "its annotations are elsewhere: set data.ave.annotations)"
            )
        return root

    def _root(self) -> Path:
        folder = Path(self._p.folder) if self._given() else self._home() / "unpacked"
        return folder / "AVE_Dataset" if (folder / "AVE_Dataset").is_dir() else folder

    def _archive(self) -> Path:
        return Path(self._p.archive) if self._p.archive else self._home() / "AVE_Dataset.zip"

    def _home(self) -> Path:
        """A folder for the official archive, and one for each other, told apart by what it holds."""
        return raw_root() / (f"ave-{contents_key(self._archive())[:12]}" if self._p.archive else "ave")


def _has_videos(folder: Path) -> bool:
    return any((folder / name).is_dir() for name in _VIDEOS) or next(folder.glob("*.mp4"), None) is not None


def _unpack_once(archive: Path, home: Path, p: AveParams) -> None:
    """Fetch the archive unless it is the user's, check it and unpack it, unless all that was done."""
    record = home / "unpacked.json"
    home.mkdir(parents=True, exist_ok=True)
    with FileLock(home / ".lock"):
        if not record.exists():
            if not p.archive:
                _download(archive)
            digest = sha256_file(archive)
            print(f"{archive.name}: {archive.stat().st_size} bytes, sha256 {digest}", file=sys.stderr)
            _check_digest(archive, digest, p.sha256)
            unpack(archive, home / "unpacked")
            write_json(record, {"archive": archive.name, "bytes": archive.stat().st_size, "sha256": digest})
    _check_digest(record, json.loads(record.read_text())["sha256"], p.sha256)


def _check_digest(path: Path, actual: str, expected: str | None) -> None:
    if expected not in (None, actual):
        raise InputError(f"{path}: the archive's sha256 is {actual}, data.ave.sha256 is {expected}")


def _download(archive: Path) -> None:
    """Bring the official archive, going on after each broken connection as long as something arrives."""
    print(TERMS, file=sys.stderr)
    partial = archive.with_suffix(".partial")
    if not archive.exists():
        check_free(archive.parent, 2 * SIZE - _size(partial), "AVE, archive and videos,")
        while _size(partial) < SIZE:
            _fetch_more(partial, archive)
        partial.replace(archive)
    if _size(archive) != SIZE:
        raise InputError(f"{archive}: {_size(archive)} bytes, the official archive has {SIZE} (remove it, run again)")


def _fetch_more(partial: Path, archive: Path) -> None:
    before = _size(partial)
    try:
        resume(URL, partial, archive.name, limit=SIZE, size=SIZE)
    except UnreachableError as reason:
        if _size(partial) <= before:
            way_out = f"Run again to go on; or get it from {URL} and put it at {archive}"
            raise InputError(f"{archive.name}: cannot be fetched ({reason}). {way_out}") from None


def _size(path: Path) -> int:
    return path.stat().st_size if path.exists() else 0
