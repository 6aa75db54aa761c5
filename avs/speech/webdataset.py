"""Sets as WebDataset tars `SET-SPLIT-NUMBER.tar`, as AVYT and MCoRec are published: read where they lie.

A sample is the files of one name: `KEY.video` (an mp4: mouths of 96×96, with sound), `KEY.label` (its text),
`KEY.sample_id`, and `KEY.length` (in pictures, which are counted again when they are decoded).
"""

from __future__ import annotations

import re
from collections import Counter, defaultdict
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, replace
from pathlib import Path, PurePosixPath

from avs.core import tars
from avs.core.errors import InputError
from avs.core.execute import progress
from avs.core.speech import Utterance
from avs.speech.subset import clip_key, limited, one_line

_MAX_TEXT = 1 << 16  # bytes
_NAME = re.compile(r"(?P<part>[a-z0-9_-]+?)(-\d+(-of-\d+)?)?")
_VOXCELEB = re.compile(r"id\d{5}")  # the people of VoxCeleb2


@dataclass(frozen=True)
class Shard:
    """A tar of one split of a set: `path` below the data set's folder, and the split by its published name."""

    path: Path
    dataset_name: str
    split: str


def shards(folder: Path, names: Sequence[str], aliases: Mapping[str, str] | None = None) -> list[Shard]:
    """The tars of the named sets anywhere below a folder; `aliases`: splits that are called otherwise elsewhere."""
    found = []
    for path in sorted(folder.rglob("*.tar")):
        match = _NAME.fullmatch(path.stem)
        # the longest first: avyt-mix-train is of avyt-mix
        name = next(
            (n for n in sorted(names, key=len, reverse=True) if match and match["part"].startswith(f"{n}-")), None
        )
        if match and name:
            split = match["part"].removeprefix(f"{name}-")
            found.append(Shard(path.relative_to(folder), name, (aliases or {}).get(split, split)))
    return found


def read_shards(
    folder: Path, found: Sequence[Shard], taken: Sequence[str], splits: Mapping[str, str], limit: int | None
) -> list[Utterance]:
    """Rows of the splits that are taken; `splits` says which is which of the kit's, others keep their names.

    Raises InputError naming the tar, and the sample, where it is not of this form, and for splits without a tar.
    """
    if absent := [split for split in taken if split not in {shard.split for shard in found}]:
        there = ", ".join(sorted({shard.split for shard in found}))
        raise InputError(
            f"{folder}: no tar of the split {absent[0]!r} (there are: {there}): change splits, or get them"
        )
    chosen = [shard for shard in found if shard.split in taken]
    rows = [row for shard in progress(chosen, "tars", len(chosen)) for row in _rows(folder, shard, splits)]
    drawn = limited(rows, limit, lambda row: f"{row.dataset_name} {row.split}", lambda row: row.key + row.video)
    return _told_apart(rows, drawn)


def _told_apart(rows: Sequence[Utterance], drawn: Sequence[Utterance]) -> list[Utterance]:
    """Those drawn, with tar and sample in the keys that several of all rows have."""
    counts = Counter(row.key for row in rows)
    return [row if counts[row.key] == 1 else replace(row, key=_longer(row)) for row in drawn]


def _longer(row: Utterance) -> str:
    tar, _, sample = row.video.rpartition(".tar/")
    return clip_key(row.key, PurePosixPath(tar).name, sample.removesuffix(".video"))


def _rows(folder: Path, shard: Shard, splits: Mapping[str, str]) -> Iterator[Utterance]:
    path = folder / shard.path
    samples: dict[str, dict[str, tars.Part]] = defaultdict(dict)
    for name, part in tars.contents(path).items():
        parent, _, last = name.rpartition("/")
        stem, _, kind = last.partition(".")
        samples[f"{parent}/{stem}".lstrip("/")][kind] = part
    for sample, parts in samples.items():
        text, who = (_text(path, sample, parts, kind) for kind in ("label", "sample_id"))
        key, split = clip_key(shard.dataset_name, shard.split, who), splits.get(shard.split, shard.split)
        video = f"{shard.path.as_posix()}/{sample}.video"
        yield Utterance(key, shard.dataset_name, split, video, 0, 0, text, _speaker(who), "")


def _text(path: Path, sample: str, parts: Mapping[str, tars.Part], kind: str) -> str:
    if kind not in parts:
        raise InputError(f"{path}: the sample {sample!r} has no .{kind} (it has: {', '.join(sorted(parts))})")
    try:
        return one_line(parts[kind].read(_MAX_TEXT).decode())
    except UnicodeDecodeError as error:
        raise InputError(f"{path}: {sample}.{kind} is no UTF-8 text: {error}") from None


def _speaker(sample_id: str) -> str:
    """The person, where the id says it, else the folder: whose clips come from one recording."""
    person = _VOXCELEB.search(sample_id)
    return person[0] if person else PurePosixPath(sample_id).parent.name
