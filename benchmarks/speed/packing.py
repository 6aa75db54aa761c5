"""A plan's mixed resolutions in one pass: tokens of all sizes in one matrix, and the padded batch with a mask."""

from __future__ import annotations

import time
from pathlib import Path

import numpy as np
import torch
from torch import Tensor
from torch.nn.utils.rnn import pad_sequence

from avs.preprocess import MediaShards
from avs.sampling.plans import plan_resolutions
from avs.sampling.tokens import tokens
from avs.vision.encoder import Encoder, load_encoder
from avs.vision.flops import vit_gflops
from benchmarks.speed.ave_size import RESOLUTIONS, SECONDS, write_media
from benchmarks.speed.clip import load_model, our_params, pixels, write_weights
from benchmarks.speed.step import Clock, Found, Limit, Step

CLIPS = 8
TOGETHER = 2  # clips in a pack, and in a padded batch: enough for products at full rate, and in the processor's cache
TOLERANCE = 1e-3


def prepare(folder: Path, clips: int = CLIPS) -> None:
    write_media(folder / "media", clips)
    write_weights(folder)


def plans(clips: int) -> list[list[int]]:
    """Of each clip: two anchors at 352 px, two seconds at 224, six at 160; 1960 tokens, as ten at 224."""
    low, base, high = RESOLUTIONS
    places = [(clip % SECONDS, (clip + 4) % SECONDS) for clip in range(clips)]
    return [plan_resolutions(SECONDS, pair, low_res=low, base_res=base, high_res=high) for pair in places]


def groups(folder: Path) -> list[tuple[list[np.ndarray], list[int]]]:
    """Frames and their resolutions, decoded: what both sides start from."""
    shards = MediaShards(folder / "media")
    planned = list(zip([shards.frames(clip) for clip in shards.clips], plans(len(shards.clips)), strict=True))
    parts = [planned[i : i + TOGETHER] for i in range(0, len(planned), TOGETHER)]
    return [([f for frames, _ in part for f in frames], [r for _, plan in part for r in plan]) for part in parts]


def ours(folder: Path, clock: Clock) -> Found:
    p = our_params(folder, "float32")
    encoder, parts = load_encoder(p.encoder, weights=p.weights, device="cpu", dtype=p.dtype), groups(folder)
    with clock:
        features = torch.cat([encoder.encode_mixed(frames, resolutions) for frames, resolutions in parts])
    started = time.perf_counter()
    separate = torch.cat([one_call_a_size(encoder, frames, resolutions) for frames, resolutions in parts])
    seconds = time.perf_counter() - started
    gap = float((features - separate).abs().max())
    return {
        "features": np.round(features.numpy(), 6).tolist(),
        "separate_seconds": seconds,
        "largest_gap_to_separate": gap,
    }


def one_call_a_size(encoder: Encoder, frames: list[np.ndarray], resolutions: list[int]) -> Tensor:
    """The other way without padding: as many passes as there are resolutions."""
    features = torch.empty(len(frames), encoder.dim)
    for size in sorted({*resolutions}):
        chosen = [i for i, other in enumerate(resolutions) if other == size]
        features[chosen] = encoder.encode_mixed([frames[i] for i in chosen], [size] * len(chosen))
    return features


def alternative(folder: Path, clock: Clock) -> Found:
    """transformers' layers on a batch where every image is padded to the tokens of the largest, which a mask hides."""
    model, parts = load_model(folder, "cpu", torch.float32), groups(folder)
    with clock, torch.inference_mode():
        features = torch.cat([_padded(model, *part) for part in parts])
    return {"features": np.round(features.numpy(), 6).tolist()}


def _padded(model: torch.nn.Module, frames: list[np.ndarray], resolutions: list[int]) -> Tensor:
    inner = getattr(model, "vision_model", model)
    images = [pixels([frame], resolution) for frame, resolution in zip(frames, resolutions, strict=True)]
    rows = [inner.embeddings(image, interpolate_pos_encoding=True)[0] for image in images]
    lengths = torch.tensor([len(row) for row in rows])
    hidden = torch.arange(int(lengths.max())) >= lengths[:, None]
    mask = torch.zeros(hidden.shape).masked_fill(hidden, torch.finfo(torch.float32).min)[:, None, None, :]
    padded = inner.pre_layrnorm(pad_sequence(rows, batch_first=True))
    mask = mask.expand(-1, 1, padded.shape[1], -1)
    found = inner.encoder(inputs_embeds=padded, attention_mask=mask).last_hidden_state
    return inner.post_layernorm(found[:, 0])


def check(ours: Found, alternative: Found) -> Found:
    packed, padded = np.array(ours["features"]), np.array(alternative["features"])
    gaps = {
        "largest_gap_to_padded": float(np.abs(packed - padded).max()),
        "largest_gap_to_separate": ours["largest_gap_to_separate"],
    }
    if max(gaps.values()) > TOLERANCE:
        raise SystemExit(f"features differ by more than {TOLERANCE}: {gaps}")
    scale = {"root_mean_square": float(np.sqrt((padded**2).mean()))}
    ratio = round(ours["separate_seconds"] / ours["seconds"], 2)
    return gaps | scale | {"one_call_a_resolution_seconds": round(ours["separate_seconds"], 2), "times_ours": ratio}


def limit(ours: Found, alternative: Found) -> Limit:
    plan = plans(1)[0]
    mixed, padded = sum(map(vit_gflops, plan)), len(plan) * vit_gflops(max(plan))
    count = sum(tokens(resolution) for resolution in plan)
    why = (
        f"a clip's {count} tokens cost {mixed:.0f} GFLOP, padded to {len(plan) * tokens(max(plan))} they cost "
        f"{padded:.0f}; at one rate of both, and more only where ours runs nearer to the rate of matrix products"
    )
    return Limit(padded / mixed, why)


STEP = Step(
    what=f"{CLIPS} clips by plans of 2 x 352, 2 x 224 and 6 x 160 px, ViT-B/16 in float32, random weights",
    alternative_is="transformers' layers on batches padded to the largest image, with a mask, of as many clips",
    goal=1.5,
    prepare=prepare,
    ours=ours,
    alternative=alternative,
    check=check,
    limit=limit,
)
