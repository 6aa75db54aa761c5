"""Zip archives from elsewhere: nothing in one leaves its folder, fills the disk or half-appears."""

from __future__ import annotations

import lzma
import stat
import sys
import unicodedata
import zipfile
import zlib
from collections.abc import Sequence
from pathlib import Path
from typing import NoReturn

from tqdm import tqdm

from avs.core.download import check_free
from avs.core.errors import InputError
from avs.core.store import atomic, item_key

MAX_FILES = 100_000
MAX_BYTES = 64 << 30
MAX_RATIO = 100  # media hardly shrinks, and text ten times at most
_SMALL = 1 << 20  # a file of up to so many bytes may shrink as it likes
_CHUNK = 1 << 20
_UNREADABLE = (zipfile.BadZipFile, zlib.error, lzma.LZMAError, EOFError, NotImplementedError, OSError)


def unpack(path: Path, folder: Path) -> None:
    """Unpack a zip into a folder; a file appears once it is whole and its checksum right, and is then kept.

    All names and sizes are checked before anything is written: a name that is absolute, leads out of the folder
    or clashes with another, a link, an encrypted file, and more files, bytes or compression than `MAX_FILES`,
    `MAX_BYTES` and `MAX_RATIO` are refused. Raises InputError naming archive and member, also for a lack of disk.
    """
    with _opened(path) as archive:
        absent = [member for member in checked_members(archive, path) if not _is_there(folder, member)]
        check_free(folder, sum(member.file_size for member in absent), f"unpacking {path.name}")
        _extract(archive, absent, folder, path)


def contents_key(path: Path) -> str:
    """A key of the names, sizes and checksums in a zip. Raises InputError for another kind of file."""
    with _opened(path) as archive:
        return item_key(members=[[m.orig_filename, m.file_size, m.CRC] for m in archive.infolist()])


def _opened(path: Path) -> zipfile.ZipFile:
    try:
        return zipfile.ZipFile(path)
    except (zipfile.BadZipFile, NotImplementedError, UnicodeDecodeError, OSError) as error:
        raise InputError(f"{path}: cannot be read as a zip: {error}") from error


def checked_members(archive: zipfile.ZipFile, path: Path) -> list[zipfile.ZipInfo]:
    """The files in an archive, once all of them are known to be harmless."""
    members = archive.infolist()
    if len(members) > MAX_FILES:
        raise InputError(f"{path.name}: {len(members)} files, more than {MAX_FILES}")
    for member in members:
        _check_member(member, path)
    packed, whole = (sum(getattr(m, name) for m in members) for name in ("compress_size", "file_size"))
    if whole > MAX_BYTES:
        raise InputError(f"{path.name}: {whole} bytes unpacked, more than {MAX_BYTES}")
    if packed > path.stat().st_size:
        raise InputError(f"{path.name}: its files overlap")
    files = [member for member in members if not member.is_dir()]
    _check_clashes(files, path)
    return files


def _check_member(member: zipfile.ZipInfo, path: Path) -> None:
    name, kind = member.orig_filename, stat.S_IFMT(member.external_attr >> 16)
    parts = name.removesuffix("/").split("/")
    if "\\" in name or "\0" in name or ":" in parts[0] or {"", ".", ".."} & set(parts):
        _refuse(path, member, "must be a relative path without '..'")
    if kind not in (0, stat.S_IFREG, stat.S_IFDIR):
        _refuse(path, member, "is a link or device, not a file")
    if member.flag_bits & 1:
        _refuse(path, member, "is encrypted")
    if member.file_size > max(_SMALL, MAX_RATIO * member.compress_size):
        _refuse(path, member, f"unpacks to {member.file_size} bytes from {member.compress_size}")


def _check_clashes(files: Sequence[zipfile.ZipInfo], path: Path) -> None:
    """Refuse names that are one on some file system, and a file where another name needs a folder."""
    seen: dict[str, str] = {}
    for member in files:
        name = _folded(member.filename)
        if name in seen:
            _refuse(path, member, f"clashes with {seen[name]!r}")
        seen[name] = member.filename
    for member in files:
        *parents, _ = _folded(member.filename).split("/")
        for depth in range(1, len(parents) + 1):
            if (above := "/".join(parents[:depth])) in seen:
                _refuse(path, member, f"clashes with {seen[above]!r}")


def _folded(name: str) -> str:
    return unicodedata.normalize("NFC", name).casefold()


def _refuse(path: Path, member: zipfile.ZipInfo, reason: str) -> NoReturn:
    raise InputError(f"{path.name}: {member.orig_filename!r} {reason}, nothing was unpacked")


def _is_there(folder: Path, member: zipfile.ZipInfo) -> bool:
    target = folder / member.filename
    return target.is_file() and target.stat().st_size == member.file_size


def _extract(archive: zipfile.ZipFile, members: Sequence[zipfile.ZipInfo], folder: Path, path: Path) -> None:
    total = sum(member.file_size for member in members)
    with tqdm(desc="unpack", total=total, unit="B", unit_scale=True, disable=not sys.stderr.isatty()) as bar:
        for member in members:
            try:
                with archive.open(member) as source, atomic(folder / member.filename) as file:
                    while chunk := source.read(_CHUNK):
                        file.write(chunk)
                        bar.update(len(chunk))
            except _UNREADABLE as error:
                raise InputError(f"{path.name}: {member.filename!r} cannot be unpacked: {error}") from error
