"""Content-addressed items and atomic files: what was finished is never redone, never lost and never read torn.

Items live outside the repository, so that every clone, experiment and process of a user shares them. An item's
key is the hash of all that its content depends on; an item's file carries the hash of its own payload.
"""

from __future__ import annotations

import hashlib
import io
import json
import os
import shutil
import sys
import tempfile
import time
from collections.abc import Callable, Iterable, Iterator, Sequence
from contextlib import contextmanager
from itertools import chain
from pathlib import Path
from typing import IO, Any, Literal

import numpy as np

from avs.core.errors import InputError

Compute = Callable[[list[int]], Iterable[tuple[int, np.ndarray]]]  # positions of keys → each with its array

_DIGEST_SIZE = 32
_STALE_SECONDS = 24 * 3600
_SETTLED_SECONDS = 2  # more than the coarsest time stamps of file systems


def root() -> Path:
    """The store's folder: `$AVS_STORE`, else `avs` in the user's cache folder."""
    chosen = os.environ.get("AVS_STORE")
    caches = os.environ.get("XDG_CACHE_HOME") or "~/.cache"
    return Path(chosen).expanduser().absolute() if chosen else Path(caches).expanduser() / "avs"


def raw_root() -> Path:
    """The folder of raw data sets: `$AVS_DATA_DIR`, else `raw` in the store."""
    chosen = os.environ.get("AVS_DATA_DIR")
    return Path(chosen).expanduser().absolute() if chosen else root() / "raw"


@contextmanager
def own_root(folder: Path) -> Iterator[None]:
    """For a while, a store and raw data of its own in `folder`; the weights are shared with the user's store."""
    before = {name: os.environ.get(name) for name in ("AVS_STORE", "AVS_DATA_DIR")}
    weights = root() / "weights"
    weights.mkdir(parents=True, exist_ok=True)
    (folder / "store").mkdir()
    (folder / "store/weights").symlink_to(weights)
    os.environ |= {"AVS_STORE": str(folder / "store"), "AVS_DATA_DIR": str(folder / "raw")}
    try:
        yield
    finally:
        for name, value in before.items():
            os.environ.pop(name) if value is None else os.environ.update({name: value})


def runs_root() -> Path | None:
    """The folder that results are copied to, `$AVS_RUNS_DIR`, if set. Raises InputError if it can't be written to."""
    chosen = os.environ.get("AVS_RUNS_DIR")
    if not chosen:
        return None
    folder = Path(chosen).expanduser().absolute()
    try:
        folder.mkdir(parents=True, exist_ok=True)
    except OSError as error:
        raise InputError(f"AVS_RUNS_DIR ({folder}) cannot be made: {error.strerror}") from error
    if not os.access(folder, os.W_OK):
        raise InputError(f"AVS_RUNS_DIR ({folder}) cannot be written to")
    return folder


def copy_results(stage: str, runs: Path, results: Path = Path("results")) -> None:
    """Copy what a stage left in its folder of `results`, if it has one, to `runs/<stage>`, with its params.yaml.

    The folder of `report@avs` is `report/avs`.
    """
    folder, target = results / stage.replace("@", "/"), runs / stage
    if not folder.is_dir():
        return
    files = {path.relative_to(folder): path for path in sorted(folder.rglob("*")) if path.is_file()}
    try:
        for name, path in (files | {Path("params.yaml"): Path("params.yaml")}).items():
            with atomic(target / name) as file, path.open("rb") as source:
                shutil.copyfileobj(source, file)
    except OSError as error:  # the results themselves are there: the stage has done its work
        print(f"{target}: results could not be copied: {error.strerror}", file=sys.stderr)


def sha256_file(path: str | os.PathLike[str]) -> str:
    """The SHA-256 of a file's bytes in hex."""
    with open(path, "rb") as file:
        return hashlib.file_digest(file, "sha256").hexdigest()


def known_sha256(path: Path) -> str:
    """`sha256_file`, which the store remembers as long as the file's place, inode, size and time stay the same.

    A file that has just been written is not remembered: it could change again without its time telling so.
    """
    known, state = ItemStore("digests"), path.stat()
    key = item_key(path=str(path.absolute()), inode=state.st_ino, size=state.st_size, changed=state.st_mtime_ns)
    if key in known:
        return known.load(key).decode()
    digest = sha256_file(path)
    if state.st_mtime < time.time() - _SETTLED_SECONDS:
        known.save(key, digest.encode())
    return digest


@contextmanager
def atomic(path: Path) -> Iterator[IO[bytes]]:
    """Open `path` for writing bytes; the file appears under its name only once it is whole."""
    path.parent.mkdir(parents=True, exist_ok=True)
    handle, name = tempfile.mkstemp(dir=path.parent, prefix=".partial-")
    try:
        with os.fdopen(handle, "wb") as file:
            yield file
        os.chmod(name, 0o666 & ~_umask())
        os.replace(name, path)
    except BaseException as error:
        Path(name).unlink(missing_ok=True)
        told = error.__context__ if isinstance(error, RuntimeError) else error  # torch.save buries what the disk said
        if isinstance(told, OSError) and told.filename is None:
            told.filename = str(path)  # writing to an open file doesn't tell which
            raise told from None
        raise


def write_json(path: Path, tree: Any) -> None:
    """Write JSON with sorted keys, so that equal content means equal bytes."""
    with atomic(path) as file:
        file.write((json.dumps(tree, indent=1, sort_keys=True, ensure_ascii=False) + "\n").encode())


