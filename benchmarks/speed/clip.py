"""CLIP's ViT-B/16 on frames of AVE's shapes: the weights that both sides load, and the ordinary loop over clips."""

from __future__ import annotations

import tempfile
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import numpy as np
import torch
from PIL import Image
from safetensors.torch import load_file, save_file

from avs.core.import_shims import mend_imports
from avs.core.store import own_root, sha256_file
from avs.preprocess import MediaShards
from avs.vision.cache import CacheParams
from benchmarks.speed.step import Clock, Found

mend_imports()
from transformers import CLIPVisionConfig, CLIPVisionModel  # noqa: E402

SAMPLE = 8  # clips whose features are compared
_MEAN = np.array([0.48145466, 0.4578275, 0.40821073], np.float32)
_STD = np.array([0.26862954, 0.26130258, 0.27577711], np.float32)


@contextmanager
def empty_store(folder: Path) -> Iterator[None]:
    """A store of its own, in which nothing is found again."""
    with tempfile.TemporaryDirectory(dir=folder) as place, own_root(Path(place)):
        yield


def write_weights(folder: Path) -> None:
    """Random weights of ViT-B/16 with QuickGELU, as transformers starts them: no published ones can be had here."""
    torch.manual_seed(0)
    save_file(CLIPVisionModel(CLIPVisionConfig(patch_size=16)).state_dict(), folder / "vit.safetensors")


def our_params(folder: Path, dtype: Any) -> CacheParams:
    path = folder / "vit.safetensors"
    return CacheParams("clip_vit_b16", weights=f"file:{path}#sha256={sha256_file(path)}", dtype=dtype)


def load_model(folder: Path, device: str, dtype: torch.dtype) -> CLIPVisionModel:
    model = CLIPVisionModel(CLIPVisionConfig(patch_size=16))
    model.load_state_dict(load_file(folder / "vit.safetensors"))
    return model.eval().to(device, dtype)


def pixels(frames: Sequence[np.ndarray], resolution: int) -> torch.Tensor:
    """What CLIP's processor does, but that it squashes the frame to a square instead of cropping one out of it."""
    images = [Image.fromarray(frame).resize((resolution, resolution), Image.Resampling.BICUBIC) for frame in frames]
    scaled = np.stack([(np.asarray(image, np.float32) / 255 - _MEAN) / _STD for image in images])
    return torch.from_numpy(scaled.transpose(0, 3, 1, 2))


def plain_loop(folder: Path, clock: Clock, resolutions: Sequence[int], device: str, dtype: torch.dtype) -> Found:
    """One clip after the other, one resolution after the other; features to `plain/res_<R>.npy`."""
    model, shards = load_model(folder, device, dtype), MediaShards(folder / "media")
    features: dict[int, list[np.ndarray]] = {resolution: [] for resolution in resolutions}
    with clock, torch.inference_mode():
        for clip in shards.clips:
            frames = shards.frames(clip)
            for resolution in resolutions:
                images = pixels(frames, resolution).to(device, dtype)
                found = model(images, interpolate_pos_encoding=True).pooler_output
                features[resolution].append(found.float().cpu().numpy())
        (folder / "plain").mkdir(exist_ok=True)
        for resolution, rows in features.items():
            np.save(folder / f"plain/res_{resolution}.npy", np.stack(rows))
    return sample(folder / "plain", resolutions)


def sample(folder: Path, resolutions: Sequence[int]) -> Found:
    """Features of the first clips, as numbers that `agreement` compares."""
    tables = {str(resolution): np.load(folder / f"res_{resolution}.npy", mmap_mode="r") for resolution in resolutions}
    return {"features": {name: np.round(table[:SAMPLE], 6).tolist() for name, table in tables.items()}}


def agreement(ours: Found, plain: Found, least: float) -> Found:
    """The least cosine between features of a frame from both sides; how alike two frames of a clip are, beside it."""
    found: dict[str, float] = {}
    for resolution, table in plain["features"].items():
        a, b = np.array(ours["features"][resolution]), np.array(table)
        found[f"least_cosine_{resolution}"] = round(float(_cosine(a, b).min()), 7)
        found[f"cosine_of_neighbours_{resolution}"] = round(float(_cosine(b[:, 1:], b[:, :-1]).mean()), 4)
        if found[f"least_cosine_{resolution}"] < least:
            raise SystemExit(f"features differ: {found}")
    return found


def _cosine(a: np.ndarray, b: np.ndarray) -> np.ndarray:
    return (a * b).sum(-1) / np.linalg.norm(a, axis=-1) / np.linalg.norm(b, axis=-1)
