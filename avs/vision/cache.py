"""Media shards → frozen features of every clip at every resolution that a plan can use, and how much moves in it,
through the item store."""

from __future__ import annotations

import json
from collections import defaultdict
from collections.abc import Iterator, Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from functools import lru_cache, partial
from itertools import cycle
from pathlib import Path
from typing import Literal, TypeAlias

import numpy as np

from avs.core.clips import Clip, write_table
from avs.core.execute import ExecutionParams, Job, exact_convolutions, one_thread, progress, running, save_all
from avs.core.params import params
from avs.core.store import ItemStore, item_key, write_json
from avs.core.weights import check_pinned
from avs.preprocess import MediaShards
from avs.vision.encoder import Encoder, check_name, load_encoder
from avs.vision.motion import VERSION, frame_motion

Wanted: TypeAlias = int | Literal["motion"]  # of a clip: features at a resolution, or how much moves in it
Batch: TypeAlias = tuple[Sequence[Wanted], list[int]]  # what to find, of the clips at these places of the table
_Keys: TypeAlias = Mapping[Wanted, Mapping[int, str]]  # of what is found, by place


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
    encoders = [_encoder(p, name) for name in execution.device_names()]
    encoder = encoders[0]
    provenance = {
        "encoder": encoder.name,
        "weights_sha256": encoder.weights_digest,
        "device": encoder.device.type,
        "dtype": encoder.dtype,
        "preprocessing": encoder.preprocessing,
    }
    keys: dict[Wanted, list[str]] = {
        resolution: [item_key(**provenance, resolution=resolution, media=clip.media) for clip in shards.clips]
        for resolution in resolutions
    }
    keys["motion"] = [item_key(motion=VERSION, media=clip.media) for clip in shards.clips]
    for kind in ("features", "motion"):
        ItemStore(kind).sweep()
    missing = _missing(keys)
    batches = _batches(missing, encoder, shards.num_seconds)
    if execution.backend == "ray":
        kind = encoder.device.type
        jobs = [_job(shards, batch, keys) for batch in batches]
        save_all(partial(_encode_into, media, p, kind), jobs, execution, "cache", kind)
    else:
        for place, wanted, array in _encoded(media, p, batches, execution):
            _store(wanted).save_array(keys[wanted][place], array)
    for wanted, names in keys.items():
        file = "motion.npy" if wanted == "motion" else f"res_{wanted}.npy"
        _store(wanted).pack_into(out / file, names, lambda missing: ())
    write_table(out / "index.tsv", shards.table(), Clip)
    gflops = {str(resolution): _gflops(encoder, resolution) for resolution in resolutions}
    write_json(out / "meta.json", provenance | {"patch_size": encoder.patch_size, "gflops": gflops})
    computed = [what for lacking in missing.values() for what in lacking if what != "motion"]
    return {"clips": len(shards.clips), "computed": len(computed)}


def _gflops(encoder: Encoder, resolution: int) -> float:
    """Kept in the store: PyTorch imports its compiler to count them, which takes a second."""
    store, key = ItemStore("gflops"), item_key(version=1, encoder=encoder.name, resolution=resolution)
    if key not in store:
        store.save(key, json.dumps(encoder.gflops(resolution)).encode())
    return json.loads(store.load(key))


def encode_clips(
    media: Path, p: CacheParams, device: str, wanted: Sequence[Wanted], places: Sequence[int]
) -> list[tuple[int, Wanted, np.ndarray]]:
    """What is `wanted` of the clips at `places` of the table, each read and decoded once: (place, wanted, array).

    Features are float32 [T, D], motion [T]. Any process can do it: the arguments can be sent, the encoder is loaded
    once in each. It computes in one thread, several of which at once are faster than all on one batch, and give bits
    that do not depend on their number.
    """
    shards, encoder = _shards(media, (media / "index.tsv").stat().st_mtime_ns), _encoder(p, device)
    resolutions = [what for what in wanted if what != "motion"]
    found: list[tuple[int, Wanted, np.ndarray]] = []
    images: dict[int, list[np.ndarray]] = defaultdict(list)
    for place in places:
        frames = shards.frames(shards.clips[place])
        if "motion" in wanted:
            found.append((place, "motion", frame_motion(frames)))
        for resolution in resolutions:
            images[resolution].append(encoder.prepare(frames, resolution))
    for resolution in resolutions:
        with one_thread():
            features = encoder.embed(np.concatenate(images.pop(resolution)))
        found += zip(places, [resolution] * len(places), np.split(features, len(places)), strict=True)
    return found


def _encode_into(media: Path, p: CacheParams, device: str, job: tuple[Batch, _Keys]) -> None:
    """Save what a batch wants; where another machine does it, the arrays need not come here."""
    (wanted, places), keys = job
    if any(key not in _store(what) for what in wanted for key in keys[what].values()):
        for place, what, array in encode_clips(media, p, device, wanted, places):
            _store(what).save_array(keys[what][place], array)


def _job(shards: MediaShards, batch: Batch, keys: Mapping[Wanted, Sequence[str]]) -> Job[tuple[Batch, _Keys]]:
    wanted, places = batch
    own = {what: {place: keys[what][place] for place in places} for what in wanted}
    return Job(tuple(shards.clips[place].key for place in places), (batch, own))


def _missing(keys: Mapping[Wanted, Sequence[str]]) -> dict[int, list[Wanted]]:
    """By place in the table, what of `keys` the stores lack."""
    missing: dict[int, list[Wanted]] = defaultdict(list)
    for wanted, names in keys.items():
        for place in _store(wanted).missing(names):
            missing[place].append(wanted)
    return missing


def _encoded(
    media: Path, p: CacheParams, batches: Sequence[Batch], execution: ExecutionParams
) -> Iterator[tuple[int, Wanted, np.ndarray]]:
    """What `encode_clips` finds for all batches, as it comes; devices take them by turns.

    Threads, not processes, serve several GPUs too: decoding, resizing and waiting for a GPU all release Python's lock,
    and one process holds one CUDA context a GPU and one handle on the store.
    """
    devices = execution.device_names()
    pool = ThreadPoolExecutor(max(execution.num_workers(), len(devices)))
    turns = list(zip(cycle(devices), batches, strict=False))
    with exact_convolutions(), running(pool):
        found = pool.map(lambda turn: encode_clips(media, p, turn[0], *turn[1]), turns)
        for batch in progress(found, "cache", len(batches)):
            yield from batch


def _batches(missing: Mapping[int, Sequence[Wanted]], encoder: Encoder, seconds: int) -> list[Batch]:
    """Clips that lack the same, as many as fill the encoder's largest batch."""
    alike: dict[tuple[Wanted, ...], list[int]] = defaultdict(list)
    for place, wanted in sorted(missing.items()):
        alike[tuple(wanted)].append(place)
    batches: list[Batch] = []
    for wanted, places in alike.items():
        largest = max((encoder.batch_size(what) for what in wanted if what != "motion"), default=0)
        size = max(1, largest // seconds)
        batches += [(wanted, places[i : i + size]) for i in range(0, len(places), size)]
    return batches


def _store(wanted: Wanted) -> ItemStore:
    return ItemStore("motion" if wanted == "motion" else "features")


@lru_cache(maxsize=32)
def _encoder(p: CacheParams, device: str) -> Encoder:
    return load_encoder(p.encoder, weights=p.weights, device=device, dtype=p.dtype)


@lru_cache(maxsize=1)
def _shards(media: Path, changed: int) -> MediaShards:
    """The shards whose table was written at that time."""
    return MediaShards(media)
