"""Files in plain tars, read where they lie: the path `shard-0.tar/000.video` leads into one, and nothing is unpacked.

A tar from elsewhere is walked header by header: each step goes forward, and no header is larger than `_MAX_HEADER`, so
that a hostile one neither runs for ever nor fills the memory; without unpacking, no name can lead anywhere.
"""

from __future__ import annotations

import hashlib
import os
import tarfile
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from functools import lru_cache
from pathlib import Path
from typing import IO

from avs.core.errors import InputError

MAX_FILES = 1_000_000  # of a tar
_MAX_HEADER = 1 << 16  # bytes that a long name or other extension may take
_BLOCK = 512
_CHUNK = 1 << 20
_LONG_NAME = tarfile.GNUTYPE_LONGNAME
_EXTENSIONS = (tarfile.XHDTYPE, tarfile.SOLARIS_XHDTYPE, _LONG_NAME)


@dataclass(frozen=True)
class Part:
    """`size` bytes of the file at `path`, from `start` on; all of it unless `inside` a tar."""

    path: Path
    start: int
    size: int
    inside: bool

    def read(self, limit: int) -> bytes:
        """The bytes. Raises InputError where there are more than `limit`."""
        if self.size > limit:
            raise InputError(f"{self.path}: {self.size} bytes, more than {limit}")
        with self.path.open("rb") as file:
            file.seek(self.start)
            return file.read(self.size)

    def sha256(self) -> str:
        """The SHA-256 of the bytes in hex."""
        digest, left = hashlib.sha256(), self.size
        with self.path.open("rb") as file:
            file.seek(self.start)
            while chunk := file.read(min(_CHUNK, left)):
                digest.update(chunk)
                left -= len(chunk)
        return digest.hexdigest()


def find(path: Path) -> Part | None:
    """A regular file, or one in a tar; None where there is neither. Raises InputError where the tar is none."""
    if path.is_file():
        return Part(path, 0, path.stat().st_size, inside=False)
    tar = next((parent for parent in path.parents if parent.suffix == ".tar" and parent.is_file()), None)
    return contents(tar).get(path.relative_to(tar).as_posix()) if tar else None


def contents(path: Path) -> Mapping[str, Part]:
    """The files in a plain tar by their names, in its order. Raises InputError naming the member that makes it none."""
    if not path.is_file():  # a pipe would be waited for
        raise InputError(f"{path}: not there, or not a regular file")
    try:
        state = path.stat()
        return _contents(path, state.st_size, state.st_mtime_ns)
    except OSError as error:
        raise InputError(f"{path}: cannot be read: {error.strerror}") from error


@lru_cache(maxsize=8)
def _contents(path: Path, size: int, changed: int) -> Mapping[str, Part]:
    """What is in a tar in that state: many clips come from one."""
    found: dict[str, Part] = {}
    with path.open("rb") as file:
        for name, part in _walk(file, path, size):
            if name in found:
                raise InputError(f"{path}: {name!r} is in it twice")
            if len(found) == MAX_FILES:
                raise InputError(f"{path}: more than {MAX_FILES} files")
            found[name] = part
    return found


def _walk(file: IO[bytes], path: Path, size: int) -> Iterator[tuple[str, Part]]:
    """Names and places of the files; ends at a block of zeros, or where the tar does."""
    at, extension = 0, dict[str, str]()
    while (block := _read(file, at, _BLOCK)).strip(b"\0"):
        member = _header(block, path, at)
        extends = member.type in (*_EXTENSIONS, tarfile.XGLTYPE)
        start, length = at + _BLOCK, member.size if extends else int(extension.get("size", member.size))
        if length < 0 or start + length > size:
            raise InputError(f"{path}: cut off, or not a tar: {member.name!r} announces {length} bytes at {start}")
        if extends:
            if length > _MAX_HEADER:
                raise InputError(f"{path}: a header of {length} bytes at {at}, more than {_MAX_HEADER}")
            if member.type in _EXTENSIONS:
                extension |= _extension(member.type, _read(file, start, length), path, at)
        else:
            name = os.path.normpath(extension.get("path", member.name))
            if member.type != tarfile.DIRTYPE:
                _check(name, member, extension, path)
                yield name, Part(path, start, length, inside=True)
            extension = {}
        at = start + -(-length // _BLOCK) * _BLOCK


def _read(file: IO[bytes], at: int, count: int) -> bytes:
    file.seek(at)
    return file.read(count)


def _header(block: bytes, path: Path, at: int) -> tarfile.TarInfo:
    try:
        return tarfile.TarInfo.frombuf(block, "utf-8", "strict")
    except (tarfile.HeaderError, ValueError) as error:
        raise InputError(f"{path}: not a plain tar: no header at byte {at} ({error})") from None


def _extension(kind: bytes, data: bytes, path: Path, at: int) -> dict[str, str]:
    """What an extended header says: the name, and a pax header's `LENGTH KEY=VALUE` lines."""
    try:
        found = {"path": data.rstrip(b"\0").decode()} if kind == _LONG_NAME else dict(_records(data))
        int(found.get("size", 0))
        return found
    except ValueError:
        raise InputError(f"{path}: not a plain tar: a damaged header at byte {at}") from None


def _records(data: bytes) -> Iterator[tuple[str, str]]:
    at = 0
    while at < len(data):
        space = data.index(b" ", at, at + 10)
        end = at + int(data[at:space])
        if not space < end <= len(data):
            raise ValueError(f"no record at {at}")
        key, _, value = data[space + 1 : end].removesuffix(b"\n").decode().partition("=")
        yield key, value
        at = end


def _check(name: str, member: tarfile.TarInfo, extension: Mapping[str, str], path: Path) -> None:
    sparse = any(key.startswith("GNU.sparse") for key in extension)
    if member.type not in (tarfile.REGTYPE, tarfile.AREGTYPE) or sparse:
        raise InputError(f"{path}: {name!r} is a link, a device or sparse, not a plain file")
    if name.startswith(("/", "..")) or name == "." or "\\" in name or not name.isprintable():
        raise InputError(f"{path}: {name!r} must be a relative path without '..'")
