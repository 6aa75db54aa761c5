"""Pictures of one clip → its MuSE features: the parameters, two preprocessings, and a chunk at a time."""

from __future__ import annotations

import re
from collections.abc import Callable
from dataclasses import dataclass
from typing import Literal

import numpy as np
import torch
from torch import Tensor
from torch.nn import functional

from avs.core import weights
from avs.core.errors import InputError
from avs.core.execute import exact_convolutions, torch_device
from avs.core.params import params
from avs.lips.visual_frontend import (
    DIM,
    HALO,
    SIZE,
    VisualFrontend,
    load_visual_frontend,
    untrained_visual_frontend,
)

UNTRAINED = "untrained"  # stands for the digest of a checkpoint where there is none
_IMPORTED = "imported:"
_MEAN, _STD = 0.4161, 0.1688  # of grey in [0, 1], which the published weights were trained with
_DTYPES = {"float32": torch.float32, "bfloat16": torch.bfloat16, "float16": torch.float16}
_CPU_CHUNK, _CUDA_CHUNK = 25, 100  # frames a pass


@params
class MuseParams:
    """Where MuSE's features come from, and whose clips get any.

    `checkpoint` is a weights source (see avs.core.weights), pinned; `imported:HEX` takes what `python -m avs
    muse-cache import` has brought; empty means random weights, which every output calls untrained.
    """

    checkpoint: str | None = None
    preprocessing: Literal["lips", "face"] = "lips"
    scope: Literal["all", "mcorec"] = "all"
    include_mcorec: bool = False
    dtype: Literal["auto", "float32", "bfloat16", "float16"] = "auto"

    def __post_init__(self) -> None:
        weights.check_pinned(self.checkpoint)
        if self.checkpoint and self.checkpoint.startswith(_IMPORTED) and not self.imported:
            raise ValueError(f"checkpoint ({self.checkpoint}) must have 64 hex digits after {_IMPORTED}")
        if self.scope == "mcorec" and not self.include_mcorec:
            raise ValueError("scope mcorec requires include_mcorec: true (or take scope: all)")

    @property
    def imported(self) -> str | None:
        """The digest of imported features, where the checkpoint names such."""
        match = re.fullmatch(f"{_IMPORTED}([0-9a-f]{{64}})", self.checkpoint or "")
        return match[1] if match else None

    @property
    def checkpoint_digest(self) -> str:
        """What tells features of this checkpoint from those of another."""
        if not self.checkpoint:
            return UNTRAINED
        return self.checkpoint if self.imported else weights.digest(self.checkpoint)


@dataclass(frozen=True)
class Preprocessing:
    """`version` names it in stores and in meta.json; `prepare` maps grey in [0, 1], [T,H,W], to [T,112,112]."""

    version: str
    pictures: str
    prepare: Callable[[Tensor], Tensor]


def _lips(grey: Tensor) -> Tensor:
    return _resize(grey, SIZE)


def _face(grey: Tensor) -> Tensor:
    margin = (2 * SIZE - SIZE) // 2
    return _resize(grey, 2 * SIZE)[:, margin : margin + SIZE, margin : margin + SIZE]


def _resize(grey: Tensor, size: int) -> Tensor:
    """Bilinear, corners not aligned, no antialiasing: as OpenCV does it, and PyTorch by default."""
    if grey.shape[1:] == (size, size):
        return grey
    return functional.interpolate(grey[:, None], size=(size, size), mode="bilinear", antialias=False)[:, 0]


PREPROCESSINGS = {
    # what the system and its SEANet were trained on: the 96 x 96 crop of the mouth, enlarged
    "lips": Preprocessing("lips-1", "mouth crops", _lips),
    # what MuSE itself was trained on: the middle of a face track
    "face": Preprocessing("face-1", "face tracks", _face),
}


class Extractor:
    """A frozen front-end with its preprocessing on one device.

    A frame's feature depends, bit by bit, on its five frames alone: chunks overlap by the two frames that the
    convolution over time reaches on either side, and the network always runs on as many frames as a whole chunk has.
    """

    def __init__(self, network: VisualFrontend, preprocessing: str, device: str = "auto", dtype: str = "auto") -> None:
        self.device = torch_device(device)
        self.dtype = resolve_dtype(dtype, self.device)
        self.preprocessing = PREPROCESSINGS[preprocessing]
        self._network = network.frozen().to(self.device, _DTYPES[self.dtype])
        self._chunk = _CPU_CHUNK if self.device.type == "cpu" else _CUDA_CHUNK

    def features(self, pictures: np.ndarray) -> np.ndarray:
        """Grey pictures uint8 [T,H,W] of one clip -> features float32 [T,512]; beyond both, memory is that of a chunk.

        Raises InputError for pictures of another type or shape, and for weights that give no finite numbers.
        """
        if pictures.dtype != np.uint8 or pictures.ndim != 3:
            raise InputError(f"pictures ({pictures.dtype} {list(pictures.shape)}) must be uint8 [T,H,W], grey")
        features = np.empty((len(pictures), DIM), np.float32)
        with torch.inference_mode(), exact_convolutions():
            for start in range(0, len(pictures), self._chunk):
                part = features[start : start + self._chunk]
                part[:] = self._network.inner(self._frames(pictures, start))[0, : len(part)].float().cpu().numpy()
        if not np.isfinite(features).all():
            raise InputError("features are not finite: the checkpoint's weights are damaged, or too large for dtype")
        return features

    def _frames(self, pictures: np.ndarray, start: int) -> Tensor:
        """Normalised [1,2+chunk+2,112,112] from two frames before `start` on; zeros where the clip has none."""
        first, end = start - HALO, start + self._chunk + HALO
        there = torch.from_numpy(pictures[max(0, first) : end]).to(self.device)
        normal = (self.preprocessing.prepare(there.float() / 255) - _MEAN) / _STD
        before = max(0, -first)
        padded = functional.pad(normal, (0, 0, 0, 0, before, end - first - before - len(there)))
        return padded[None].to(_DTYPES[self.dtype])


def resolve_dtype(dtype: str, device: torch.device) -> str:
    """`auto` is float32 on a CPU and bfloat16 on CUDA."""
    return dtype if dtype != "auto" else "float32" if device.type == "cpu" else "bfloat16"


def make_network(p: MuseParams) -> VisualFrontend:
    """The front-end that the parameters name. Raises InputError naming each tensor of a file that does not fit."""
    if not p.checkpoint:
        return untrained_visual_frontend()
    return load_visual_frontend(weights.fetch(p.checkpoint))[0]
