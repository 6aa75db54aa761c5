"""Rows of a data set chosen or set aside: a small set that resembles the whole, and videos in several splits."""

from __future__ import annotations

import hashlib
from collections import defaultdict
from collections.abc import Iterable, Sequence
from dataclasses import dataclass, replace
from pathlib import Path

from avs.core.clips import SPLITS, Clip, write_table
from avs.core.store import atomic
from avs.datasets.annotations import Annotation, clip_key


@dataclass(frozen=True)
class Overlap:
    """A row whose video also has rows in another split; `used` is 1 if a clip is made of it, else 0."""

    key: str
    video: str
    split: str
    label: str
    used: int


def split_overlaps(rows: Iterable[Annotation]) -> list[Annotation]:
    """The rows whose video has rows in several splits, by video."""
    by_video = defaultdict(list)
    for row in rows:
        by_video[row.video].append(row)
    several = [group for group in by_video.values() if len({row.split for row in group}) > 1]
    return [row for group in several for row in group]


def without_overlaps(rows: Sequence[Annotation]) -> list[Annotation]:
    """All rows, those for training whose video is also in another split marked as not used."""
    overlapping = {row.number for row in split_overlaps(rows)}
    return [replace(row, used=row.split != "train" or row.number not in overlapping) for row in rows]


def check_limit(limit: int | None) -> None:
    """Raise ValueError where a data set's parameter `limit` is no number of rows."""
    if limit is not None and limit < 1:
        raise ValueError(f"limit ({limit}) must be >= 1, or null for all rows")


def limited(rows: Sequence[Annotation], limit: int | None, seed: int) -> list[Annotation]:
    """At most `limit` used rows of each split, in file order, with the classes in proportion; None: all.

    The rows of a class get places evenly spread over (0, 1) in an order drawn by `seed`, and the first `limit`
    places of the split are taken: a larger limit keeps all rows of a smaller one.
    """
    if limit is None:
        return list(rows)
    places: dict[str, list[tuple[float, int]]] = defaultdict(list)
    classes = defaultdict(list)
    for row in rows:
        if row.used:
            classes[row.split, row.label].append(row)
    for (split, _), members in classes.items():
        drawn = sorted(members, key=lambda row: _draw(seed, row))
        places[split] += [((place + 0.5) / len(drawn), row.number) for place, row in enumerate(drawn)]
    kept = {number for split in places.values() for _, number in sorted(split)[:limit]}
    return [row for row in rows if row.number in kept or not row.used]


def write_lists(out: Path, rows: Sequence[Annotation], clips: Sequence[Clip], tag: str) -> None:
    """Write `overlaps.tsv`, and to `meta/` the ids of the videos of each split that are there and that are not."""
    write_table(out / "overlaps.tsv", map(_overlap, split_overlaps(rows)), Overlap)
    there = {clip.video for clip in clips}
    for split in SPLITS:
        videos = list(dict.fromkeys(row.video for row in rows if row.used and row.split == split))
        for state, wanted in (("ok", True), ("fail", False)):
            names = [Path(video).stem for video in videos if (video in there) == wanted]
            with atomic(out / f"meta/download_{state}_{split}_{tag}.txt") as file:
                file.write("".join(f"{name}\n" for name in names).encode())


def _overlap(row: Annotation) -> Overlap:
    return Overlap(clip_key(row.number, row.video), row.video, row.split, row.label, int(row.used))


def _draw(seed: int, row: Annotation) -> str:
    return hashlib.sha256(f"{seed} {row.number} {row.video}".encode()).hexdigest()
