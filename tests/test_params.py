import dataclasses
from pathlib import Path
from typing import Literal

import pytest
import yaml
from dvc.utils.hydra import apply_overrides

from avs.config import Config, load_config
from avs.core import params as module
from avs.core.errors import InputError
from avs.core.params import build, mark_right, params, read, read_part

ROOT = Path(__file__).resolve().parents[1]


@params
class Inner:
    k: int = 2
    mode: Literal["a", "b"] = "a"

    def __post_init__(self) -> None:
        if self.k < 0:
            raise ValueError(f"k ({self.k}) must be >= 0")


@params
class Outer:
    inner: Inner
    names: tuple[str, ...] = ()
    rate: float = 1.0


def test_nested_blocks_are_built_and_frozen() -> None:
    outer = build(Outer, {"inner": {"k": 3}, "names": ["x"], "rate": 2}, "here")
    assert (outer.inner.k, outer.names, outer.rate) == (3, ("x",), 2.0)
    with pytest.raises(dataclasses.FrozenInstanceError):
        outer.rate = 1.0  # type: ignore[misc]


@pytest.mark.parametrize(
    ("tree", "message"),
    [
        ({"inner": {"kk": 1}}, "here: inner.kk: unknown key"),
        ({"inner": {"k": "3"}}, "inner.k ('3'): input should be a valid integer"),
        ({"inner": {"k": True}}, "inner.k"),
        ({"inner": {"mode": "c"}}, "inner.mode ('c'): input should be 'a' or 'b'"),
        ({"inner": {"k": -1}}, "inner: k (-1) must be >= 0"),
        ({}, "inner: missing key"),
        ([1], "top level"),
    ],
)
def test_a_wrong_tree_is_refused_by_name(tree: object, message: str) -> None:
    with pytest.raises(InputError) as refused:
        build(Outer, tree, "here")
    assert message in str(refused.value)


def test_every_mistake_is_named_at_once() -> None:
    with pytest.raises(InputError) as refused:
        build(Outer, {"inner": {"k": "x"}, "rate": "y", "other": 1}, "here")
    assert all(name in str(refused.value) for name in ("inner.k", "rate", "other"))


def test_broken_yaml_names_the_file(tmp_path: Path) -> None:
    (tmp_path / "p.yaml").write_text("a: [1")
    with pytest.raises(InputError, match=r"p\.yaml"):
        read(Outer, tmp_path / "p.yaml")


def test_our_params_file_says_every_key_that_the_code_knows() -> None:
    def keys(cls: type, prefix: str = "") -> set[str]:
        found = set()
        for field in dataclasses.fields(cls):
            kind = build_types(cls)[field.name]
            nested = dataclasses.is_dataclass(kind)
            found |= keys(kind, f"{prefix}{field.name}.") if nested else {prefix + field.name}  # type: ignore[arg-type]
        return found

    def build_types(cls: type) -> dict:
        from typing import get_type_hints

        return get_type_hints(cls)

    def leaves(tree: dict, prefix: str = "") -> set[str]:
        found = set()
        for key, value in tree.items():
            found |= leaves(value, f"{prefix}{key}.") if isinstance(value, dict) else {prefix + key}
        return found

    load_config(ROOT / "params.yaml")
    assert leaves(yaml.safe_load((ROOT / "params.yaml").read_text())) == keys(Config)


def test_dvc_leaves_the_file_as_it_is(tmp_path: Path) -> None:
    """`dvc exp run -S` writes all of params.yaml anew: only what was set may differ."""
    text = (ROOT / "params.yaml").read_text()
    (tmp_path / "params.yaml").write_text(text)
    apply_overrides(tmp_path / "params.yaml", ["k=3"])
    assert (tmp_path / "params.yaml").read_text() == text.replace("k: 2 ", "k: 3 ")


def test_a_part_is_read_alone_once_the_whole_file_was_right(tmp_path: Path) -> None:
    @params
    class Part:
        inner: Inner

    path = tmp_path / "params.yaml"
    path.write_text("inner: {k: 3}\nnames: [x]\n")
    assert read_part(Part, path) is None
    read(Outer, path)
    mark_right(path)
    assert read_part(Part, path) == Part(Inner(k=3))
    path.write_text("inner: {k: 3}\nnames: [x, y]\n")
    assert read_part(Part, path) is None


def test_another_code_checks_the_file_again(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    @params
    class Part:
        inner: Inner

    path, package = tmp_path / "params.yaml", tmp_path / "avs"
    path.write_text("inner: {}\n")
    package.mkdir()
    (package / "a.py").touch()
    monkeypatch.setattr(module, "_PACKAGE", package)
    mark_right(path)
    assert read_part(Part, path) is not None
    (package / "b.py").touch()
    assert read_part(Part, path) is None
