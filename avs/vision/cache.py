"""Media shards → frozen features of every clip at every resolution that a plan can use, through the item store."""

from __future__ import annotations

import threading
from collections.abc import Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor
from contextlib import nullcontext
from functools import partial
from pathlib import Path
from typing import Literal

import numpy as np
import torch

from avs.core.clips import Clip, write_table
from avs.core.execute import ExecutionParams, progress, running
from avs.core.params import params
from avs.core.store import ItemStore, item_key, write_array, write_json
from avs.core.weights import check_pinned
from avs.preprocess import MediaShards
from avs.vision.encoder import Encoder, check_name, load_encoder


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
    """Write `res_<R>.npy` float32 [N, T, D] for each resolution, `index.tsv` and `meta.json`.

    Features are found again only where media, encoder, weights, dtype and preprocessing are the same.
    Counts clips and the (clip, resolution) items that were computed.
    """
    shards = MediaShards(media)
    encoder = load_encoder(p.encoder, weights=p.weights, device=execution.devices, dtype=p.dtype)
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
        compute = partial(_encode, shards, encoder, resolution, workers=execution.num_workers())
        features, made = store.pack(keys, compute)
        write_array(out / f"res_{resolution}.npy", features)
        computed += made
    write_table(out / "index.tsv", shards.table(), Clip)
    gflops = {str(resolution): encoder.gflops(resolution) for resolution in resolutions}
    write_json(out / "meta.json", provenance | {"patch_size": encoder.patch_size, "gflops": gflops})
    return {"clips": len(shards.clips), "computed": computed}


def _encode(
    shards: MediaShards, encoder: Encoder, resolution: int, places: list[int], workers: int
) -> Iterator[tuple[int, np.ndarray]]:
    """Features [T, D] of the clips at `places`: several threads read, resize and encode batches of clips.

    On a CPU each thread computes by itself, which is faster than all on one batch and gives bits that do not
    depend on their number. A GPU takes one batch at a time.
    """
    size = max(1, encoder.batch_size(resolution) // shards.num_seconds)
    batches = [places[i : i + size] for i in range(0, len(places), size)]
    turn = threading.Lock() if encoder.device.type == "cuda" else nullcontext()

    def encode(batch: list[int]) -> np.ndarray:
        frames = [frame for place in batch for frame in shards.frames(shards.clips[place])]
        prepared = encoder.prepare(frames, resolution)
        with turn:
            return encoder.embed(prepared).reshape(len(batch), shards.num_seconds, -1)

    with running(ThreadPoolExecutor(workers, initializer=torch.set_num_threads, initargs=(1,))) as pool:
        features = pool.map(encode, batches)
        for batch, found in zip(batches, progress(features, f"cache {resolution} px", len(batches)), strict=True):
            yield from zip(batch, found, strict=True)
