"""Files of torch.save read as data: only tensors are built, every other class stays an inert description of itself.

A pickle is a program, and `weights_only=True` still lets it ask for memory without end and calls what its host
has allowed. This reader knows the names that weights need, calls nothing else, and believes no declared size
that the file itself cannot hold.
"""

from __future__ import annotations

import io
import math
import pickle
import struct
import zipfile
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Any, BinaryIO, ClassVar

import torch
from torch import Tensor

from avs.core.archive import checked_members
from avs.core.errors import InputError

MAX_BYTES = 16 << 30  # of all tensors of a file: views of little memory can claim more than any machine has
MAX_PICKLE = 8 << 20  # all but the tensors' numbers; published checkpoints need less than one megabyte
MAX_DIMS = 16
MAX_PARTS = 100_000  # modules and tensors of a TorchScript archive
MAX_NAME = 1000  # characters of a tensor's name in one
_TOLD = 80  # characters of a value in a message

_LEGACY_MAGIC = 0x1950A86A20F9469CFC6C
_LEGACY_PROTOCOL = 1001
_STORAGES = {
    "torch.DoubleStorage": torch.float64,
    "torch.FloatStorage": torch.float32,
    "torch.HalfStorage": torch.float16,
    "torch.BFloat16Storage": torch.bfloat16,
    "torch.LongStorage": torch.int64,
    "torch.IntStorage": torch.int32,
    "torch.ShortStorage": torch.int16,
    "torch.CharStorage": torch.int8,
    "torch.ByteStorage": torch.uint8,
    "torch.BoolStorage": torch.bool,
}
# What published checkpoints hold beside their tensors: described, never built.
_INERT = {
    "__builtin__.long",
    "argparse.Namespace",
    "fairseq.data.dictionary.Dictionary",
    "fairseq.data.encoders.sentencepiece_bpe.SentencepieceBPE",
    "numpy._core.multiarray._reconstruct",
    "numpy._core.multiarray.scalar",
    "numpy.core.multiarray._reconstruct",
    "numpy.core.multiarray.scalar",
    "numpy.dtype",
    "numpy.dtypes.Int64DType",
    "numpy.ndarray",
    "sentencepiece.SentencePieceProcessor",
}
_SCRIPT = "__torch__."  # how the classes of TorchScript are called
_LISTS = {f"torch.jit._pickle.build_{kind}list" for kind in ("int", "double", "bool", "tensor")}
# The instructions of torch.save's own pickles (protocol 2), and what later protocols write in their place.
_INSTRUCTIONS = (
    "PROTO STOP MARK FRAME MEMOIZE GLOBAL STACK_GLOBAL REDUCE BUILD NEWOBJ BINPERSID "
    "BINPUT LONG_BINPUT BINGET LONG_BINGET NONE NEWTRUE NEWFALSE BININT BININT1 BININT2 LONG1 BINFLOAT "
    "BINUNICODE SHORT_BINUNICODE SHORT_BINBYTES BINBYTES EMPTY_TUPLE TUPLE TUPLE1 TUPLE2 TUPLE3 "
    "EMPTY_LIST APPEND APPENDS EMPTY_DICT SETITEM SETITEMS"
)


@dataclass
class Inert:
    """An object of a file that was not built: the name of its class, what it would be made of, and its state."""

    name: str
    args: tuple[Any, ...] = ()
    state: Any = None


def told(value: Any) -> str:
    """A value of a file, for a message: lists that hold each other many times over would have no end in print."""
    return repr(value)[:_TOLD] if isinstance(value, str | int | float | None) else f"a {type(value).__name__}"


class _Refused(Exception):
    pass


def read_pickle(path: Path) -> Any:
    """Return what torch.save wrote, in its zip or its older layout, with tensors on the CPU.

    Of a TorchScript archive, the tensors by their names; its code, which could write files while it is loaded, is not
    looked at.
    Classes that are no part of weights, but known to lie beside them, come as `Inert`. Raises InputError for any
    other class or function, by its name, and for a file that is damaged or claims more than it holds.
    """
    try:
        with path.open("rb") as file:
            if not zipfile.is_zipfile(file):
                file.seek(0)
                return _read_legacy(file)
        with zipfile.ZipFile(path) as archive:
            return _read_zip(archive, path)
    except InputError:
        raise
    except _Refused as reason:
        raise InputError(f"{path}: {reason}") from None
    except Exception as error:  # a damaged file can fail in any way, a missing one as OSError
        raise InputError(f"{path}: cannot be read: {error or type(error).__name__}") from error


