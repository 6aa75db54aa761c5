"""Plain tars whose bytes are the same on every machine: many clips a file, each read from where it starts."""

from __future__ import annotations

import io
import json
import os
import tarfile
from collections.abc import Callable, Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager, suppress
from pathlib import Path
from typing import IO, Any, NamedTuple, TypeVar

from avs.core.errors import InputError
from avs.core.execute import running
from avs.core.store import ItemStore, atomic, item_key

Item = TypeVar("Item")
Row = TypeVar("Row")
Facts = dict[str, Any]

SHARD_BYTES = 64 << 20
VERSION = 1  # raise when the bytes of a shard change, or what is told of its items


class Named(NamedTuple):
    """An item of a store by its key, and the folder of its members in a shard."""

    key: str
    name: str


def write_shards(
    items: Sequence[Item], out: Path, append: Callable[[tarfile.TarFile, str, Item], Row], size: int = SHARD_BYTES
) -> list[Row]:
    """Write `shard-*.tar` of about `size` bytes; `append(tar, shard, item)` adds an item and gives its row."""
    rows: list[Row] = []
    shards = 0
    while len(rows) < len(items):
        name = f"shard-{shards:05d}.tar"
        with (
            atomic(out / name) as file,
            tarfile.open(fileobj=file, mode="w", format=tarfile.PAX_FORMAT) as tar,
        ):
            while len(rows) < len(items) and tar.offset < size:
                rows.append(append(tar, name, items[len(rows)]))
        shards += 1
    return rows


def pack_shards(
    store: ItemStore,
    items: Sequence[Named],
    out: Path,
    unpack: Callable[[bytes], tuple[dict[str, bytes], Facts]],
    size: int = SHARD_BYTES,
) -> list[Facts]:
    """Write `shard-*.tar` of the items; of each, the facts that `unpack` tells (JSON values), `shard` and `offset`.

    `unpack(payload)` gives the members to write, too. Where shards end depends on the items around, not on all that
    come before: one more item changes the shard that it is in and at times the next. The others are taken whole
    from where they were written last, as long as a workspace or DVC's cache still has them.
    """
    groups = _cut(store, items, size)
    names = [f"shard-{number:05d}.tar" for number in range(len(groups))]
    kept = _KeptShards()

    def write(name: str, group: Sequence[Named]) -> list[Facts]:
        facts = kept.take(group, out / name)
        if facts is None:
            facts = _write(store, group, out / name, unpack)
            kept.keep(group, out / name, facts)
        return [fact | {"shard": name} for fact in facts]

    with running(ThreadPoolExecutor()) as pool:
        rows = [row for rows in pool.map(write, names, groups) for row in rows]
    kept.sweep()
    return rows


def _cut(store: ItemStore, items: Sequence[Named], size: int) -> list[list[Named]]:
    """Half to twice of `size` a group: past the half, each sixteenth item ends it, which its key says."""
    groups: list[list[Named]] = []
    full, ends = 2 * size, True
    for item in items:
        if full >= 2 * size or (full >= size / 2 and ends):
            groups.append([])
            full = 0
        groups[-1].append(item)
        full += store.path(item.key).stat().st_size
        ends = item.key.startswith("0")
    return groups


def _write(
    store: ItemStore, group: Sequence[Named], path: Path, unpack: Callable[[bytes], tuple[dict[str, bytes], Facts]]
) -> list[Facts]:
    rows = []
    with atomic(path) as file, tarfile.open(fileobj=file, mode="w", format=tarfile.PAX_FORMAT) as tar:
        for key, name in group:
            members, facts = unpack(store.load(key))
            rows.append(facts | {"offset": tar.offset})
            for member, content in members.items():
                add_member(tar, f"{name}/{member}", content)
    return rows


