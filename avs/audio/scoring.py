"""Media shards → per-second eventness and audio features of every clip, through the item store."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor
from functools import partial
from itertools import chain
from pathlib import Path
from typing import Any

import numpy as np

from avs.audio import features
from avs.audio.backend import Backend, options_of
from avs.audio.eventness import EventnessParams
from avs.audio.supervised import Supervised, plan_lessons
from avs.core.clips import Clip, write_table
from avs.core.execute import ExecutionParams, Job, progress, running, save_all, torch_device
from avs.core.store import ItemStore, item_key, write_array, write_json
from avs.preprocess import MediaClip, MediaShards

_BASIC = {"method": "basic"}


def score_clips(media: Path, out: Path, p: EventnessParams, execution: ExecutionParams) -> dict[str, int]:
    """Write `scores.npy` [N, T], `features.npy` [N, T, 10], `index.tsv` and `meta.json`.

    Raises InputError, before any work, where a method has to learn from training clips that are too few.
    """
    shards = MediaShards(media)
    backend = p.backend().on(execution.device_names()[0])
    provenance = {"method": p.method} | backend.identity
    lessons = plan_lessons(shards.clips, p.folds) if isinstance(backend, Supervised) else []
    origin = _origin(backend, p.method)
    elsewhere = _score_elsewhere(shards, p, origin, execution) if execution.backend == "ray" else 0
    own, basic, computed = _per_clip(shards, backend, origin, execution.num_workers())
    if isinstance(backend, Supervised):
        known = own if own.shape[-1] else basic
        scores = backend.learn(known, shards.clips, lessons, standardize=p.standardize, epochs=p.epochs)
        provenance |= {"folds": p.folds, "standardize": p.standardize, "epochs": p.epochs or backend.recipe.epochs}
    else:
        scores = own[..., 0] if backend.column is None else basic[..., backend.column]
    write_array(out / "scores.npy", np.ascontiguousarray(scores))
    write_array(out / "features.npy", np.ascontiguousarray(basic))
    write_table(out / "index.tsv", shards.table(), Clip)
    scale = {"unit": backend.scale.unit, "std_threshold": backend.scale.std_threshold}
    write_json(out / "meta.json", provenance | {"scale": scale, "failed_clips": len(shards.failed)})
    flat = int((scores.std(axis=1) < backend.scale.std_threshold).sum())
    return {"clips": len(shards.clips), "computed": computed + elsewhere, "flat": flat}


def _origin(backend: Backend, method: str) -> dict[str, Any]:
    """All that `describe` depends on besides the sound. Methods that need basic features alone share their items."""
    if isinstance(backend, Supervised) and backend.inputs == "fbank":
        return {"method": "fbank", "version": features.FBANK_VERSION}
    alone = isinstance(backend, Supervised) or backend.column is not None
    return _BASIC if alone else {"method": method} | backend.identity


def _keys(shards: MediaShards, origin: dict[str, Any]) -> list[str]:
    return [item_key(**origin, features=features.VERSION, media=clip.media) for clip in shards.clips]


def _score_elsewhere(
    shards: MediaShards, p: EventnessParams, origin: dict[str, Any], execution: ExecutionParams
) -> int:
    """Items of a method with a network, made by the workers of a cluster: how many. Others take less than a start."""
    if not any("weights" in options_of(name) for name in p.method.split("+")):
        return 0
    kind = torch_device(execution.device_names()[0]).type
    keys, store = _keys(shards, origin), ItemStore("eventness")
    jobs = [(keys[place], shards.clips[place]) for place in store.missing(keys)]
    score = partial(_score_into, shards, store, p.backend().on(kind))
    save_all(score, [Job((clip.key,), (key, clip)) for key, clip in jobs], execution, "eventness", kind)
    return len(jobs)


def _score_into(shards: MediaShards, store: ItemStore, backend: Backend, job: tuple[str, MediaClip]) -> None:
    key, clip = job
    if key not in store:
        store.save_array(key, _columns(shards, backend, [clip])[0])


def _columns(shards: MediaShards, backend: Backend, clips: Sequence[MediaClip]) -> np.ndarray:
    """What an item of each clip holds: `describe`'s columns, then the basic features, float32 [N, T, C + 10]."""
    waveforms = np.stack([shards.waveform(clip) for clip in clips])
    own = backend.describe(waveforms, clips[0].seconds)
    basic = features.basic_features(waveforms, num_seconds=clips[0].seconds)
    return np.concatenate([own, basic], axis=-1).astype(np.float32)


def _per_clip(
    shards: MediaShards, backend: Backend, origin: dict[str, Any], workers: int
) -> tuple[np.ndarray, np.ndarray, int]:
    """What `describe` says of each clip [N, T, C], the basic features [N, T, 10], and how many clips were computed.

    Both are kept, as long as `origin` and the clip are the same. Several threads describe a clip each, or a few where
    that is quick: networks compute in one thread, so that their number changes no bits.
    """
    keys = _keys(shards, origin)
    at_once = features.CLIPS_AT_ONCE if origin == _BASIC else 1

    def columns(positions: list[int]) -> np.ndarray:
        return _columns(shards, backend, [shards.clips[position] for position in positions])

    def compute(positions: list[int]) -> Iterator[tuple[int, np.ndarray]]:
        chunks = [positions[start : start + at_once] for start in range(0, len(positions), at_once)]
        with running(ThreadPoolExecutor(workers)) as pool:
            described = chain.from_iterable(pool.map(columns, chunks))
            yield from zip(positions, progress(described, "eventness", len(positions)), strict=True)

    table, computed = ItemStore("eventness").pack(keys, compute)
    return table[..., : -features.NUM_FEATURES], table[..., -features.NUM_FEATURES :], computed