def _read_zip(archive: zipfile.ZipFile, path: Path) -> Any:
    members = {member.filename: member for member in checked_members(archive, path)}
    roots = [name.removesuffix("data.pkl") for name in members if name.count("/") == 1 and name.endswith("/data.pkl")]
    if len(roots) != 1:
        raise _Refused("is a zip, but not one of torch.save: it has no single data.pkl")
    (root,) = roots
    code = f"{root}code/"
    stored = zipfile.ZIP_STORED
    if any(member.compress_type != stored for name, member in members.items() if not name.startswith(code)):
        raise _Refused("is compressed, which torch.save never does")
    if f"{root}byteorder" in members and archive.read(f"{root}byteorder") != b"little":
        raise _Refused("was written by a big-endian machine: save it again on this kind")

    def storage(key: str, dtype: torch.dtype, count: int) -> Tensor:
        if f"{root}data/{key}" not in members:
            raise _Refused(f"storage {key} is absent")
        data = bytearray(archive.read(f"{root}data/{key}"))
        if len(data) != count * dtype.itemsize:
            raise _Refused(f"storage {key} holds {len(data)} bytes and declares {count * dtype.itemsize}")
        return torch.frombuffer(data, dtype=dtype) if data else torch.empty(0, dtype=dtype)

    if members[f"{root}data.pkl"].file_size > MAX_PICKLE:
        raise _Refused(f"its data.pkl is larger than {MAX_PICKLE} bytes")
    content = _Unpickler(io.BytesIO(archive.read(f"{root}data.pkl")), storage).load()
    return _state_dict(content) if f"{root}constants.pkl" in members else content


def _state_dict(script: Any) -> dict[str, Tensor]:
    """The tensors of a TorchScript module and of those in it, which may be there many times over."""
    found: dict[str, Tensor] = {}
    modules = [("", script)]
    for prefix, module in modules:  # to which it adds
        if not isinstance(module, Inert) or not isinstance(module.state, dict):
            raise _Refused(f"is TorchScript that keeps its state as {told(module)}: save its state dict instead")
        for name, value in module.state.items():
            if len(name := f"{prefix}{name}") > MAX_NAME or len(modules) + len(found) > MAX_PARTS:
                raise _Refused(f"is TorchScript with names of over {MAX_NAME} characters, or over {MAX_PARTS} parts")
            if isinstance(value, Tensor):
                found[name] = value
            elif isinstance(value, Inert) and value.name.startswith(_SCRIPT):
                modules.append((f"{name}.", value))
    return found


def _read_legacy(file: io.BufferedReader) -> Any:
    """Five pickles (magic number, protocol, machine, content, order of the storages), then the storages' numbers."""
    left = file.seek(0, io.SEEK_END)
    file.seek(0)
    head = io.BytesIO(file.read(MAX_PICKLE))
    buffers: dict[str, bytearray] = {}

    def storage(key: str, dtype: torch.dtype, count: int) -> Tensor:
        nonlocal left
        left -= count * dtype.itemsize
        if left < 0:
            raise _Refused(f"storage {key} declares {count * dtype.itemsize} bytes, more than the file holds")
        buffers[key] = bytearray(count * dtype.itemsize)
        return torch.frombuffer(buffers[key], dtype=dtype) if count else torch.empty(0, dtype=dtype)

    if not head.getvalue().startswith(b"\x80"):
        raise _Refused("is not a plain pickle of tensors, nor .safetensors")
    if _Unpickler(head, storage).load() != _LEGACY_MAGIC:
        raise _Refused("is a pickle, but not one of torch.save")
    if _Unpickler(head, storage).load() != _LEGACY_PROTOCOL or not _Unpickler(head, storage).load()["little_endian"]:
        raise _Refused("was written in a layout of another machine: save it again")
    content = _Unpickler(head, storage).load()
    order = _Unpickler(head, storage).load()
    if type(order) is not list or any(type(key) is not str for key in order) or sorted(order) != sorted(buffers):
        raise _Refused("its storages are not those of its tensors")
    file.seek(head.tell())
    for key in order:
        file.read(8)  # the count of elements, declared before
        if file.readinto(buffers[key]) != len(buffers[key]):
            raise _Refused(f"storage {key} is cut short")
    return content


