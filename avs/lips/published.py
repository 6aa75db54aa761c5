"""The published layout of MuSE features, `<folder>/<sha1[:2]>/<sha1>.npy` beside `index.jsonl`: found, read, written.

The name is the SHA-1 of `video|start|end` with the video's path as the writer was given it and times as Python prints
them, so that one clip can have several: `0`, `0.0` and nothing at all are one time, and a path may be absolute.
Nobody vouches for such a folder: nothing in it can run, fill the memory, or name files outside.
"""

from __future__ import annotations

import hashlib
import json
import os
import re
from collections import defaultdict
from collections.abc import Callable, Iterable, Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path, PurePosixPath
from typing import Any

import numpy as np

from avs.core.errors import InputError
from avs.core.execute import progress
from avs.core.store import write_array, write_json, write_json_lines
from avs.lips.media import SpeechClip
from avs.lips.preflight import DAMAGED, MISS, Problem, check_length
from avs.lips.visual_frontend import DIM

INDEX, META = "index.jsonl", "meta.json"
MAX_BYTES = 1 << 30  # of one clip's features: six hours
_LINE = 1 << 16  # characters of a row of the index
_KEY = re.compile("[0-9a-f]{40}")


def cache_key(video: str, start: float | None = None, end: float | None = None) -> str:
    """The published key of a clip, times of zero left out: what is written here."""
    return _sha1(video, _time(start), _time(end))


def old_keys(
    video: str, start: float | None = None, end: float | None = None, prefixes: Sequence[str] = ("",)
) -> Iterator[str]:
    """All keys that a clip may have been written under, with each prefix before its video's name."""
    for prefix in prefixes:
        for start_text in _spellings(start):
            for end_text in _spellings(end):
                yield _sha1(f"{prefix}{video}", start_text, end_text)


def path_prefixes(videos: str | None = None) -> list[str]:
    """What may stand before a video's name: that of the working directory, or of the folder where videos lay."""
    forms = ["", "./", f"{Path.cwd()}/"]
    if videos:
        forms += [f"{path}/" for path in (Path(videos), Path(videos).absolute(), os.path.relpath(videos))]
    return list(dict.fromkeys(forms))


def read_features(path: Path) -> np.ndarray:
    """Features float32 [T,512] of one file, mapped, not read. Raises InputError for anything else."""
    if not path.is_file():  # a pipe would be waited for
        raise InputError(f"{path.name}: not a regular file")
    if path.stat().st_size > MAX_BYTES:
        raise InputError(f"{path.name}: larger than {MAX_BYTES >> 20} MiB")
    try:
        array = np.load(path, mmap_mode="r", allow_pickle=False)
    except Exception as error:  # a damaged file can fail in any way
        raise InputError(f"{path.name}: cannot be read as .npy: {error}") from None
    if not isinstance(array, np.memmap) or array.dtype != np.float32 or array.ndim != 2 or array.shape[1] != DIM:
        found = f"{array.dtype} {list(array.shape)}" if isinstance(array, np.ndarray) else type(array).__name__
        raise InputError(f"{path.name}: holds {found}, not float32 [T,{DIM}]")
    return array


@dataclass(frozen=True)
class _Row:
    """A row of index.jsonl."""

    video: PurePosixPath
    dataset: str
    times: tuple[str, str]
    key: str


class PublishedCache:
    """Reads a folder in the published layout; `meta` is what an export of this kit says about it, else empty."""

    def __init__(self, folder: Path, videos: str | None = None) -> None:
        if not folder.is_dir():
            raise InputError(f"{folder} is no folder")
        self.folder = folder
        self.meta: dict[str, Any] = _read_meta(folder / META)
        self._prefixes = path_prefixes(videos)
        self._files = {path.stem: path for path in folder.glob("[0-9a-f][0-9a-f]/*.npy") if _KEY.fullmatch(path.stem)}
        self._rows: dict[str, list[_Row]] = defaultdict(list)
        for row in _read_rows(folder / INDEX):
            self._rows[row.video.name].append(row)

    def __len__(self) -> int:
        return len(self._files)

    def find(self, clip: SpeechClip) -> Path | None:
        """The clip's file: by its keys, else by the one row whose video's path ends in the clip's.

        Raises InputError where rows of several videos do.
        """
        for key in old_keys(clip.video, clip.start, clip.end, self._prefixes):
            if key in self._files:
                return self._files[key]
        rows = [row for row in self._rows[PurePosixPath(clip.video).name] if _is_of(row, clip)]
        found = {row.video: self._files[row.key] for row in rows if row.key in self._files}
        if len(found) > 1:
            raise InputError(f"{len(found)} videos in {INDEX} end in its name, first {min(found)}")
        return next(iter(found.values()), None)

    def problems(self, clips: Sequence[SpeechClip]) -> Iterator[Problem]:
        """What is missing, unreadable or of another length; only headers of files are read."""
        check_told_apart(clips)
        for clip in clips:
            try:
                path = self.find(clip)
                if path is None:
                    yield Problem(clip.key, MISS)
                else:
                    yield from check_length(clip, len(read_features(path)))
            except InputError as error:
                yield Problem(clip.key, DAMAGED, str(error))

    def load(self, clip: SpeechClip) -> np.ndarray:
        """Features float32 [T,512] of a clip without problems."""
        path = self.find(clip)
        assert path is not None, clip.key
        features = np.array(read_features(path))
        if not np.isfinite(features).all():
            raise InputError(f"{path}: holds numbers that are not finite")
        return features


