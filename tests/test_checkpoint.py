"""Checkpoints: any layout in, tensors out; a module takes all of them or none, and the report says which."""

from __future__ import annotations

import os
from pathlib import Path
from typing import Any

import pytest
import torch
from safetensors.torch import save_file
from torch import nn

from avs.core.checkpoint import KeyReport, load_strict, read_tensors
from avs.core.errors import InputError

TENSORS = {"a.weight": torch.arange(6.0).reshape(2, 3), "a.num": torch.tensor(7)}
GARBAGE = bytes(range(256)) * 40


@pytest.mark.parametrize("wrap", [lambda t: t, lambda t: {"state_dict": t, "epoch": 3}, lambda t: {"model": t}])
@pytest.mark.parametrize("suffix", [".pt", ".pth", ".bin", ".model", ".ckpt"])
def test_reads_pickled_tensors(wrap: Any, suffix: str, tmp_path: Path) -> None:
    path = tmp_path / f"net{suffix}"
    torch.save(wrap(TENSORS), path)
    found = read_tensors(path)
    assert found.keys() == TENSORS.keys()
    assert all(torch.equal(found[name], TENSORS[name]) for name in TENSORS)


def test_reads_safetensors(tmp_path: Path) -> None:
    save_file(TENSORS, tmp_path / "net.safetensors")
    assert torch.equal(read_tensors(tmp_path / "net.safetensors")["a.num"], TENSORS["a.num"])


class Malicious:
    def __init__(self, marker: Path) -> None:
        self.marker = marker

    def __reduce__(self) -> Any:
        return os.mkdir, (str(self.marker),)


def test_runs_no_code(tmp_path: Path) -> None:
    marker = tmp_path / "ran"
    torch.save({"a": torch.ones(1), "b": Malicious(marker)}, tmp_path / "net.pt")
    with pytest.raises(InputError, match=r"net.pt: wants to run (posix|nt).mkdir, which is refused"):
        read_tensors(tmp_path / "net.pt")
    assert not marker.exists()


@pytest.mark.parametrize(
    ("content", "message"),
    [
        ({"a": torch.ones(1), "lr": 0.1}, "'lr' is a float, not a tensor"),
        ({3: torch.ones(1)}, "3 is a Tensor"),
        ([torch.ones(1)], "holds a list"),
    ],
)
def test_refuses_what_is_no_tensor(content: Any, message: str, tmp_path: Path) -> None:
    torch.save(content, tmp_path / "net.pt")
    with pytest.raises(InputError, match=message):
        read_tensors(tmp_path / "net.pt")


@pytest.mark.parametrize("name", ["net.pt", "net.safetensors", "net.h5", "missing.pt", "missing.safetensors"])
def test_refuses_damaged_and_unknown_files(name: str, tmp_path: Path) -> None:
    if not name.startswith("missing"):
        (tmp_path / name).write_bytes(GARBAGE)
    with pytest.raises(InputError, match=name):
        read_tensors(tmp_path / name)


def net() -> nn.Module:
    return nn.Sequential(nn.Linear(3, 2), nn.BatchNorm1d(2))


NAMES = tuple(net().state_dict())


def weights(**changes: Any) -> dict[str, torch.Tensor]:
    """A whole state dict, each tensor filled with its place in it."""
    filled = {name: torch.full_like(value, i) for i, (name, value) in enumerate(net().state_dict().items())}
    return filled | changes


@pytest.mark.parametrize("prefix", ["", "model.", "module."])
def test_loads_with_and_without_prefix(prefix: str) -> None:
    module = net()
    named = {prefix + name: value for name, value in weights().items()}
    report = load_strict(module, named, source="net.pt", prefixes=["model.", "module."])
    assert report == KeyReport(NAMES, (), (), (), prefix=prefix)
    assert str(report) == "7 of 7 tensors match" + (f", prefix {prefix!r} stripped" if prefix else "")
    assert all(torch.equal(value, weights()[name]) for name, value in module.state_dict().items())


def test_what_may_be_left_over_is_named() -> None:
    extra = {f"model.decoder.{i}": torch.zeros(1) for i in range(6)}
    named = {f"model.{name}": value for name, value in weights().items()} | extra
    with pytest.raises(InputError, match=r"6 left over in the file: decoder\.0, .*decoder\.3 and 2 more$"):
        load_strict(net(), named, source="net.pt", prefixes=["model."])
    report = load_strict(net(), named, source="net.pt", prefixes=["model."], ignored=["decoder.*"])
    assert len(report.ignored) == 6
    assert "6 in the file that are not needed: decoder.0" in str(report)


def without(name: str) -> dict[str, torch.Tensor]:
    return {key: value for key, value in weights().items() if key != name}


@pytest.mark.parametrize(
    ("tensors", "message"),
    [
        ({}, "0 of 7 tensors match; 7 missing from the file: 0.weight, 0.bias, 1.weight, 1.bias and 3 more"),
        ({"other": torch.ones(1)}, "0 of 7 tensors match; 7 missing from the file: .*; 1 left over in the file: other"),
        (without("0.bias"), "6 of 7 tensors match; 1 missing from the file: 0.bias"),
        (weights(other=torch.ones(1)), "7 of 7 tensors match; 1 left over in the file: other"),
        (
            weights(**{"0.weight": torch.ones(2, 4), "0.bias": torch.tensor(1.0)}),
            "2 of another shape: 0.weight is 2×4 in the file, 2×3 here, 0.bias is a single number in the file, 2 here",
        ),
    ],
)
def test_what_does_not_fit_is_refused_and_changes_nothing(tensors: dict[str, torch.Tensor], message: str) -> None:
    module = net()
    before = {name: value.clone() for name, value in module.state_dict().items()}
    with pytest.raises(InputError, match=rf"net\.pt: tensors do not fit Sequential: .*{message}"):
        load_strict(module, tensors, source="net.pt", prefixes=["model."])
    assert all(torch.equal(value, before[name]) for name, value in module.state_dict().items())


@pytest.mark.parametrize("dtype", [torch.int8, torch.complex64])
def test_numbers_that_are_no_weights_are_refused(dtype: torch.dtype) -> None:
    """Not cast: quantised weights would load as others."""
    tensors = weights(**{"0.weight": torch.ones(2, 3, dtype=dtype)})
    with pytest.raises(InputError, match=rf"net\.pt: 0\.weight holds {dtype}, which are no weights"):
        load_strict(net(), tensors, source="net.pt")
