"""Features of ViT-B/16 at three resolutions on a CPU: stage cache in bfloat16, and transformers' model in a loop."""

from __future__ import annotations

from pathlib import Path

import torch

from avs.core.execute import ExecutionParams
from avs.vision.cache import cache_features, encode_clips
from avs.vision.flops import vit_gflops
from benchmarks.speed.ave_size import RESOLUTIONS, SECONDS, write_media
from benchmarks.speed.clip import agreement, empty_store, our_params, plain_loop, sample, write_weights
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
    """From the shards to the arrays of the stage, with an empty store; then some clips in float32."""
    with empty_store(folder):
        _cache(folder, "bfloat16", folder / "media", resolutions, clock)
        exact = Clock()
        few = _cache(folder, "float32", folder / "few", resolutions, exact)
    return sample(folder / "out", resolutions) | {"float32_seconds_a_clip": round(exact.seconds / few, 3)}


def _cache(folder: Path, dtype: str, media: Path, resolutions: tuple[int, ...], clock: Clock) -> int:
    """Stage cache on `media`; the number of clips."""
    p, execution = our_params(folder, dtype), ExecutionParams(devices="cpu")
    encode_clips(media, p, "cpu", [], [])  # loads the network
    out = folder / ("out" if dtype == "bfloat16" else "out32")
    with clock:
        return cache_features(media, out, resolutions, p, execution)["clips"]


def alternative(folder: Path, clock: Clock, resolutions: tuple[int, ...] = RESOLUTIONS) -> Found:
    return plain_loop(folder, clock, resolutions, "cpu", torch.float32)


def check(ours: Found, alternative: Found) -> Found:
    found = agreement(ours, alternative, LEAST_COSINE)
    return found | {"clips": CLIPS, "ours_float32_seconds_a_clip": ours["float32_seconds_a_clip"]}


def limit(ours: Found, alternative: Found) -> Limit:
    frames = CLIPS * SECONDS
    gflop = frames * sum(vit_gflops(resolution) for resolution in RESOLUTIONS)
    quick, exact = gemm_gflops(torch.bfloat16), gemm_gflops(torch.float32)
    why = (
        f"{gflop:.0f} GFLOP for {frames} frames at {quick:.0f} GFLOP/s, the rate of bfloat16 matrix products here; "
        f"at that of float32, {exact:.0f}, at most {alternative['seconds'] / (gflop / exact):.2f}"
    )
    return Limit(alternative["seconds"] / (gflop / quick), why)


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