def write_published(
    folder: Path,
    clips: Sequence[SpeechClip],
    load: Callable[[SpeechClip], np.ndarray],
    meta: dict[str, Any],
    videos: str | None = None,
) -> None:
    """Add what `load` gives for each clip to a folder in the published layout.

    videos: what to put before the clips' video names, where the reader names them so. Raises InputError for a folder
    that holds features of another or of an unknown origin.
    """
    check_told_apart(clips)
    known = _read_meta(folder / META)
    if known != meta and (known or (folder / INDEX).exists() or any(folder.glob("*/*.npy"))):
        raise InputError(f"{folder} holds features of {origin(known)}, not of {origin(meta)}: take an empty folder")
    write_json(folder / META, meta)
    rows = {row["cache_path"]: row for row in _json_lines(folder / INDEX)}
    for clip in progress(clips, "export"):
        row = published_row(clip, str(Path(videos) / clip.video) if videos else clip.video)
        write_array(folder / row["cache_path"], load(clip))
        rows[row["cache_path"]] = row
    write_json_lines(folder / INDEX, rows.values())


def check_told_apart(clips: Iterable[SpeechClip]) -> None:
    """Raise InputError for two clips of one video and time, such as two faces: they would have one key."""
    seen: dict[str, str] = {}
    for clip in clips:
        key = cache_key(clip.video, clip.start, clip.end)
        if key in seen:
            raise InputError(
                f"{seen[key]} and {clip.key} are one part of {clip.video}: a published cache mixes them up"
            )
        seen[key] = clip.key


def published_row(clip: SpeechClip, video: str) -> dict[str, Any]:
    """A row of index.jsonl, as published."""
    key = cache_key(video, clip.start, clip.end)
    return {
        "dataset": clip.dataset_name,
        "split": clip.split,
        "video": video,
        "start_time": clip.start or None,
        "end_time": clip.end or None,
        "cache_path": f"{key[:2]}/{key}.npy",
        "num_frames": clip.frames,
    }


def origin(meta: dict[str, Any]) -> str:
    """In words: which checkpoint and preprocessing."""
    checkpoint, preprocessing = (meta.get(key, "unknown") for key in ("checkpoint_sha256", "preprocessing"))
    return f"checkpoint {checkpoint} with preprocessing {preprocessing}"


def _sha1(video: str, start: str, end: str) -> str:
    return hashlib.sha1(f"{video}|{start}|{end}".encode("utf-8", "surrogateescape"), usedforsecurity=False).hexdigest()


def _time(value: float | None) -> str:
    return str(float(value)) if value else ""


def _spellings(value: float | None) -> list[str]:
    if not value:
        return ["", "0", "0.0"]
    return [str(float(value)), *([str(int(value))] if float(value).is_integer() else [])]


def _is_of(row: _Row, clip: SpeechClip) -> bool:
    parts = PurePosixPath(clip.video).parts
    same_set = not row.dataset or row.dataset == clip.dataset_name
    return same_set and row.times == (_time(clip.start), _time(clip.end)) and row.video.parts[-len(parts) :] == parts


def _read_rows(path: Path) -> Iterator[_Row]:
    for number, row in enumerate(_json_lines(path), 1):
        try:
            times = _time(_number(row["start_time"])), _time(_number(row["end_time"]))
            key = PurePosixPath(row["cache_path"]).stem
            yield _Row(PurePosixPath(row["video"]), str(row.get("dataset") or ""), times, key)
        except (KeyError, TypeError, ValueError, OverflowError) as error:
            raise InputError(f"{path}, line {number}: not a row of a MuSE cache: {error!r}") from None


def _number(value: Any) -> float:
    return float(value or 0)


def _json_lines(path: Path) -> Iterator[dict[str, Any]]:
    if not path.is_file():
        return
    with path.open(encoding="utf-8", errors="surrogateescape") as file:
        for number, line in enumerate(iter(lambda: file.readline(_LINE), ""), 1):
            try:
                row = json.loads(line)
            except (ValueError, RecursionError) as error:
                raise InputError(f"{path}, line {number}: not JSON: {error}") from None
            if not isinstance(row, dict) or not isinstance(row.get("cache_path"), str):
                raise InputError(f"{path}, line {number}: not a row of a MuSE cache")
            yield row


def _read_meta(path: Path) -> dict[str, Any]:
    if not path.is_file():
        return {}
    try:
        meta = json.loads(path.read_text(encoding="utf-8"))
    except (OSError, ValueError, RecursionError) as error:
        raise InputError(f"{path}: not JSON: {error}") from None
    if not isinstance(meta, dict) or not all(isinstance(value, str | bool) for value in meta.values()):
        raise InputError(f"{path}: not the description of a MuSE cache")
    return meta
