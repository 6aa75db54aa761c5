"""Tensors out of files that others wrote, and into modules that they must fit, name by name and size by size."""

from __future__ import annotations

import json
import os
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from fnmatch import fnmatchcase
from pathlib import Path
from typing import Any

import safetensors.torch
from safetensors import SafetensorError, safe_open
from torch import Tensor, nn

from avs.core.errors import InputError
from avs.core.unpickle import read_pickle

_SHOWN = 4  # names in one line of a report


def read_tensors(path: str | os.PathLike[str]) -> dict[str, Tensor]:
    """Return {name: tensor} on the CPU, from .safetensors or from a file of torch.save, of whatever suffix.

    Nothing in the file can run (see avs.core.unpickle). A checkpoint that holds its tensors under `state_dict` or
    `model` is unwrapped. Raises InputError for a damaged file, another format, or anything that is not a tensor,
    by its name.
    """
    path = Path(path)
    if path.suffix != ".safetensors":
        return _only_tensors(read_pickle(path), path)
    try:
        return safetensors.torch.load_file(path)
    except Exception as error:  # a damaged file can fail in any way, a missing one as OSError
        raise InputError(f"{path}: cannot be read: {error}") from error


def read_description(path: Path) -> dict[str, Any]:
    """What `write_network` wrote of a network in the header of its .safetensors; nothing where there is none.

    Raises InputError where it is damaged.
    """
    try:
        with safe_open(path, framework="pt") as file:
            found = json.loads((file.metadata() or {}).get("config", "{}"))
        return dict(found)
    except (SafetensorError, OSError, ValueError, TypeError, RecursionError) as error:
        raise InputError(f"{path}: its description is damaged: {error!r}") from None


def _only_tensors(content: object, path: Path) -> dict[str, Tensor]:
    for wrapper in ("state_dict", "model"):
        if isinstance(content, Mapping) and isinstance(content.get(wrapper), Mapping):
            content = content[wrapper]
    if not isinstance(content, Mapping):
        raise InputError(f"{path}: holds a {type(content).__name__}, not a dictionary of tensors")
    for name, value in content.items():
        if not isinstance(name, str) or not isinstance(value, Tensor):
            raise InputError(f"{path}: {name!r} is a {type(value).__name__}, not a tensor: save a plain state dict")
    return dict(content)


@dataclass(frozen=True)
class KeyReport:
    """How the tensors of a file and those of a module meet; `prefix` was stripped from the file's names.

    wrong_shape: (name, shape in the file, shape in the module).
    """

    matched: tuple[str, ...]
    missing: tuple[str, ...]
    unexpected: tuple[str, ...]
    wrong_shape: tuple[tuple[str, tuple[int, ...], tuple[int, ...]], ...]
    ignored: tuple[str, ...] = ()
    prefix: str = ""

    @property
    def fits(self) -> bool:
        return not (self.missing or self.unexpected or self.wrong_shape)

    def __str__(self) -> str:
        """A few lines: counts, each with its first names."""
        wanted = len(self.matched) + len(self.missing) + len(self.wrong_shape)
        stripped = f", prefix {self.prefix!r} stripped" if self.prefix else ""
        shapes = [f"{name} is {_size(found)} in the file, {_size(own)} here" for name, found, own in self.wrong_shape]
        lines = [f"{len(self.matched)} of {wanted} tensors match{stripped}"]
        for names, what in (
            (self.missing, "missing from the file"),
            (self.unexpected, "left over in the file"),
            (shapes, "of another shape"),
            (self.ignored, "in the file that are not needed"),
        ):
            lines += [f"{len(names)} {what}: {_some(names)}"] if names else []
        return "\n".join(lines)


def load_strict(
    module: nn.Module,
    tensors: Mapping[str, Tensor],
    *,
    source: str | os.PathLike[str],
    prefixes: Sequence[str] = (),
    ignored: Sequence[str] = (),
) -> KeyReport:
    """Load tensors into a module that they fit exactly, and say how.

    The names are tried as they are and with each of `prefixes` (such as `model.`) stripped; the way that matches
    most counts. `ignored`: patterns (`decoder.*`) of names, prefix stripped, that the file may have beyond. Unless
    every tensor of the module and all others of the file are matched, nothing is loaded and InputError has the report.
    A module on the meta device takes the tensors themselves, without a copy.
    """
    report, named = _matched(module, tensors, source, prefixes, ignored)
    module.load_state_dict(named, assign=any(value.is_meta for value in module.state_dict().values()))
    return report


def check_strict(
    module: nn.Module, tensors: Mapping[str, Tensor], *, source: str | os.PathLike[str], prefixes: Sequence[str] = ()
) -> None:
    """Raise InputError where `load_strict` would; the module may be one on the meta device, which takes no memory."""
    _matched(module, tensors, source, prefixes, ())


def _matched(
    module: nn.Module,
    tensors: Mapping[str, Tensor],
    source: str | os.PathLike[str],
    prefixes: Sequence[str],
    ignored: Sequence[str],
) -> tuple[KeyReport, dict[str, Tensor]]:
    """The report, and the module's tensors of the file under its own names."""
    state = module.state_dict()
    ways = [(prefix, *_stripped(tensors, prefix)) for prefix in ("", *prefixes)]
    prefix, named, rest = max(ways, key=lambda way: sum(name in state for name in way[1]))
    report = _compare(state, named, [*rest, *(name for name in named if name not in state)], ignored, prefix)
    if not report.fits:
        raise InputError(f"{source}: tensors do not fit {type(module).__name__}: {'; '.join(str(report).splitlines())}")
    for name, value in state.items():
        if value.is_floating_point() and not named[name].is_floating_point():
            raise InputError(f"{source}: {prefix}{name} holds {named[name].dtype}, which are no weights")
    return report, {name: named[name] for name in state}


def _stripped(tensors: Mapping[str, Tensor], prefix: str) -> tuple[dict[str, Tensor], list[str]]:
    """Tensors whose names begin with the prefix, without it, and the names of the others."""
    named = {name.removeprefix(prefix): value for name, value in tensors.items() if name.startswith(prefix)}
    return named, [name for name in tensors if not name.startswith(prefix)]


def _compare(
    state: Mapping[str, Tensor], named: Mapping[str, Tensor], rest: Sequence[str], ignored: Sequence[str], prefix: str
) -> KeyReport:
    common = [name for name in state if name in named]
    wrong = [name for name in common if named[name].shape != state[name].shape]
    spare = [name for name in rest if any(fnmatchcase(name, pattern) for pattern in ignored)]
    return KeyReport(
        matched=tuple(name for name in common if name not in set(wrong)),
        missing=tuple(name for name in state if name not in named),
        unexpected=tuple(name for name in rest if name not in set(spare)),
        wrong_shape=tuple((name, tuple(named[name].shape), tuple(state[name].shape)) for name in wrong),
        ignored=tuple(spare),
        prefix=prefix,
    )


def _some(names: Sequence[str]) -> str:
    return ", ".join(names[:_SHOWN]) + (f" and {len(names) - _SHOWN} more" if len(names) > _SHOWN else "")


def _size(shape: tuple[int, ...]) -> str:
    return "×".join(map(str, shape)) or "a single number"
