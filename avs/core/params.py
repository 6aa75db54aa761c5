"""Reads params.yaml into the frozen dataclasses that the other modules declare with `@params`."""

from __future__ import annotations

import dataclasses
import json
import os
from pathlib import Path
from typing import Any, TypeVar, dataclass_transform

import pydantic
import pydantic.dataclasses
import yaml

from avs.core.errors import InputError
from avs.core.store import ItemStore, item_key, sha256_file

T = TypeVar("T")
_RIGHT = "params"  # the kind of items that say which files were found right
_PACKAGE = Path(__file__).resolve().parents[1]
_STRICT = pydantic.ConfigDict(extra="forbid", strict=True)


@dataclass_transform(frozen_default=True)
def params(cls: type[T]) -> type[T]:
    """Declare a block of params.yaml: a frozen dataclass that refuses unknown keys and wrong types."""
    return pydantic.dataclasses.dataclass(cls, frozen=True, config=_STRICT)  # type: ignore[return-value]


class _Plain(yaml.SafeLoader):
    """Without aliases, of which a few lines can stand for more than any memory."""

    def compose_node(self, parent: Any, index: Any) -> Any:
        if self.check_event(yaml.AliasEvent):
            raise yaml.YAMLError(f"aliases (*{self.peek_event().anchor}) are not supported: write the value")
        return super().compose_node(parent, index)


def read(cls: type[T], path: str | os.PathLike[str] = "params.yaml") -> T:
    """Build `cls`, a dataclass made with `params`, from a YAML file.

    Raises InputError naming the file and each unknown, missing or ill-typed key.
    """
    try:
        tree = yaml.load(Path(path).read_text(encoding="utf-8"), _Plain)
    except (OSError, yaml.YAMLError, ValueError, RecursionError) as error:  # ValueError: text that is no UTF-8
        raise InputError(f"{path}: cannot be read as YAML: {error}") from error
    return build(cls, tree, str(path))


def read_part(cls: type[T], path: str | os.PathLike[str] = "params.yaml") -> T | None:
    """Build `cls`, which has some of the file's blocks, where `mark_right` was told of the same file by the same code.

    The blocks of the other stages, which take seconds to import, then need no checking. None where they do.
    """
    if _state(path) not in ItemStore(_RIGHT):
        return None
    tree = yaml.safe_load(Path(path).read_text(encoding="utf-8"))
    return build(cls, {field.name: tree[field.name] for field in dataclasses.fields(cls)}, str(path))  # type: ignore[arg-type]


def mark_right(path: str | os.PathLike[str] = "params.yaml") -> None:
    """Remember that all of the file was found right."""
    right, state = ItemStore(_RIGHT), _state(path)
    if state not in right:
        right.save(state, b"")


def _state(path: str | os.PathLike[str]) -> str:
    """A key that changes with the file, and with any module that checks a part of it."""
    modules = sorted((str(module), module.stat().st_mtime_ns) for module in _PACKAGE.rglob("*.py"))
    return item_key(params=sha256_file(path), modules=modules)


def build(cls: type[T], tree: Any, where: str) -> T:
    """Build `cls` from nested dictionaries; `where` names their origin in errors."""
    try:
        # Strict mode takes a mapping for a dataclass, and a list for a tuple, only when they come as JSON.
        return pydantic.TypeAdapter(cls).validate_json(json.dumps(tree, default=str))
    except pydantic.ValidationError as error:
        problems = "; ".join(_describe(detail) for detail in error.errors())
        raise InputError(f"{where}: {problems}") from None


def _describe(detail: Any) -> str:
    key = ".".join(str(part) for part in detail["loc"]) or "top level"
    if detail["type"] == "unexpected_keyword_argument":
        return f"{key}: unknown key"
    if detail["type"] == "missing":
        return f"{key}: missing key"
    if detail["type"] == "value_error":
        return f"{key}: {detail['ctx']['error']}"
    message = detail["msg"]
    return f"{key} ({detail['input']!r}): {message[0].lower()}{message[1:]}"
