"""Features of all AVE clips by ViT-B/16 on a GPU: stage cache, and transformers' model in a loop. Written without a
GPU at hand: its code runs on a CPU in the tests."""

from __future__ import annotations

from pathlib import Path

import torch

from avs.core.execute import ExecutionParams
from avs.preprocess import MediaShards
from avs.vision.cache import cache_features, encode_clips
from avs.vision.flops import vit_gflops
from benchmarks.speed.ave_size import CLIPS, RESOLUTIONS, SECONDS, write_media
from benchmarks.speed.clip import agreement, empty_store, our_params, plain_loop, sample, write_weights
from benchmarks.speed.limits import best
from benchmarks.speed.step import Clock, Found, Limit, Step

LEAST_COSINE = 0.999  # both sides round to bfloat16
MIDDLE = RESOLUTIONS[1]


def needs() -> str | None:
    return None if torch.cuda.is_available() else "no CUDA device"


def prepare(folder: Path, clips: int = CLIPS) -> None:
    write_media(folder / "media", clips)
    write_weights(folder)


def ours(folder: Path, clock: Clock, resolutions: tuple[int, ...] = RESOLUTIONS, device: str = "cuda") -> Found:
    """From the shards to the arrays of the stage, with an empty store; then at 224 px alone, and decoding alone."""
    execution, media, out = ExecutionParams(devices=device), folder / "media", folder / "out"
    p = our_params(folder, "bfloat16")
    encode_clips(media, p, device, ("motion", *resolutions), [0])  # loads network and kernels
    with empty_store(folder), clock:
        cache_features(media, out, resolutions, p, execution)
    found, middle = sample(out, resolutions), Clock()
    with empty_store(folder), middle:
        clips = cache_features(media, out, (MIDDLE,), p, execution)["clips"]
    rate = clips * SECONDS / middle.seconds
    return found | {"images_per_second_224": round(rate), "decoded_per_core": round(_decoded_per_core(media))}


def alternative(folder: Path, clock: Clock, resolutions: tuple[int, ...] = RESOLUTIONS, device: str = "cuda") -> Found:
    return plain_loop(folder, clock, resolutions, device, torch.bfloat16)


def check(ours: Found, alternative: Found) -> Found:
    figures = {name: ours[name] for name in ("images_per_second_224", "decoded_per_core")}
    return agreement(ours, alternative, LEAST_COSINE) | figures


def limit(ours: Found, alternative: Found) -> Limit:
    rate = _gpu_tflops()
    frames = CLIPS * SECONDS
    products = frames * sum(vit_gflops(resolution) for resolution in RESOLUTIONS) / rate / 1e3
    cores = ExecutionParams().num_workers()
    decoding = frames / ours["decoded_per_core"] / cores
    why = (
        f"matrix products at {rate:.0f} TFLOP/s take {products:.1f} s ({1e3 * rate / vit_gflops(MIDDLE):.0f} images/s "
        f"at 224 px), reading and decoding JPEG on {cores} cores {decoding:.1f} s; the slower of both is the limit"
    )
    return Limit(alternative["seconds"] / max(products, decoding), why)


def _decoded_per_core(media: Path) -> float:
    """Frames read and decoded a second by one thread."""
    shards = MediaShards(media)
    few = shards.clips[:8]
    return len(few) * SECONDS / best(lambda: [shards.frames(clip) for clip in few])


def _gpu_tflops(rows: int = 16384, inner: int = 768, columns: int = 3072) -> float:
    """TFLOP/s of a bfloat16 matrix product of the MLP's size."""
    a, b = (torch.randn(shape, device="cuda", dtype=torch.bfloat16) for shape in ((rows, inner), (inner, columns)))

    def work() -> None:
        for _ in range(50):
            a @ b
        torch.cuda.synchronize()

    return 50 * 2 * rows * inner * columns / best(work) / 1e12


STEP = Step(
    what=f"all {CLIPS} clips of AVE, ViT-B/16 in bfloat16 at 160, 224 and 352 px, from JPEG shards to arrays; wanted "
    "on an H200: under 20 s, and 12,000 images/s at 224 px",
    alternative_is="transformers CLIPVisionModel in bfloat16 on the same GPU, one clip and one resolution at a time",
    goal=None,
    prepare=prepare,
    ours=ours,
    alternative=alternative,
    check=check,
    limit=limit,
    needs=needs,
    rounds=1,
)
