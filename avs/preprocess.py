"""Clip table → media shards: each clip decoded once into one frame a second and 16 kHz mono sound.

A shard is a plain tar: `<clip key>/audio.wav` (PCM16) and `<clip key>/frames/<t>.jpg`, the frame shown at t + 0.5 s.
"""

from __future__ import annotations

import hashlib
import io
import tarfile
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, fields, replace
from functools import lru_cache, partial
from pathlib import Path
from typing import IO

import numpy as np

from avs.core.clips import Clip, Failed, locate, read_table, write_table
from avs.core.errors import InputError
from avs.core.execute import ExecutionParams, Failure, map_items
from avs.core.media import MediaError, jpeg, read_media, unjpeg, unwav, wav
from avs.core.store import ItemStore, atomic, item_key, sha256_file

VERSION = 1  # raise when the decoded frames or sound of a clip change
SHARD_BYTES = 64 << 20
_FLAGS = "flags"  # name of the member of an item that holds the clip's flags


@dataclass(frozen=True)
class MediaClip(Clip):
    """A clip and where its members start in which shard."""

    shard: str = ""
    offset: int = 0


def preprocess(
    clips: Sequence[Clip], folder: Path, out: Path, execution: ExecutionParams
) -> tuple[list[MediaClip], list[Failed], int]:
    """Decode `clips`, whose videos lie in `folder`, and write the shards and `index.tsv` to `out`.

    Returns the clips written, those that failed, and how many clips had to be decoded.
    """
    store = ItemStore("media")
    store.sweep()
    keys = [media_key(clip) for clip in clips]
    missing = store.missing(keys)
    jobs = [(keys[place], clips[place]) for place in missing]
    results = map_items(partial(_decode, folder, store), jobs, execution, "preprocess")
    reasons = {key: r.reason for (key, _), r in zip(jobs, results, strict=True) if isinstance(r, Failure)}
    failed = [Failed(c.key, c.video, reasons[k]) for k, c in zip(keys, clips, strict=True) if k in reasons]
    usable = [(key, clip) for key, clip in zip(keys, clips, strict=True) if key not in reasons]
    rows = _write_shards(usable, store, out)
    write_table(out / "index.tsv", rows, MediaClip)
    return rows, failed, len(jobs) - len({key for key, _ in jobs if key in reasons})


def media_key(clip: Clip) -> str:
    """The key of a clip's decoded frames and sound in the store `media`."""
    place = {"start": clip.clip_start} if clip.clip_start else {}
    return item_key(version=VERSION, video=clip.sha256, seconds=clip.seconds, **place)


class MediaShards:
    """Reads what the stage wrote: `clips`, the sound and frames of each, and the clips that `failed` on the way."""

    def __init__(self, folder: Path) -> None:
        self._folder = folder
        self.clips = read_table(folder / "index.tsv", MediaClip)
        self.failed = read_table(folder / "failures.tsv", Failed)
        if len({clip.seconds for clip in self.clips}) > 1:
            raise InputError(f"{folder}: clips of different length in one data set")

    @property
    def num_seconds(self) -> int:
        return self.clips[0].seconds

    def table(self) -> list[Clip]:
        """The clips without their place in the shards, as later stages hand them on."""
        names = [field.name for field in fields(Clip)]
        return [Clip(**{name: getattr(clip, name) for name in names}) for clip in self.clips]

    def waveform(self, clip: MediaClip) -> np.ndarray:
        """float32 [T * 16000] in [-1, 1]."""
        return unwav(self._members(clip, "audio.wav")[0]).astype(np.float32) / 32768

    def frames(self, clip: MediaClip) -> list[np.ndarray]:
        """T frames, uint8 [H, W, 3], RGB."""
        return [unjpeg(data) for data in self._members(clip, *_frame_names(clip.seconds))]

    def _members(self, clip: MediaClip, *names: str) -> list[bytes]:
        with (self._folder / clip.shard).open("rb") as file:
            file.seek(clip.offset)
            found = dict(_read_members(file, 1 + clip.seconds))
        return [found[f"{clip.key}/{name}"] for name in names]


def _frame_names(seconds: int) -> list[str]:
    return [f"frames/{t}.jpg" for t in range(seconds)]


def _decode(folder: Path, store: ItemStore, job: tuple[str, Clip]) -> None:
    """Decode one clip into the store; the item is a tar of its members and flags."""
    key, clip = job
    path = locate(folder, clip.video)
    if not path.is_file():
        raise MediaError("video is gone since install (run: dvc repro -f install@clips)")
    state = path.stat()
    if _digest(path, state.st_size, state.st_mtime_ns) != clip.sha256:
        raise MediaError("video has changed since install (run: dvc repro -f install@clips)")
    media = read_media(path, clip.seconds, start=clip.clip_start)
    names = ["audio.wav", *_frame_names(clip.seconds), _FLAGS]
    contents = [wav(media.audio), *map(jpeg, media.frames), ",".join(media.flags).encode()]
    item = io.BytesIO()
    with tarfile.open(fileobj=item, mode="w", format=tarfile.USTAR_FORMAT) as tar:
        for name, content in zip(names, contents, strict=True):
            _add(tar, name, content)
    store.save(key, item.getvalue())


@lru_cache(maxsize=16)
def _digest(path: Path, size: int, changed: int) -> str:
    """The digest of a file in that state: many clips may come from one long video."""
    return sha256_file(path)


def _write_shards(usable: list[tuple[str, Clip]], store: ItemStore, out: Path) -> list[MediaClip]:
    rows: list[MediaClip] = []
    pending = iter(usable)
    upcoming = next(pending, None)
    while upcoming:
        name = f"shard-{len({row.shard for row in rows}):05d}.tar"
        with (
            atomic(out / name) as file,
            tarfile.open(fileobj=file, mode="w", format=tarfile.PAX_FORMAT) as tar,
        ):
            while upcoming and tar.offset < SHARD_BYTES:
                rows.append(_append(tar, name, upcoming[1], store.load(upcoming[0])))
                upcoming = next(pending, None)
    return rows


def _append(tar: tarfile.TarFile, shard: str, clip: Clip, item: bytes) -> MediaClip:
    offset = tar.offset
    flags = ""
    for name, content in _read_members(io.BytesIO(item)):
        if name == _FLAGS:
            flags = content.decode()
        else:
            _add(tar, f"{clip.key}/{name}", content)
    digest = hashlib.sha256(item).hexdigest()
    return MediaClip(**vars(replace(clip, media=digest, flags=flags)), shard=shard, offset=offset)


def _read_members(file: IO[bytes], limit: int | None = None) -> Iterator[tuple[str, bytes]]:
    with tarfile.open(fileobj=file, mode="r|") as tar:
        for number, member in enumerate(tar, 1):
            content = tar.extractfile(member)
            assert content is not None, f"{member.name} is not a file"
            yield member.name, content.read()
            if number == limit:
                return


def _add(tar: tarfile.TarFile, name: str, content: bytes) -> None:
    """Add a file whose header holds nothing that differs between machines or runs."""
    info = tarfile.TarInfo(name)
    info.size = len(content)
    tar.addfile(info, io.BytesIO(content))
