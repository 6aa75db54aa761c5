"""Mouth crops → MuSE features of every clip, through the item store; packed, with a reader that looks before it trusts.

`features.npy` is float32 [sum of T, 512], one clip after another; a row of `index.jsonl` says where each begins;
`meta.json` says what made them.
"""

from __future__ import annotations

import json
import random
import sys
from collections.abc import Sequence
from concurrent.futures import ThreadPoolExecutor, as_completed
from functools import lru_cache, partial
from itertools import cycle, islice
from os import getpid
from pathlib import Path
from queue import SimpleQueue
from typing import Any

import numpy as np
import torch

from avs.core.errors import InputError
from avs.core.execute import ExecutionParams, Job, exact_convolutions, progress, running, save_all, torch_device
from avs.core.store import ItemStore, atomic, item_key, write_json, write_json_lines
from avs.lips.features import PREPROCESSINGS, Extractor, MuseParams, make_network, resolve_dtype
from avs.lips.media import SpeechClip, SpeechShards
from avs.lips.preflight import MISS, OTHER, Problem, check_length, refuse
from avs.lips.published import INDEX, META, origin, published_row
from avs.lips.visual_frontend import DIM, VERSION

FEATURES = "features.npy"
_RERUN = "run: dvc repro -f muse_precompute"
_IMPORT = "run: python -m avs muse-cache import DIR"


def muse_precompute(media: Path, out: Path, p: MuseParams, execution: ExecutionParams) -> dict[str, int]:
    """Write the features of all clips in scope to `out`; counts clips, frames, and clips that were computed.

    Raises InputError, before any work, for a device that is not there, a checkpoint that does not fit, a clip without
    the name of its data set, a scope without clips, and imported features that do not cover it.
    """
    execution.check_devices()
    shards = SpeechShards(media)
    clips = in_scope(shards.clips, p)
    store = ItemStore("muse")
    if p.imported:
        keys, made = _imported(store, p.imported, clips)
        items = [keys[clip.media] for clip in clips]
        computed = 0
    else:
        items, made, computed = _computed(store, shards, clips, p, execution)
    frames = _pack(store, clips, items, out, made)
    return {"clips": len(clips), "frames": frames, "computed": computed}


def in_scope(clips: Sequence[SpeechClip], p: MuseParams) -> list[SpeechClip]:
    """The clips that `scope` and `include_mcorec` let in. Raises InputError where a clip's data set has no name."""
    if nameless := [clip.key for clip in clips if not clip.dataset_name]:
        raise InputError(f"dataset_name is missing: {len(nameless)} of {len(clips)} clips, first {nameless[0]}")
    wanted = [clip for clip in clips if p.include_mcorec or clip.dataset_name != "mcorec"]
    wanted = [clip for clip in wanted if p.scope == "all" or clip.dataset_name == "mcorec"]
    if not wanted:
        scope = f"muse.scope {p.scope} with muse.include_mcorec {str(p.include_mcorec).lower()}"
        raise InputError(f"{scope} leaves none of {len(clips)} clips")
    return wanted


def _computed(
    store: ItemStore, shards: SpeechShards, clips: Sequence[SpeechClip], p: MuseParams, execution: ExecutionParams
) -> tuple[list[str], dict[str, Any], int]:
    """The clips' items, made where they are missing; what made them; how many were."""
    if p.preprocessing == "face":
        raise InputError("muse.preprocessing face needs face tracks, but media/speech holds mouth crops (take lips)")
    if not p.checkpoint:
        print("muse.checkpoint is empty: these features come from UNTRAINED weights", file=sys.stderr)
    names = execution.device_names()
    device = torch_device(names[0])
    made = {
        "checkpoint_sha256": p.checkpoint_digest,
        "trained": bool(p.checkpoint),
        "preprocessing": PREPROCESSINGS[p.preprocessing].version,
        "dtype": resolve_dtype(p.dtype, device),
        "device": device.type,
    }
    items = [item_key(version=VERSION, **made, media=clip.media) for clip in clips]
    store.sweep()
    jobs = [(items[place], clips[place]) for place in store.missing(items)]
    if not jobs:
        return items, made, 0
    if execution.backend == "ray":
        extract = partial(_extract_into, store, shards, p, device.type)
        save_all(
            extract, [Job((clip.key,), (key, clip)) for key, clip in jobs], execution, "muse_precompute", device.type
        )
        return items, made, len(jobs)
    network = make_network(p)
    extractors = [Extractor(network, p.preprocessing, name, p.dtype) for name in names]
    return items, made, _fill(store, shards, extractors, jobs, execution.num_workers())


def _extract_into(
    store: ItemStore, shards: SpeechShards, p: MuseParams, device: str, job: tuple[str, SpeechClip]
) -> None:
    """Make a missing item in any process, which loads the network once."""
    key, clip = job
    if key not in store:
        store.save_array(key, _extractor(p, device).features(shards.lips(clip)))


@lru_cache(maxsize=1)
def _extractor(p: MuseParams, device: str) -> Extractor:
    return Extractor(make_network(p), p.preprocessing, device, p.dtype)


