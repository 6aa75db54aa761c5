"""Reads the tensors of a TensorFlow checkpoint (its .index and .data files) without TensorFlow.

The index is a LevelDB-style sorted table: blocks of prefix-compressed keys, a footer that points at the
index block, and for each key a BundleEntryProto that says where in the data file the tensor lies. Every
length and offset is checked before it is used, and nothing in the file can run code.
"""

from __future__ import annotations

import struct
from collections.abc import Iterator
from dataclasses import dataclass

import numpy as np

from avs.core.errors import InputError

_MAGIC = 0xDB4775248B80FB57
_FOOTER = 48
_BLOCK_TRAILER = 5  # one byte of compression type, four of checksum
_DT_FLOAT = 1
_VARINT, _FIXED64, _BYTES, _FIXED32 = 0, 1, 2, 5


def read_tensors(index: bytes, data: bytes) -> dict[str, np.ndarray]:
    """Return the float32 tensors of a one-shard checkpoint by name; entries of other types are left out.

    index: content of `variables.index`. data: content of `variables.data-00000-of-00001`.
    Checksums are not verified: pin the files by sha256. Raises InputError for a file that is not a
    checkpoint, or that is cut off, compressed, sharded or big-endian.
    """
    entries = dict(_table(index))
    _check_header(entries.pop(b"", b""))
    tensors = {}
    for key, value in entries.items():
        name, entry = key.decode(errors="backslashreplace"), _Entry.parse(value)
        if entry.dtype == _DT_FLOAT:
            tensors[name] = entry.tensor(data, name)
    return tensors


@dataclass(frozen=True)
class _Entry:
    """BundleEntryProto: where a tensor lies in the data file."""

    dtype: int
    shape: tuple[int, ...]
    offset: int
    size: int

    @classmethod
    def parse(cls, message: bytes) -> _Entry:
        dtype = offset = size = 0
        shape: tuple[int, ...] = ()
        for number, value in _fields(message):
            if number == 1:
                dtype = _integer(value)
            elif number == 2:
                shape = tuple(_dimension(dim) for field, dim in _fields(_message(value)) if field == 2)
            elif number == 4:
                offset = _integer(value)
            elif number == 5:
                size = _integer(value)
        return cls(dtype, shape, offset, size)

    def tensor(self, data: bytes, name: str) -> np.ndarray:
        count = 1
        for length in self.shape:
            count *= length
        if self.size != 4 * count or self.offset + self.size > len(data):
            raise InputError(
                f"checkpoint: {name} {self.shape} wants bytes {self.offset} to {self.offset + 4 * count}"
                f" of a data file of {len(data)}: fetch the checkpoint again"
            )
        return np.frombuffer(data, "<f4", count, self.offset).reshape(self.shape)


def _check_header(message: bytes) -> None:
    header = dict(_fields(message))
    if header.get(1) != 1 or header.get(2, 0) != 0:
        raise InputError("checkpoint: only one shard in little-endian order is supported")


def _dimension(message: int | bytes) -> int:
    return next((_integer(value) for number, value in _fields(_message(message)) if number == 1), 0)


def _table(file: bytes) -> Iterator[tuple[bytes, bytes]]:
    """Yield the (key, value) pairs of a sorted table, in order."""
    if len(file) < _FOOTER or struct.unpack("<Q", file[-8:])[0] != _MAGIC:
        raise InputError("checkpoint: not a TensorFlow index file (wrong magic number)")
    footer = file[-_FOOTER:]
    _, after_meta = _handle(footer, 0)
    handle, _ = _handle(footer, after_meta)
    for _, value in _block(file, handle):
        yield from _block(file, _handle(value, 0)[0])


def _block(file: bytes, handle: tuple[int, int]) -> Iterator[tuple[bytes, bytes]]:
    offset, size = handle
    if size < 4 or offset + size + _BLOCK_TRAILER > len(file) - _FOOTER:
        raise _truncated()
    if file[offset + size] != 0:
        raise InputError("checkpoint: a compressed index is not supported")
    block = file[offset : offset + size]
    restarts = struct.unpack("<I", block[-4:])[0]
    end = size - 4 - 4 * restarts
    key, at = b"", 0
    while at < end:
        shared, at = _varint(block, at)
        unshared, at = _varint(block, at)
        length, at = _varint(block, at)
        if shared > len(key) or at + unshared + length > end:
            raise _truncated()
        key = key[:shared] + block[at : at + unshared]
        at += unshared + length
        yield key, block[at - length : at]


def _handle(buffer: bytes, at: int) -> tuple[tuple[int, int], int]:
    offset, at = _varint(buffer, at)
    size, at = _varint(buffer, at)
    return (offset, size), at


def _fields(message: bytes) -> Iterator[tuple[int, int | bytes]]:
    """Yield (field number, value) of a protocol buffer message: an int, or the bytes of a nested one."""
    at = 0
    while at < len(message):
        tag, at = _varint(message, at)
        kind = tag & 7
        if kind == _VARINT:
            value, at = _varint(message, at)
            yield tag >> 3, value
            continue
        if kind == _BYTES:
            length, at = _varint(message, at)
        elif kind in (_FIXED32, _FIXED64):
            length = 4 if kind == _FIXED32 else 8
        else:
            raise _truncated()
        if at + length > len(message):
            raise _truncated()
        yield tag >> 3, message[at : at + length]
        at += length


def _varint(buffer: bytes, at: int) -> tuple[int, int]:
    value = 0
    for shift in range(0, 64, 7):
        if at >= len(buffer):
            break
        byte = buffer[at]
        at += 1
        value |= (byte & 0x7F) << shift
        if byte < 0x80:
            return value, at
    raise _truncated()


def _integer(value: int | bytes) -> int:
    if not isinstance(value, int):
        raise _truncated()
    return value


def _message(value: int | bytes) -> bytes:
    if not isinstance(value, bytes):
        raise _truncated()
    return value


def _truncated() -> InputError:
    return InputError("checkpoint: the index is damaged or cut off: fetch the checkpoint again")