class _Unpickler(pickle._Unpickler):
    """Python's own unpickler, instruction by instruction, with every one that could call something replaced.

    Not its C twin, which lets a pickle of ten bytes fill the memory by the number of a memo.
    """

    dispatch: ClassVar[dict[int, Callable[[Any], None]]] = {
        getattr(pickle, name)[0]: pickle._Unpickler.dispatch[getattr(pickle, name)[0]] for name in _INSTRUCTIONS.split()
    }

    stack: list[Any]
    pop_mark: Callable[[], list[Any]]

    def __init__(self, file: BinaryIO, storage: Callable[[str, torch.dtype, int], Tensor]) -> None:
        super().__init__(file)
        self._storage = storage
        self._storages: dict[str, Tensor] = {}
        self._claimed = self._encoded = 0

    def load(self) -> Any:
        try:
            return super().load()
        except KeyError as error:
            raise _Refused(f"is not a plain pickle of tensors (instruction or memo {error})") from None
        except (IndexError, TypeError, AttributeError, EOFError, struct.error) as error:
            raise _Refused(f"cannot be read: its pickle is damaged ({error or 'it ends too early'})") from None

    def find_class(self, module: str, name: str) -> Any:
        full = f"{module}.{name}"
        if full in _STORAGES:
            return _STORAGES[full]
        if full in _INERT or full.startswith(_SCRIPT):
            return _Name(full)
        known = {
            "collections.OrderedDict": _empty_dict,
            "torch._utils._rebuild_tensor_v2": self._tensor,
            "torch._utils._rebuild_parameter": _first,
            "torch.jit._pickle.restore_type_tag": _first,
            **dict.fromkeys(_LISTS, _first),
            "torch.Size": _as_tuple,
            "_codecs.encode": self._latin1,
        }
        if full not in known:
            raise _Refused(f"wants to run {full}, which is refused; save a plain state dict instead")
        return known[full]

    def persistent_load(self, pid: Any) -> Tensor:
        kind, dtype, key, _, count, *view = pid
        if kind != "storage" or not isinstance(dtype, torch.dtype) or type(key) is not str or view not in ([], [None]):
            raise _Refused("holds a storage of an unknown kind")
        if type(count) is not int or count < 0:
            raise _Refused(f"storage {key} declares {told(count)} elements")
        if key not in self._storages:
            self._storages[key] = self._storage(key, dtype, count)
        if self._storages[key].dtype != dtype or len(self._storages[key]) != count:
            raise _Refused(f"storage {key} is declared twice, and differently")
        return self._storages[key]

    def _tensor(self, storage: Tensor, offset: int, size: Any, stride: Any, *_: Any) -> Tensor:
        numbers = (offset, *_as_tuple(size)[:MAX_DIMS], *_as_tuple(stride)[:MAX_DIMS])
        if len(size) > MAX_DIMS or any(type(number) is not int or number < 0 for number in numbers):
            raise _Refused(f"a tensor has no possible shape ({len(size)} dimensions)")
        last = offset + sum((length - 1) * step for length, step in zip(size, stride, strict=True))
        if 0 not in size and last >= len(storage):
            raise _Refused(f"a tensor of shape {size} reaches beyond its storage")
        self._claimed += storage.element_size() * math.prod(size)
        if self._claimed > MAX_BYTES:
            raise _Refused(f"its tensors claim more than {MAX_BYTES} bytes")
        return torch.as_strided(storage, size, stride, offset)

    def _latin1(self, text: str, encoding: str = "latin1") -> bytes:
        """How protocol 2 writes bytes."""
        self._encoded += len(text)
        if encoding not in ("latin1", "latin-1") or self._encoded > MAX_PICKLE:
            raise _Refused(f"encodes {self._encoded} bytes as {told(encoding)}")
        return text.encode("latin1")

    def _build(self) -> None:
        state = self.stack.pop()
        if isinstance(self.stack[-1], Inert):
            self.stack[-1].state = state
        elif not isinstance(self.stack[-1], dict):  # an ordered dictionary's attributes are of no use here
            raise _Refused(f"sets the state of a {type(self.stack[-1]).__name__}, which is refused")

    def _newobj(self) -> None:
        args, name = self.stack.pop(), self.stack.pop()
        if not isinstance(name, _Name):
            raise _Refused(f"makes an object of a {type(name).__name__}, which is refused")
        self.stack.append(name(*args))

    def _setitem(self) -> None:
        value, key = self.stack.pop(), self.stack.pop()
        self._put([key, value])

    def _setitems(self) -> None:
        self._put(self.pop_mark())

    def _put(self, items: list[Any]) -> None:
        if not isinstance(self.stack[-1], dict):
            raise _Refused(f"fills a {type(self.stack[-1]).__name__} as if it were a dictionary")
        for key, value in zip(items[::2], items[1::2], strict=True):
            if not isinstance(key, str | int | float | None):  # hashing what is deeply nested would end the process
                raise _Refused(f"a {type(key).__name__} is the key of a dictionary, which is refused")
            self.stack[-1][key] = value

    dispatch |= {
        pickle.BUILD[0]: _build,
        pickle.NEWOBJ[0]: _newobj,
        pickle.SETITEM[0]: _setitem,
        pickle.SETITEMS[0]: _setitems,
    }


@dataclass(frozen=True)
class _Name:
    full: str

    def __call__(self, *args: Any) -> Inert:
        return Inert(self.full, args)


def _empty_dict(*items: Any) -> dict[Any, Any]:
    if items:
        raise _Refused("holds an ordered dictionary in the layout of Python 2: save it again")
    return {}


def _first(value: Any, *_: Any) -> Any:
    return value


def _as_tuple(numbers: Any = ()) -> tuple[Any, ...]:
    if type(numbers) is not tuple:
        raise _Refused(f"a size is a {type(numbers).__name__}")
    return numbers
