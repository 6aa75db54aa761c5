"""Pickles: what torch.save writes is read as it was; what is hostile or damaged is refused, and runs nothing."""

from __future__ import annotations

import collections
import io
import os
import pickle
import pickletools
import re
import struct
import time
import zipfile
from argparse import Namespace
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch

from avs.core import unpickle
from avs.core.errors import InputError
from avs.core.unpickle import Inert, read_pickle

BASE = torch.arange(24.0)
ALIKE = {
    "plain": torch.arange(6.0).reshape(2, 3),
    "half": torch.arange(4).half(),
    "brain": torch.arange(4).bfloat16(),
    "int": torch.tensor(7),
    "bool": torch.tensor([True, False]),
    "empty": torch.zeros(0, 3),
    "column": BASE.reshape(4, 6)[:, 2],
    "overlapping": BASE.as_strided((5, 4), (1, 2), 3),
    "parameter": torch.nn.Parameter(torch.ones(2)),
}


@pytest.mark.parametrize("new", [True, False], ids=["zip", "legacy"])
def test_reads_what_torch_saves(new: bool, tmp_path: Path) -> None:
    content = collections.OrderedDict(ALIKE) | {"epoch": 3, "lr": 1e-3, "size": torch.Size([2, 3]), "raw": b"\xff\0"}
    torch.save(content, tmp_path / "net.model", _use_new_zipfile_serialization=new)
    found = read_pickle(tmp_path / "net.model")
    assert found.keys() == content.keys()
    for name, value in ALIKE.items():
        assert found[name].dtype == value.dtype
        assert torch.equal(found[name], value), name
    assert (found["epoch"], found["lr"], found["size"], found["raw"]) == (3, 1e-3, (2, 3), b"\xff\0")


@pytest.mark.parametrize("new", [True, False], ids=["zip", "legacy"])
def test_a_module_has_its_names(new: bool, tmp_path: Path) -> None:
    state = torch.nn.BatchNorm1d(3).state_dict()
    torch.save(state, tmp_path / "net.pt", _use_new_zipfile_serialization=new)
    assert list(read_pickle(tmp_path / "net.pt")) == list(state)


def test_what_lies_beside_weights_stays_inert(tmp_path: Path) -> None:
    torch.save({"args": Namespace(lr=1.0), "loss": np.float64(2.5)}, tmp_path / "net.pt")
    found = read_pickle(tmp_path / "net.pt")
    assert found["args"] == Inert("argparse.Namespace", (), {"lr": 1.0})
    assert found["loss"].name == "numpy._core.multiarray.scalar"
    assert struct.unpack("<d", found["loss"].args[1]) == (2.5,)


class Hostile:
    """Pickles as a call of `function`."""

    def __init__(self, function: Any, *args: Any) -> None:
        self.call = function, args

    def __reduce__(self) -> Any:
        return self.call


@pytest.mark.parametrize("new", [True, False], ids=["zip", "legacy"])
@pytest.mark.parametrize("wrap", [lambda x: x, lambda x: {"model": {"a": [torch.ones(1), ({"b": x},)]}}])
def test_runs_no_code(wrap: Any, new: bool, tmp_path: Path) -> None:
    marker = tmp_path / "ran"
    payload = wrap(Hostile(os.system, f"touch {marker}"))
    torch.save(payload, tmp_path / "net.model", _use_new_zipfile_serialization=new)
    with pytest.raises(InputError, match=r"net.model: wants to run (posix|nt).system, which is refused"):
        read_pickle(tmp_path / "net.model")
    assert not marker.exists()


@pytest.mark.parametrize(
    "call",
    [
        Hostile(eval, "1"),
        Hostile(bytearray, 1 << 40),
        Hostile(torch.Tensor, 1 << 40),
        Hostile(torch.load, "other.pt"),
        Hostile(torch.hub.load, "org/repo", "model"),
    ],
)
def test_refuses_what_weights_only_may_allow(call: Hostile, tmp_path: Path) -> None:
    torch.save({"a": call}, tmp_path / "net.pt")
    with pytest.raises(InputError, match=r"wants to run .*, which is refused"):
        read_pickle(tmp_path / "net.pt")


def archive(path: Path, content: bytes, *, compress: int = zipfile.ZIP_STORED, **others: bytes) -> Path:
    with zipfile.ZipFile(path, "w", compress) as file:
        file.writestr("net/data.pkl", content)
        for name, data in others.items():
            file.writestr(name, data)
    return path


def tensor(count: int, size: tuple[int, ...], stride: tuple[int, ...], offset: int = 0) -> bytes:
    """The pickle of one tensor on a storage of `count` floats."""

    class Storage:
        pass

    class Pickler(pickle._Pickler):
        def persistent_id(self, value: Any) -> Any:
            return ("storage", torch.FloatStorage, "0", "cpu", count) if isinstance(value, Storage) else None

    class View:
        def __reduce__(self) -> Any:
            return torch._utils._rebuild_tensor_v2, (Storage(), offset, size, stride, False, collections.OrderedDict())

    out = io.BytesIO()
    Pickler(out, protocol=2).dump({"a": View()})
    return out.getvalue()


