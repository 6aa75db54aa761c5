"""Reads params.yaml into the frozen dataclasses that the other modules declare with `@params`."""

from __future__ import annotations

import json
import os
from pathlib import Path
from typing import Any, TypeVar, dataclass_transform

import pydantic
import pydantic.dataclasses
import yaml

from avs.core.errors import InputError

T = TypeVar("T")
_STRICT = pydantic.ConfigDict(extra="forbid", strict=True)


@dataclass_transform(frozen_default=True)
def params(cls: type[T]) -> type[T]:
    """Declare a block of params.yaml: a frozen dataclass that refuses unknown keys and wrong types."""
    return pydantic.dataclasses.dataclass(cls, frozen=True, config=_STRICT)  # type: ignore[return-value]


def read(cls: type[T], path: str | os.PathLike[str] = "params.yaml") -> T:
    """Build `cls`, a dataclass made with `params`, from a YAML file.

    Raises InputError naming the file and each unknown, missing or ill-typed key.
    """
    try:
        tree = yaml.safe_load(Path(path).read_text(encoding="utf-8"))
    except (OSError, yaml.YAMLError, ValueError, RecursionError) as error:  # ValueError: text that is no UTF-8
        raise InputError(f"{path}: cannot be read as YAML: {error}") from error
    return build(cls, tree, str(path))


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