class _KeptShards:
    """Shards as second names (hard links) of files that were written out, so that they take no room of their own.

    Beside each, an item tells its rows and the state in which it was left; in another it is not used again.
    """

    def __init__(self) -> None:
        self._rows = ItemStore("shards")

    def take(self, group: Sequence[Named], path: Path) -> list[Facts] | None:
        """Put the shard of these items at `path` and tell its rows; None where there is none."""
        key = self._key(group)
        if key not in self._rows:
            return None
        known = json.loads(self._rows.load(key))
        with suppress(OSError):  # it is gone, or `path` is on another disk
            if known["state"] == _state(self._tar(key)):
                path.parent.mkdir(parents=True, exist_ok=True)
                path.unlink(missing_ok=True)
                os.link(self._tar(key), path)
                return known["rows"]
        return None

    def keep(self, group: Sequence[Named], path: Path, rows: list[Facts]) -> None:
        key = self._key(group)
        tar = self._tar(key)
        with suppress(OSError):  # on another disk there are no second names: it will be written again
            tar.parent.mkdir(exist_ok=True)
            tar.unlink(missing_ok=True)
            os.link(path, tar)
            self._rows.save(key, json.dumps({"state": _state(tar), "rows": rows}).encode())

    def sweep(self) -> None:
        """Remove what nobody else has any more."""
        self._rows.sweep()
        for tar in self._rows.folder.glob("*/*.tar"):
            with suppress(FileNotFoundError):  # another process was quicker
                if tar.stat().st_nlink == 1:
                    tar.unlink()
                    self._rows.path(tar.stem).unlink()

    def _tar(self, key: str) -> Path:
        return self._rows.path(key).with_suffix(".tar")

    @staticmethod
    def _key(group: Sequence[Named]) -> str:
        return item_key(version=VERSION, items=group)


def _state(path: Path) -> list[int]:
    """What changes when a file does, as DVC judges it."""
    found = path.stat()
    return [found.st_ino, found.st_size, found.st_mtime_ns]


def packed(members: dict[str, bytes]) -> bytes:
    """A small tar of its own."""
    item = io.BytesIO()
    with tarfile.open(fileobj=item, mode="w", format=tarfile.USTAR_FORMAT) as tar:
        for name, content in members.items():
            add_member(tar, name, content)
    return item.getvalue()


def add_member(tar: tarfile.TarFile, name: str, content: bytes) -> None:
    """Add a file whose header holds nothing that differs between machines or runs."""
    info = tarfile.TarInfo(name)
    info.size = len(content)
    tar.addfile(info, io.BytesIO(content))


@contextmanager
def item_at(path: Path, offset: int, *, buffering: int = -1) -> Iterator[IO[bytes]]:
    """A shard, open where an item begins, to read the item and make sense of it.

    Raises InputError that names the place for whatever goes wrong with that.
    """
    try:
        with path.open("rb", buffering) as file:
            file.seek(offset)
            yield file
    except InputError:
        raise
    except Exception as error:  # a damaged file can fail in any way
        raise InputError(f"{path}, byte {offset}: damaged, or another file: {error!r} (run: dvc repro)") from error


def read_first(file: IO[bytes]) -> tuple[str, bytes]:
    """Name and content of the member at which the file stands, and no byte of those behind it."""
    with tarfile.open(fileobj=file, mode="r:") as tar:
        member = tar.next()
        if member is None:
            raise ValueError("nothing begins here")
        return member.name, _content(tar, member)


def read_members(file: IO[bytes], limit: int | None = None) -> Iterator[tuple[str, bytes]]:
    """Names and contents from where the file stands, `limit` of them at most."""
    with tarfile.open(fileobj=file, mode="r|") as tar:
        for number, member in enumerate(tar, 1):
            yield member.name, _content(tar, member)
            if number == limit:
                return


def _content(tar: tarfile.TarFile, member: tarfile.TarInfo) -> bytes:
    content = None if member.issparse() else tar.extractfile(member)  # of a hole a few bytes can claim any size
    if content is None:
        raise ValueError(f"{member.name!r} is not a plain file")
    return content.read()