def write_metrics(path: Path, tree: Any) -> None:
    """Write numbers rounded to six decimals, without those that are not defined (NaN)."""
    write_json(path, _rounded(tree))


def write_json_lines(path: Path, rows: Iterable[Any]) -> None:
    with atomic(path) as file:
        for row in rows:
            file.write((json.dumps(row, sort_keys=True, ensure_ascii=False) + "\n").encode())


def write_array(path: Path, array: np.ndarray) -> None:
    with atomic(path) as file:
        np.save(file, array, allow_pickle=False)


def read_array(path: Path) -> np.ndarray:
    """What `write_array` wrote. Raises InputError where it is gone, or another file."""
    try:
        return np.load(path, allow_pickle=False)
    except Exception as error:  # a damaged file can fail in any way
        raise InputError(f"{path}: cannot be read as .npy: {error} (run: dvc repro)") from error


def item_key(**parts: Any) -> str:
    """The key of an item that depends on `parts` (JSON values) and on nothing else."""
    return hashlib.sha256(json.dumps(parts, sort_keys=True).encode()).hexdigest()


class ItemStore:
    """Items of one kind: `kind/<first two digits of the key>/<key>`, each the payload after its SHA-256."""

    def __init__(self, kind: str) -> None:
        self.folder = root() / kind
        self.folder.mkdir(parents=True, exist_ok=True)

    def path(self, key: str) -> Path:
        return self.folder / key[:2] / key

    def __contains__(self, key: str) -> bool:
        return self.path(key).exists()

    def save(self, key: str, payload: bytes) -> None:
        with atomic(self.path(key)) as file:
            file.write(hashlib.sha256(payload).digest())
            file.write(payload)

    def load(self, key: str) -> bytes:
        """The payload; a damaged item is removed and reported, so that the next run makes it again."""
        content = self.path(key).read_bytes()
        digest, payload = content[:_DIGEST_SIZE], content[_DIGEST_SIZE:]
        if hashlib.sha256(payload).digest() != digest:
            self.path(key).unlink(missing_ok=True)
            raise InputError(f"stored item {self.path(key)} was damaged and has been removed: run the stage again")
        return payload

    def save_array(self, key: str, array: np.ndarray) -> None:
        buffer = io.BytesIO()
        np.save(buffer, array, allow_pickle=False)
        self.save(key, buffer.getvalue())

    def load_array(self, key: str) -> np.ndarray:
        return np.load(io.BytesIO(self.load(key)), allow_pickle=False)

    def missing(self, keys: Sequence[str]) -> list[int]:
        """Positions in `keys` of the items that have to be made, each distinct key once."""
        first = {key: position for position, key in reversed(list(enumerate(keys)))}
        return [position for key, position in sorted(first.items(), key=lambda pair: pair[1]) if key not in self]

    def pack(self, keys: Sequence[str], compute: Compute) -> tuple[np.ndarray, int]:
        """Stack the arrays of `keys`, made by `compute(positions)` where absent: ([N, ...], how many were made)."""
        made = self.make(keys, compute)
        arrays = self._arrays(keys)
        first = next(arrays)
        stacked = np.empty((len(keys), *first.shape), first.dtype)
        for place, array in enumerate(chain([first], arrays)):
            stacked[place] = array
        return stacked, made

    def pack_into(self, path: Path, keys: Sequence[str], compute: Compute) -> int:
        """Write what `pack` would give as `np.save` would, but array by array: they need not fit into memory."""
        made = self.make(keys, compute)
        arrays = self._arrays(keys)
        first = next(arrays)
        shape, kind = (len(keys), *first.shape), np.lib.format.dtype_to_descr(first.dtype)
        with atomic(path) as file:
            np.lib.format.write_array_header_1_0(file, {"descr": kind, "fortran_order": False, "shape": shape})
            for array in chain([first], arrays):
                file.write(np.ascontiguousarray(array).data)
        return made

    def make(self, keys: Sequence[str], compute: Compute) -> int:
        """Make the items of `keys` that are absent; how many that were.

        Each array is saved as soon as `compute` yields it, so interrupted work resumes where it stopped.
        """
        self.sweep()
        missing = self.missing(keys)
        for position, array in compute(missing):
            self.save_array(keys[position], array)
        return len(missing)

    def _arrays(self, keys: Sequence[str]) -> Iterator[np.ndarray]:
        """The arrays of `keys`, whose header is read once. Raises ValueError where one has another shape or type."""
        first = self.load(keys[0])
        one = np.load(io.BytesIO(first), allow_pickle=False)
        head = len(first) - one.nbytes
        order: Literal["C", "F"] = "C" if one.flags.c_contiguous else "F"
        yield one
        for key in keys[1:]:
            payload = self.load(key)
            if payload[:head] != first[:head]:
                raise ValueError(f"{self.path(key)} holds an array of another shape than {self.path(keys[0])}")
            yield np.frombuffer(payload, one.dtype, offset=head).reshape(one.shape, order=order)

    def sweep(self) -> None:
        """Remove what killed processes left half-written more than a day ago."""
        limit = time.time() - _STALE_SECONDS
        for leftover in self.folder.glob("*/.partial-*"):
            if leftover.stat().st_mtime < limit:
                leftover.unlink(missing_ok=True)


def _rounded(tree: Any) -> Any:
    if isinstance(tree, dict):
        return {key: _rounded(value) for key, value in tree.items() if value == value}
    if isinstance(tree, list):
        return [_rounded(value) for value in tree]
    return round(tree, 6) if isinstance(tree, float) else tree


def _umask() -> int:
    current = os.umask(0)
    os.umask(current)
    return current