def _fill(
    store: ItemStore,
    shards: SpeechShards,
    extractors: Sequence[Extractor],
    jobs: list[tuple[str, SpeechClip]],
    workers: int,
) -> int:
    """Make the missing items; how many were left to make.

    Threads, one clip each, for the reasons that avs.vision.cache gives. Each takes the clips in an order of its own
    process and leaves out what has appeared meanwhile, so that processes on one store share the work.
    """
    random.Random(getpid()).shuffle(jobs)
    threads = max(workers, len(extractors))
    free: SimpleQueue[Extractor] = SimpleQueue()
    for extractor in extractors if extractors[0].device.type == "cuda" else islice(cycle(extractors), threads):
        free.put(extractor)

    def make(job: tuple[str, SpeechClip]) -> int:
        key, clip = job
        if key in store:
            return 0
        pictures = shards.lips(clip)
        extractor = free.get()
        try:
            features = extractor.features(pictures)
        finally:
            free.put(extractor)
        store.save_array(key, features)
        return 1

    pool = ThreadPoolExecutor(threads, initializer=torch.set_num_threads, initargs=(1,))
    with exact_convolutions(), running(pool):
        futures = [pool.submit(make, job) for job in jobs]
        return sum(done.result() for done in progress(as_completed(futures), "muse_precompute", len(jobs)))


def _pack(store: ItemStore, clips: Sequence[SpeechClip], items: Sequence[str], out: Path, made: dict[str, Any]) -> int:
    """Write the three files, one clip in memory at a time; how many frames there are."""
    frames = sum(clip.frames for clip in clips)
    rows: list[dict[str, Any]] = []
    first = 0
    with atomic(out / FEATURES) as file:
        header = {"descr": "<f4", "fortran_order": False, "shape": (frames, DIM)}
        np.lib.format.write_array_header_1_0(file, header)
        for clip, item in zip(clips, items, strict=True):
            features = store.load_array(item)
            refuse(check_length(clip, len(features)), len(clips), "run: dvc repro -f preprocess@speech")
            file.write(features.astype("<f4", copy=False).tobytes())
            rows.append(published_row(clip, clip.video) | {"clip": clip.key, "media": clip.media, "first": first})
            first += clip.frames
    write_json_lines(out / INDEX, rows)
    write_json(out / META, made | {"clips": len(clips), "frames": frames})
    return frames


class MuseFeatures:
    """Reads what the stage wrote, for training.

    expected: the parameters whose features are wanted. Raises InputError, naming both, for those of another
    checkpoint or preprocessing.
    """

    def __init__(self, folder: Path, expected: MuseParams | None = None) -> None:
        try:
            self.meta = json.loads((folder / META).read_text())
            self._rows = {row["clip"]: row for row in map(json.loads, (folder / INDEX).open(encoding="utf-8"))}
            self._features = np.load(folder / FEATURES, mmap_mode="r", allow_pickle=False)
        except Exception as error:  # a damaged file can fail in any way
            raise InputError(f"{folder}: holds no MuSE features: {error} ({_RERUN})") from None
        if self._features.shape != (self.meta["frames"], DIM):
            raise InputError(f"{folder}/{FEATURES}: {list(self._features.shape)} is not what {META} says ({_RERUN})")
        if expected:
            check_origin(self.meta, expected, str(folder))

    def __len__(self) -> int:
        return len(self._rows)

    def __contains__(self, clip: SpeechClip) -> bool:
        return clip.key in self._rows

    def load(self, clip: SpeechClip) -> np.ndarray:
        """Features float32 [T,512]. Raises InputError for whatever `check` would."""
        refuse(self.problems([clip]), 1, _RERUN)
        row = self._rows[clip.key]
        return np.array(self._features[row["first"] : row["first"] + row["num_frames"]])

    def check(self, clips: Sequence[SpeechClip]) -> None:
        """Raise InputError that lists each clip whose features are missing, of another length or of other media."""
        refuse(self.problems(clips), len(clips), _RERUN)

    def problems(self, clips: Sequence[SpeechClip]) -> list[Problem]:
        return [problem for clip in clips for problem in self._of(clip)]

    def _of(self, clip: SpeechClip) -> list[Problem]:
        row = self._rows.get(clip.key)
        if row is None:
            return [Problem(clip.key, MISS)]
        found = check_length(clip, row["num_frames"])
        if not found and row["media"] != clip.media:
            found = [Problem(clip.key, OTHER, f"made from {row['media'][:12]}, now {clip.media[:12]}")]
        return found


def _imported(store: ItemStore, digest: str, clips: Sequence[SpeechClip]) -> tuple[dict[str, str], dict[str, Any]]:
    """Item keys of imported features by the clips' media, all of them there, and what made them."""
    if digest not in store:
        raise InputError(f"muse.checkpoint (imported:{digest}) is not in the store ({_IMPORT})")
    content = json.loads(store.load(digest))
    keys: dict[str, str] = content["items"]
    absent = [clip for clip in clips if clip.media not in keys or keys[clip.media] not in store]
    refuse([Problem(clip.key, MISS) for clip in absent], len(clips), _IMPORT)
    return keys, content["made"] | {"imported": digest}


def check_origin(meta: dict[str, Any], p: MuseParams, where: str) -> None:
    """Raise InputError, naming both, for features of another checkpoint or preprocessing than the parameters name."""
    if p.imported:
        if meta.get("imported") != p.imported:
            raise InputError(f"{where}: holds features of {origin(meta)}, not {p.checkpoint} ({_RERUN})")
        return
    wanted = {"checkpoint_sha256": p.checkpoint_digest, "preprocessing": PREPROCESSINGS[p.preprocessing].version}
    if any(meta.get(key) != value for key, value in wanted.items()):
        raise InputError(f"{where}: holds features of {origin(meta)}, not of {origin(wanted)} ({_RERUN})")
