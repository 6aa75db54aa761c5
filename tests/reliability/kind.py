"""What a kind of file from elsewhere is, and what several of them need."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Any

import numpy as np

from avs.core.clips import write_table
from avs.core.errors import InputError
from avs.core.media import MediaError
from avs.core.shards import add_member, write_shards

REFUSALS = (InputError, MediaError)  # what a user reads in one line
SECONDS = 2
Use = Callable[[Path, Path], Any]


@dataclass(frozen=True)
class Kind:
    """`good()` gives whole files; `use(path, folder)` reads one as the kit does, writing below `folder` only."""

    name: str
    good: Callable[[], list[bytes]]
    use: Use
    text: bool = False


def each(*looks: Callable[[], object]) -> None:
    """All that reads a file has its turn; the file is refused where all refuse it."""
    refused = []
    for look in looks:
        try:
            look()
        except REFUSALS as error:
            refused.append(error)
    if len(refused) == len(looks):
        raise refused[0]


def texts(*contents: str) -> Callable[[], list[bytes]]:
    return lambda: [content.encode() for content in contents]


def written(suffix: str, write: Callable[[Path], object]) -> bytes:
    with TemporaryDirectory() as folder:
        path = Path(folder) / f"file{suffix}"
        write(path)
        return path.read_bytes()


def put(path: Path, content: str | bytes) -> Path:
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_bytes(content if isinstance(content, bytes) else content.encode())
    return path


def sound(seconds: float = SECONDS) -> np.ndarray:
    return (8000 * np.sin(np.arange(round(seconds * 16000)) / 9)).astype(np.int16)


@dataclass(frozen=True)
class Shard:
    """A shard of items of the same members, and the table of rows beside it; `row(key, shard, offset)` makes one."""

    members: Mapping[str, bytes]
    row: Callable[[str, str, int], Any]
    keys: tuple[str, ...] = field(default=("a", "b"))

    def write(self, folder: Path) -> list[Any]:
        def append(tar: Any, shard: str, key: str) -> Any:
            offset = tar.offset
            for name, content in self.members.items():
                add_member(tar, f"{key}/{name}", content)
            return self.row(key, shard, offset)

        rows = write_shards(self.keys, folder, append)
        write_table(folder / "index.tsv", rows, type(rows[0]))
        return rows

    def good(self) -> list[bytes]:
        with TemporaryDirectory() as folder:
            self.write(Path(folder))
            return [(Path(folder) / "shard-00000.tar").read_bytes()]

    def beside(self, path: Path, folder: Path) -> Path:
        """The folder, with the file in the place of its shard."""
        self.write(folder)
        (folder / "shard-00000.tar").write_bytes(path.read_bytes())
        return folder