FOUR = np.arange(4, dtype=np.float32).tobytes()


def test_a_tensor_by_hand(tmp_path: Path) -> None:
    path = archive(tmp_path / "net.pt", tensor(4, (2, 2), (2, 1)), **{"net/data/0": FOUR})
    assert read_pickle(path)["a"].tolist() == [[0, 1], [2, 3]]


@pytest.mark.parametrize(
    ("content", "members", "message"),
    [
        (tensor(1 << 40, (1,), (1,)), {"net/data/0": FOUR}, "holds 16 bytes and declares 4398046511104"),
        (tensor(-1, (1,), (1,)), {"net/data/0": FOUR}, "declares -1 elements"),
        (tensor(4, (5,), (1,)), {"net/data/0": FOUR}, "reaches beyond its storage"),
        (tensor(4, (2,), (1,), 3), {"net/data/0": FOUR}, "reaches beyond its storage"),
        (tensor(4, (2,), (-1,), 3), {"net/data/0": FOUR}, "no possible shape"),
        (tensor(4, (1,) * 99, (1,) * 99), {"net/data/0": FOUR}, "no possible shape"),
        (tensor(4, (1 << 20, 1 << 20), (0, 0)), {"net/data/0": FOUR}, "claim more than"),
        (tensor(4, (4,), (1,)), {}, "storage 0 is absent"),
        (tensor(4, (4,), (1,)), {"net/data/0": FOUR, "../outside": FOUR}, "without '..'"),
        (tensor(4, (4,), (1,)), {"net/data/0": FOUR, "/etc/passwd": FOUR}, "without '..'"),
        (tensor(4, (4,), (1,)), {"net/data/0": FOUR, "other/data.pkl": FOUR}, "no single data.pkl"),
        (tensor(4, (4,), (1,)), {"net/data/0": FOUR, "net/constants.pkl": FOUR}, "TorchScript"),
        (tensor(4, (4,), (1,)), {"net/data/0": FOUR, "net/byteorder": b"big"}, "big-endian"),
    ],
)
def test_refuses_claims_that_a_file_cannot_hold(
    content: bytes, members: dict[str, bytes], message: str, tmp_path: Path
) -> None:
    with pytest.raises(InputError, match=message):
        read_pickle(archive(tmp_path / "net.pt", content, **members))
    assert [file.name for file in tmp_path.iterdir()] == ["net.pt"]


class Script(torch.nn.Module):
    def __init__(self) -> None:
        super().__init__()
        self.twice = torch.nn.Linear(3, 2)
        self.again = self.twice
        self.norm = torch.nn.Sequential(torch.nn.BatchNorm1d(2))
        self.sizes = [1, 2]

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        return self.norm(self.again(self.twice(x)))[: self.sizes[0]]


class WritingScript(torch.nn.Module):
    """TorchScript may set its own state, and write files with it, while it is loaded."""

    def __init__(self, path: str) -> None:
        super().__init__()
        self.weight, self.path = torch.nn.Parameter(torch.ones(2)), path

    @torch.jit.export
    def __getstate__(self) -> tuple[torch.Tensor, str]:
        return self.weight, self.path

    @torch.jit.export
    def __setstate__(self, state: tuple[torch.Tensor, str]) -> None:
        self.weight, self.path = state
        self.training = False
        torch.save(self.weight, self.path)

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        return x * self.weight


@pytest.mark.filterwarnings("ignore::DeprecationWarning")
def test_of_torchscript_the_tensors_are_read(tmp_path: Path) -> None:
    script = torch.jit.script(Script())
    script.save(str(tmp_path / "net.pt"))
    expected, found = script.state_dict(), read_pickle(tmp_path / "net.pt")
    assert found.keys() == expected.keys() | {"again.weight", "again.bias"}
    assert all(torch.equal(found[name], expected[name]) for name in expected)


@pytest.mark.filterwarnings("ignore::DeprecationWarning")
def test_torchscript_does_not_run(tmp_path: Path) -> None:
    torch.jit.script(WritingScript(str(tmp_path / "ran"))).save(str(tmp_path / "net.pt"))
    with pytest.raises(InputError, match="is TorchScript that keeps its state as"):
        read_pickle(tmp_path / "net.pt")
    assert not (tmp_path / "ran").exists()
    torch.jit.load(tmp_path / "net.pt")
    assert (tmp_path / "ran").exists()  # so there was something to refuse


def test_modules_that_hold_each_other_have_an_end(tmp_path: Path) -> None:
    """A hundred modules, each in the one before it twice; and one that is in itself."""
    module = b"c__torch__\nM\n)\x81"
    doubled = module + b"}b" + b"q\0"
    for n in range(100):
        doubled += module + b"}(X\1\0\0\0ah%cX\1\0\0\0bh%cub" % (n, n) + b"q" + bytes([n + 1])
    within = module + b"q\0}X\1\0\0\0ah\0sb"
    for content in (doubled, within):
        path = archive(tmp_path / "net.pt", b"\x80\2" + content + b".", **{"net/constants.pkl": b"\x80\2)."})
        with pytest.raises(InputError, match="is TorchScript with names of over"):
            read_pickle(path)


