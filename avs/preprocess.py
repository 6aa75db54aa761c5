"""Clip table → media shards: each clip decoded once into one frame a second and 16 kHz mono sound.

A shard is a plain tar: `<clip key>/audio.wav` (PCM16) and `<clip key>/frames/<t>.jpg`, the frame shown at t + 0.5 s.
"""

from __future__ import annotations

import hashlib
import io
from collections.abc import Sequence
from dataclasses import dataclass, fields
from difflib import get_close_matches
from functools import lru_cache, partial
from pathlib import Path
from typing import IO

import numpy as np

from avs.core.clips import Clip, Failed, locate, read_table, write_table
from avs.core.errors import InputError
from avs.core.execute import ExecutionParams, Failure, map_items
from avs.core.media import MediaError, jpeg, read_media, unjpeg, unwav, wav
from avs.core.shards import SHARD_BYTES, Facts, Named, item_at, pack_shards, packed, read_first, read_members
from avs.core.store import ItemStore, atomic, item_key, sha256_file

VERSION = 2  # raise when the frames, sound or flags of a clip change; 2: `damaged` is not told of frames passed over
_AGAIN = " (run: dvc repro -f preprocess@clips)"
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
    results = map_items(partial(decode_into, folder, store), jobs, execution, "preprocess")
    reasons = {key: r.reason for (key, _), r in zip(jobs, results, strict=True) if isinstance(r, Failure)}
    failed = [Failed(c.key, c.video, reasons[k]) for k, c in zip(keys, clips, strict=True) if k in reasons]
    usable = [(key, clip) for key, clip in zip(keys, clips, strict=True) if key not in reasons]
    named = [Named(key, clip.key) for key, clip in usable]
    facts = pack_shards(store, named, out, _unpack, SHARD_BYTES)
    rows = [MediaClip(**(vars(clip) | known)) for (_, clip), known in zip(usable, facts, strict=True)]
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

    def __getstate__(self) -> dict[str, Path]:
        """Where the files lie, for processes that are given the clips that they read."""
        return {"_folder": self._folder}

    @property
    def num_seconds(self) -> int:
        return self.clips[0].seconds

    def table(self) -> list[Clip]:
        """The clips without their place in the shards, as later stages hand them on."""
        names = [field.name for field in fields(Clip)]
        return [Clip(**{name: getattr(clip, name) for name in names}) for clip in self.clips]

    def waveform(self, clip: MediaClip) -> np.ndarray:
        """float32 [T * 16000] in [-1, 1]."""
        with item_at(self._folder / clip.shard, clip.offset, buffering=0) as file:
            name, content = read_first(file)
            if name != f"{clip.key}/audio.wav":
                raise InputError(f"{clip.shard}, byte {clip.offset}: {name!r} is not the sound of {clip.key}{_AGAIN}")
            return np.multiply(unwav(content), np.float32(2**-15), dtype=np.float32)

    def frames(self, clip: MediaClip) -> list[np.ndarray]:
        """T frames, uint8 [H, W, 3], RGB."""
        with item_at(self._folder / clip.shard, clip.offset) as file:
            files = _files(file, clip)
            return [unjpeg(files[name]) for name in _frame_names(clip.seconds)]

    def files(self, clip: MediaClip) -> dict[str, bytes]:
        """`audio.wav` and `frames/0.jpg`, `frames/1.jpg`, …, as they are in the shard."""
        with item_at(self._folder / clip.shard, clip.offset) as file:
            return _files(file, clip)

    def export(self, name: str, folder: Path) -> MediaClip:
        """Write the files of a clip, named by its key or by a video that has one row, into a folder.

        Raises InputError where no clip, or more than one, has that name.
        """
        found = [clip for clip in self.clips if name in (clip.key, clip.video, clip.key.partition("-")[2])]
        if len(found) != 1:
            near = [clip.key for clip in found] or get_close_matches(name, [clip.key for clip in self.clips], cutoff=0)
            raise InputError(f"{len(found)} clips are named {name!r}: give a key, for example {', '.join(near[:3])}")
        for file, content in self.files(found[0]).items():
            with atomic(folder / file) as out:
                out.write(content)
        return found[0]


def _files(file: IO[bytes], clip: MediaClip) -> dict[str, bytes]:
    found = dict(read_members(file, 1 + clip.seconds))
    return {name: found[f"{clip.key}/{name}"] for name in ("audio.wav", *_frame_names(clip.seconds))}


def _frame_names(seconds: int) -> list[str]:
    return [f"frames/{t}.jpg" for t in range(seconds)]


def decode_into(folder: Path, store: ItemStore, job: tuple[str, Clip]) -> None:
    """Decode a clip into the store, under the key beside it; the item is a tar of its members and flags."""
    key, clip = job
    if key in store:  # by now: another process made it, or a worker that died after it
        return
    path = locate(folder, clip.video)
    if not path.is_file():
        raise MediaError("video is gone since install (run: dvc repro -f install@clips)")
    state = path.stat()
    if _digest(path, state.st_size, state.st_mtime_ns) != clip.sha256:
        raise MediaError("video has changed since install (run: dvc repro -f install@clips)")
    media = read_media(path, clip.seconds, start=clip.clip_start)
    names = ["audio.wav", *_frame_names(clip.seconds), _FLAGS]
    contents = [wav(media.audio), *map(jpeg, media.frames), ",".join(media.flags).encode()]
    store.save(key, packed(dict(zip(names, contents, strict=True))))


@lru_cache(maxsize=16)
def _digest(path: Path, size: int, changed: int) -> str:
    """The digest of a file in that state: many clips may come from one long video."""
    return sha256_file(path)


def _unpack(item: bytes) -> tuple[dict[str, bytes], Facts]:
    """Its members in a shard, and what the table says of it."""
    members = dict(read_members(io.BytesIO(item)))
    flags = members.pop(_FLAGS).decode()
    return members, {"media": hashlib.sha256(item).hexdigest(), "flags": flags}
