"""Media shards → frozen features of every clip at every resolution that a plan can use, and how much moves in it,
through the item store."""

from __future__ import annotations

import json
from collections.abc import Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor
from functools import partial
from itertools import cycle, islice
from pathlib import Path
from queue import SimpleQueue
from typing import Literal

import numpy as np
import torch

from avs.core.clips import Clip, write_table
from avs.core.execute import ExecutionParams, exact_convolutions, progress, running
from avs.core.params import params
from avs.core.store import ItemStore, item_key, write_array, write_json
from avs.core.weights import check_pinned
from avs.preprocess import MediaShards
from avs.vision.encoder import Encoder, check_name, load_encoder
from avs.vision.motion import VERSION, frame_motion


@params
class CacheParams:
    """The frozen encoder; `weights: null` takes its published ones, another source is `file:PATH` and the like."""

    encoder: str = "efficientnet_lite0"
    weights: str | None = None
    dtype: Literal["auto", "float32", "bfloat16", "float16"] = "auto"

    def __post_init__(self) -> None:
        check_name(self.encoder)
        check_pinned(self.weights)


def cache_features(
    media: Path, out: Path, resolutions: Sequence[int], p: CacheParams, execution: ExecutionParams
) -> dict[str, int]:
    """Write `res_<R>.npy` float32 [N, T, D] for each resolution, `motion.npy` [N, T], `index.tsv` and `meta.json`.

    Features are found again only where media, encoder, weights, dtype and preprocessing are the same. They do not
    depend on how many devices share the work, as long as those are equal. Raises InputError, before any work, for a
    device that is not there. Counts clips and the (clip, resolution) features that were computed.
    """
    shards = MediaShards(media)
    execution.check_devices()
    names = execution.device_names()
    encoders = [load_encoder(p.encoder, weights=p.weights, device=name, dtype=p.dtype) for name in names]
    encoder = encoders[0]
    provenance = {
        "encoder": encoder.name,
        "weights_sha256": encoder.weights_digest,
        "device": encoder.device.type,
        "dtype": encoder.dtype,
        "preprocessing": encoder.preprocessing,
    }
    store = ItemStore("features")
    computed = 0
    for resolution in resolutions:
        keys = [item_key(**provenance, resolution=resolution, media=clip.media) for clip in shards.clips]
        compute = partial(_encode, shards, encoders, resolution, workers=execution.num_workers())
        computed += store.pack_into(out / f"res_{resolution}.npy", keys, compute)
    write_array(out / "motion.npy", _motion(shards, execution.num_workers()))
    write_table(out / "index.tsv", shards.table(), Clip)
    gflops = {str(resolution): _gflops(encoder, resolution) for resolution in resolutions}
    write_json(out / "meta.json", provenance | {"patch_size": encoder.patch_size, "gflops": gflops})
    return {"clips": len(shards.clips), "computed": computed}


def _gflops(encoder: Encoder, resolution: int) -> float:
    """Kept in the store: PyTorch imports its compiler to count them, which takes a second."""
    store, key = ItemStore("gflops"), item_key(version=1, encoder=encoder.name, resolution=resolution)
    if key not in store:
        store.save(key, json.dumps(encoder.gflops(resolution)).encode())
    return json.loads(store.load(key))


def _motion(shards: MediaShards, workers: int) -> np.ndarray:
    """[N, T], see `frame_motion`."""

    def moved(place: int) -> tuple[int, np.ndarray]:
        return place, frame_motion(shards.frames(shards.clips[place]))

    keys = [item_key(motion=VERSION, media=clip.media) for clip in shards.clips]
    with running(ThreadPoolExecutor(workers)) as pool:
        return ItemStore("motion").pack(keys, partial(pool.map, moved))[0]


def _encode(
    shards: MediaShards, encoders: Sequence[Encoder], resolution: int, places: list[int], workers: int
) -> Iterator[tuple[int, np.ndarray]]:
    """Features [T, D] of the clips at `places`: threads read and resize batches, and encode each where one is free.

    A GPU takes one batch at a time. On a CPU each thread computes by itself, which is faster than all on one batch
    and gives bits that do not depend on their number. Threads, not processes, serve several GPUs too: decoding,
    resizing and waiting for a GPU all release Python's lock, and one process holds one CUDA context a GPU and one
    handle on the store.
    """
    size = max(1, encoders[0].batch_size(resolution) // shards.num_seconds)
    batches = [places[i : i + size] for i in range(0, len(places), size)]
    threads = max(workers, len(encoders))
    free: SimpleQueue[Encoder] = SimpleQueue()
    for encoder in encoders if encoders[0].device.type == "cuda" else islice(cycle(encoders), threads):
        free.put(encoder)

    def encode(batch: list[int]) -> np.ndarray:
        frames = [frame for place in batch for frame in shards.frames(shards.clips[place])]
        prepared = encoders[0].prepare(frames, resolution)
        encoder = free.get()
        try:
            return encoder.embed(prepared).reshape(len(batch), shards.num_seconds, -1)
        finally:
            free.put(encoder)

    pool = ThreadPoolExecutor(threads, initializer=torch.set_num_threads, initargs=(1,))
    with exact_convolutions(), running(pool):
        features = pool.map(encode, batches)
        for batch, found in zip(batches, progress(features, f"cache {resolution} px", len(batches)), strict=True):
            yield from zip(batch, found, strict=True)
