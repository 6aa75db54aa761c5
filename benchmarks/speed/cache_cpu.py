"""Features of ViT-B/16 at three resolutions on a CPU: stage cache in bfloat16, and transformers' model in a loop."""

from __future__ import annotations

import time
from pathlib import Path

import torch

from avs.core.execute import ExecutionParams
from avs.vision.cache import cache_features, encode_clips
from avs.vision.flops import vit_gflops
from benchmarks.speed.ave_size import RESOLUTIONS, SECONDS, write_media
from benchmarks.speed.clip import agreement, our_params, plain_loop, write_weights
from benchmarks.speed.limits import gemm_gflops
from benchmarks.speed.step import Clock, Found, Limit, Step

CLIPS = 8
FLOAT32_CLIPS = 2
LEAST_COSINE = 0.9999


def prepare(folder: Path, clips: int = CLIPS) -> None:
    write_media(folder / "media", clips)
    write_media(folder / "few", min(clips, FLOAT32_CLIPS))
    write_weights(folder)


def ours(folder: Path, clock: Clock, resolutions: tuple[int, ...] = RESOLUTIONS) -> Found:
    """From the shards to the arrays of the stage; the round's store is emptied first. Then the same in float32."""
    execution, media, out = ExecutionParams(devices="cpu"), folder / "media", folder / "out"
    _forget(folder)
    p = our_params(folder, "bfloat16")
    encode_clips(media, p, "cpu", [], [])  # loads the network
    with clock:
        cache_features(media, out, resolutions, p, execution)
    exact = our_params(folder, "float32")
    encode_clips(folder / "few", exact, "cpu", [], [])
    started = time.perf_counter()
    few = cache_features(folder / "few", folder / "out32", resolutions, exact, execution)["clips"]
    return {"folder": str(out), "float32_seconds_a_clip": round((time.perf_counter() - started) / few, 3)}


def alternative(folder: Path, clock: Clock, resolutions: tuple[int, ...] = RESOLUTIONS) -> Found:
    return plain_loop(folder, clock, resolutions, "cpu", torch.float32)


def check(ours: Found, alternative: Found, resolutions: tuple[int, ...] = RESOLUTIONS) -> Found:
    found = agreement(ours["folder"], alternative["folder"], resolutions, LEAST_COSINE)
    return found | {"ours_float32_seconds_a_clip": ours["float32_seconds_a_clip"]}


def limit(ours: Found, alternative: Found) -> Limit:
    frames = CLIPS * SECONDS
    gflop = frames * sum(vit_gflops(resolution) for resolution in RESOLUTIONS)
    quick, exact = gemm_gflops(torch.bfloat16), gemm_gflops(torch.float32)
    why = (
        f"{gflop:.0f} GFLOP for {frames} frames; matrix products here: {quick:.0f} GFLOP/s in bfloat16, {exact:.0f} in "
        f"float32, in which no code could be {alternative['seconds'] / (gflop / exact):.2f} times as fast"
    )
    return Limit(alternative["seconds"] / (gflop / quick), why)


def _forget(folder: Path) -> None:
    for item in (folder / "store/features").glob("*/*"):
        item.unlink()


STEP = Step(
    what=f"{CLIPS} of AVE's clips, ViT-B/16 at 160, 224 and 352 px, random weights, from JPEG shards to arrays",
    alternative_is="transformers CLIPVisionModel in float32, one clip and one resolution at a time, on all cores",
    goal=3.0,
    prepare=prepare,
    ours=ours,
    alternative=alternative,
    check=check,
    limit=limit,
)
