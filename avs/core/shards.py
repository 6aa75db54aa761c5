"""Plain tars whose bytes are the same on every machine: many clips a file, each read from where it starts."""

from __future__ import annotations

import io
import tarfile
from collections.abc import Callable, Iterator, Sequence
from pathlib import Path
from typing import IO, TypeVar

from avs.core.store import atomic

Item = TypeVar("Item")
Row = TypeVar("Row")

SHARD_BYTES = 64 << 20


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


def read_first(file: IO[bytes]) -> tuple[str, bytes]:
    """Name and content of the member at which the file stands, and no byte of those behind it."""
    with tarfile.open(fileobj=file, mode="r:") as tar:
        member = tar.next()
        assert member is not None, "nothing begins here"
        content = tar.extractfile(member)
        assert content is not None, f"{member.name} is not a file"
        return member.name, content.read()


def read_members(file: IO[bytes], limit: int | None = None) -> Iterator[tuple[str, bytes]]:
    """Names and contents from where the file stands, `limit` of them at most."""
    with tarfile.open(fileobj=file, mode="r|") as tar:
        for number, member in enumerate(tar, 1):
            content = tar.extractfile(member)
            assert content is not None, f"{member.name} is not a file"
            yield member.name, content.read()
            if number == limit:
                return