def test_refuses_compression(tmp_path: Path) -> None:
    bomb = {"net/data/0": bytes(1 << 16)}
    with pytest.raises(InputError, match="compressed"):
        read_pickle(archive(tmp_path / "net.pt", tensor(1 << 14, (1,), (1,)), compress=zipfile.ZIP_DEFLATED, **bomb))


def test_a_legacy_file_cannot_declare_more_than_it_holds(tmp_path: Path) -> None:
    path = tmp_path / "net.pt"
    torch.save({"a": torch.zeros(70000)}, path, _use_new_zipfile_serialization=False)
    whole = path.read_bytes()
    path.write_bytes(whole.replace(struct.pack("<i", 70000), struct.pack("<i", 1 << 30)))
    with pytest.raises(InputError, match=r"declares 4294967296 bytes, more than the file holds"):
        read_pickle(path)
    path.write_bytes(whole[:-4])
    with pytest.raises(InputError, match="cut short"):
        read_pickle(path)


DEEP = 200_000
HASHED = pickle.PROTO + b"\x02}" + b"N" + b"\x85" * DEEP + b"Ns."  # a dictionary whose key is a very deep tuple


@pytest.mark.parametrize(
    ("content", "message"),
    [
        (HASHED, "a tuple is the key of a dictionary"),
        (b"\x80\x02" + b"(" * DEEP, "damaged"),
        (b"\x80\x02N" + pickle.LONG_BINPUT + b"\xff\xff\xff\x7f" + b"h\0.", "cannot be read"),
        (pickle.dumps(2 ** (8 * 5000), protocol=4), "plain pickle"),
        (b"\x80\x04" + pickle.BINBYTES8 + struct.pack("<Q", 1 << 50) + b".", "plain pickle"),
        (b"\x80\x02" + pickle.BINUNICODE + struct.pack("<I", (1 << 32) - 1) + b".", "damaged"),
        (b"\x80\x02" + pickle.EXT1 + b"\x01.", "plain pickle"),
        (b"(cos\nsystem\nS'true'\no.", "wants to run os.system"),
        (b"\x80\x02ccollections\nOrderedDict\n)\x81.", "makes an object of a"),
        (b"\x80\x02ccollections\nOrderedDict\n}b.", "sets the state of a"),
        (b"\x80\x02]K\x01K\x02s.", "fills a list"),
    ],
)
def test_refuses_hostile_instructions(content: bytes, message: str, tmp_path: Path) -> None:
    started = time.monotonic()
    with pytest.raises(InputError, match=message):
        read_pickle(archive(tmp_path / "net.pt", content))
    assert time.monotonic() - started < 10


def test_what_is_deeply_nested_but_not_hashed_is_let_go_of(tmp_path: Path) -> None:
    found = read_pickle(archive(tmp_path / "net.pt", b"\x80\x02N" + b"\x85" * DEEP + b"."))
    assert isinstance(found, tuple)
    del found


def test_an_order_of_storages_without_end_is_not_compared(tmp_path: Path) -> None:
    """Two lists that each hold a list twice, and so on: to compare them would take 2^100 steps."""
    path = tmp_path / "net.pt"
    torch.save({"a": torch.zeros(3)}, path, _use_new_zipfile_serialization=False)
    whole = path.read_bytes()
    order: list[list[Any]] = [["a"], ["a"]]
    for _ in range(100):
        order = [[twice, twice] for twice in order]
    (at,) = [match.start() for match in re.finditer(rb"\x80\x02\]q\x00X", whole)]
    path.write_bytes(whole[:at] + pickle.dumps(order, 2))
    with pytest.raises(InputError, match="its storages are not those of its tensors"):
        read_pickle(path)


def test_refuses_a_large_pickle(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(unpickle, "MAX_PICKLE", 100)
    with pytest.raises(InputError, match="larger than 100 bytes"):
        read_pickle(archive(tmp_path / "net.pt", pickletools.optimize(pickle.dumps("a" * 100, 2))))


@pytest.mark.parametrize("content", [b"", b"PK\3\4", b"\x80\2.", b"\x80\2K\1.", b"\x89HDF", b"PK\5\6" + bytes(18)])
def test_refuses_damaged_files(content: bytes, tmp_path: Path) -> None:
    (tmp_path / "net.pt").write_bytes(content)
    with pytest.raises(InputError, match=r"net\.pt"):
        read_pickle(tmp_path / "net.pt")


def test_every_cut_of_a_file_is_an_input_error(tmp_path: Path) -> None:
    for new in (True, False):
        torch.save({"a": torch.ones(3), "b": Namespace(x=1)}, tmp_path / "net.pt", _use_new_zipfile_serialization=new)
        whole = (tmp_path / "net.pt").read_bytes()
        for end in range(0, len(whole), 7):
            (tmp_path / "cut.pt").write_bytes(whole[:end])
            with pytest.raises(InputError, match=r"cut\.pt"):
                read_pickle(tmp_path / "cut.pt")
