"""What is taken of a published set, and how its clips are called."""

from __future__ import annotations

import hashlib
import re
from collections import defaultdict
from collections.abc import Callable, Iterable, Sequence
from pathlib import Path
from typing import TypeVar

Row = TypeVar("Row")
_UNSAFE = re.compile(r"[^A-Za-z0-9._-]+")
_MAX = 160  # characters of a name, with room for a prefix


def check_taken(splits: Sequence[str], known: Iterable[str] | None, limit: int | None) -> None:
    """Raise ValueError for parameters `splits` and `limit` that no part of a set answers to."""
    if not splits or len(set(splits)) < len(splits):
        raise ValueError(f"splits ({list(splits)}) must name at least one split, and each once")
    if known is not None and (unknown := [split for split in splits if split not in known]):
        raise ValueError(f"splits ({unknown[0]!r}) must be of {', '.join(known)}")
    if limit is not None and limit < 1:
        raise ValueError(f"limit ({limit}) must be >= 1, or null for all")


def limited(
    rows: Iterable[Row], limit: int | None, split: Callable[[Row], str], name: Callable[[Row], str]
) -> list[Row]:
    """At most `limit` rows of each split, in their order, drawn by the SHA-256 of their names; None: all.

    A larger limit keeps all rows of a smaller one.
    """
    rows = list(rows)
    if limit is None:
        return rows
    names = defaultdict(list)
    for row in rows:
        names[split(row)].append(name(row))
    kept = {(key, one) for key, group in names.items() for one in sorted(group, key=_draw)[:limit]}
    return [row for row in rows if (split(row), name(row)) in kept]


def _draw(name: str) -> str:
    return hashlib.sha256(name.encode()).hexdigest()


def clip_key(*parts: str) -> str:
    """A clip's name of letters, digits, dots, dashes and underscores; a long one ends in the digest of itself."""
    name = "_".join(_UNSAFE.sub("_", part) for part in parts)
    return name if len(name) <= _MAX else f"{name[: _MAX - 17]}_{_draw(name)[:16]}"


def one_line(text: str) -> str:
    return " ".join(text.split())


def named(folder: Path, video: Path) -> tuple[str, str]:
    """A video by its path below a set's folder, and its landmarks by theirs: `NAME.npy` beside it, '' without."""
    points = video.with_suffix(".npy")
    name = video.relative_to(folder).as_posix()
    return name, points.relative_to(folder).as_posix() if points.exists() else ""
