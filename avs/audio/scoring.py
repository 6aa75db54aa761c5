"""Media shards → per-second eventness and audio features of every clip, through the item store."""

from __future__ import annotations

from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import numpy as np

from avs.audio import features
from avs.audio.eventness import EventnessParams
from avs.core.clips import Clip, write_table
from avs.core.execute import ExecutionParams, progress, running
from avs.core.store import ItemStore, item_key, write_array, write_json
from avs.preprocess import MediaShards


def score_clips(media: Path, out: Path, p: EventnessParams, execution: ExecutionParams) -> dict[str, int]:
    """Write `scores.npy` [N, T], `features.npy` [N, T, 10], `index.tsv` and `meta.json`.

    Several threads score a clip each: networks compute in one thread, so that their number changes no bits.
    """
    shards = MediaShards(media)
    backend = p.backend().on(execution.devices)
    provenance = {"method": p.method} | backend.identity
    keys = [item_key(**provenance, features=features.VERSION, media=clip.media) for clip in shards.clips]

    def describe(position: int) -> np.ndarray:
        waveform = shards.waveform(shards.clips[position])[None]
        scores = backend(waveform, num_seconds=shards.num_seconds)
        basic = features.basic_features(waveform, num_seconds=shards.num_seconds)
        return np.concatenate([scores[..., None], basic], axis=-1)[0].astype(np.float32)

    def compute(positions: list[int]) -> Iterator[tuple[int, np.ndarray]]:
        with running(ThreadPoolExecutor(execution.num_workers())) as pool:
            described = progress(pool.map(describe, positions), "eventness", len(positions))
            yield from zip(positions, described, strict=True)

    table, computed = ItemStore("eventness").pack(keys, compute)
    write_array(out / "scores.npy", np.ascontiguousarray(table[..., 0]))
    write_array(out / "features.npy", np.ascontiguousarray(table[..., 1:]))
    write_table(out / "index.tsv", shards.table(), Clip)
    scale = {"unit": backend.scale.unit, "std_threshold": backend.scale.std_threshold}
    write_json(out / "meta.json", provenance | {"scale": scale, "failed_clips": len(shards.failed)})
    return {"clips": len(keys), "computed": computed}
