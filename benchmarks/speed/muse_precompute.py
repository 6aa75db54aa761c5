"""MuSE's features of prepared clips by the stage, beside a loop over clips, each whole, in plain modules."""

from __future__ import annotations

import hashlib
import json
import os
import shutil
import sys
import tarfile
from dataclasses import replace
from pathlib import Path

import numpy as np
import torch

from avs.core.clips import write_table
from avs.core.execute import ExecutionParams
from avs.core.media import wav
from avs.core.shards import add_member, write_shards
from avs.lips.cache import FEATURES, muse_precompute
from avs.lips.features import MuseParams
from avs.lips.media import SpeechClip, SpeechShards, film
from avs.lips.visual_frontend import untrained_visual_frontend
from benchmarks.muse import mouths, plain
from benchmarks.speed.limits import gemm_gflops
from benchmarks.speed.step import Clock, Found, Limit, Step, peak_mib

CLIPS, FRAMES = 48, 75  # of three seconds, as in GRID
_GFLOP = 1.0  # a picture: 0.10 for the first convolution, 0.23, 0.21, 0.22 and 0.26 for the layers
_DISTINCT = 8  # clips whose pictures differ


def write_mouths(folder: Path, clips: int = CLIPS) -> None:
    """`data/media/speech` as preprocess leaves it: shards of mouths, which are noise that moves, and silence."""
    films = [film(_mouths(seed)) for seed in range(min(_DISTINCT, clips))]
    silence = wav(np.zeros(640 * FRAMES, np.int16))

    def append(tar: tarfile.TarFile, shard: str, number: int) -> SpeechClip:
        clip = _clip(number)
        start = tar.offset
        add_member(tar, f"{clip.key}/lips.mkv", films[number % len(films)])
        add_member(tar, f"{clip.key}/audio.wav", silence)
        return replace(clip, shard=shard, offset=start)

    write_table(folder / "index.tsv", write_shards(range(clips), folder, append), SpeechClip)


def _mouths(seed: int) -> np.ndarray:
    return np.kron(mouths(FRAMES, seed)[:, ::8, ::8], np.ones((8, 8), np.uint8))


def _clip(number: int) -> SpeechClip:
    digest = hashlib.sha256(f"mouth {number}".encode()).hexdigest()
    place = {"video": f"{number:06d}.mp4", "start": 0.0, "end": 0.0, "transcript": "", "speaker": "", "sha256": digest}
    return SpeechClip(key=f"clip{number:06d}", dataset_name="grid", split="train", frames=FRAMES, media=digest, **place)


def ours(folder: Path, clock: Clock) -> Found:
    stage(folder, folder / "ours", "auto", clock)
    peak, reduced = peak_mib(), Clock()
    stage(folder, folder / "bfloat16", "bfloat16", reduced)
    return {"peak_of_stage_mib": peak, "bfloat16": {"seconds": round(reduced.seconds, 2)}}


def stage(media: Path, out: Path, dtype: str, clock: Clock) -> None:
    """All of the stage, nothing of it in the store."""
    shutil.rmtree(os.environ["AVS_STORE"], ignore_errors=True)
    with clock:
        muse_precompute(media, out, MuseParams(dtype=dtype), ExecutionParams())


def alternative(folder: Path, clock: Clock) -> Found:
    """Also says how far what `ours` left in the folder is from what it found."""
    shards, network = SpeechShards(folder), untrained_visual_frontend().requires_grad_(False)
    with clock, torch.inference_mode():
        features = np.concatenate([plain(network, shards.lips(clip)) for clip in shards.clips])
        np.save(folder / "alternative.npy", features)
    reduced = np.load(folder / "bfloat16" / FEATURES)
    cosine = (features * reduced).sum(1) / np.linalg.norm(features, axis=1) / np.linalg.norm(reduced, axis=1)
    difference = float(np.abs(np.load(folder / "ours" / FEATURES) - features).max())
    return {"largest_difference": difference, "bfloat16_cosine": round(float(cosine.min()), 7)}


def check(ours: Found, alternative: Found) -> Found:
    """Features of up to 2.5 within 2e-5; in bfloat16, an option, at cosines from .999 on."""
    assert alternative["largest_difference"] < 2e-5, alternative
    assert alternative["bfloat16_cosine"] > 0.999, alternative
    ratio = round(alternative["seconds"] / ours["bfloat16"]["seconds"], 2)
    bfloat16 = ours["bfloat16"] | {"ratio": ratio, "lowest_cosine": alternative["bfloat16_cosine"]}
    shown = {"largest_difference": alternative["largest_difference"], "bfloat16": bfloat16}
    return shown | {"peak_of_stage_mib": ours["peak_of_stage_mib"]}


def limit(ours: Found, alternative: Found) -> Limit:
    rate = gemm_gflops(torch.float32, 19600, 576, 64)
    seconds = CLIPS * FRAMES * _GFLOP / rate
    why = f"{_GFLOP:.1f} GFLOP a picture, all in convolutions, at {rate:.0f} GFLOP/s of a product in float32"
    return Limit(alternative["seconds"] / seconds, why)


STEP = Step(
    what=f"mouths of {CLIPS} clips of {FRAMES} pictures in shards to packed features in float32; generated",
    alternative_is="the same graph in plain modules, one clip at a time and whole, in float32 on all cores",
    goal=2.0,
    prepare=write_mouths,
    ours=ours,
    alternative=alternative,
    check=check,
    limit=limit,
)


if __name__ == "__main__":  # growth: FOLDER CLIPS [DTYPE]
    place, count, *rest = sys.argv[1:]
    write_mouths(Path(place), int(count))
    took = Clock()
    stage(Path(place), Path(place) / "features", *(rest or ["auto"]), took)
    print(json.dumps({"clips": int(count), "seconds": round(took.seconds, 1), "peak_mib": peak_mib()}))
