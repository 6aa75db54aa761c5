"""Eventness by AST, the Audio Spectrogram Transformer fine-tuned on AudioSet, through transformers."""

from __future__ import annotations

import re
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Literal, get_args

import numpy as np
import torch
from torch import Tensor, nn
from torch.nn import functional

from avs.audio import kaldi
from avs.audio.audioset import NUM_CLASSES, Tagger, require_rate
from avs.audio.backend import backend
from avs.core.checkpoint import load_strict, read_tensors
from avs.core.errors import InputError
from avs.core.import_shims import mend_imports

WEIGHTS = (
    "hf:MIT/ast-finetuned-audioset-10-10-0.4593/model.safetensors@f826b80d28226b62986cc218e5cec390b1096902"
    "#sha256=ae0c1e2ad4e1381d851fa9bf298ba13ebc9c5a914cdee2dbe427a6583869924d"
)
Reading = Literal["sigmoid", "softmax_padded"]

_FRAMES = 1024  # of the clips that it was trained on, the last of them empty
# Names in the published file -> those of the modules in transformers 5, applied in this order.
_RENAMED = (
    (r"\.encoder\.layer\.", ".layers."),
    (r"\.attention\.attention\.(query|key|value)\.", lambda found: f".attention.{found[1][0]}_proj."),
    (r"\.attention\.output\.dense\.", ".attention.o_proj."),
    (r"\.intermediate\.dense\.", ".mlp.fc1."),
    (r"\.output\.dense\.", ".mlp.fc2."),
)


@backend("ast")
@dataclass(frozen=True)
class AstTagger(Tagger):
    """The probability of the likeliest AudioSet class that names a sound event, by AST at 16 kHz.

    reading: `sigmoid`, since AST was trained to say of each class by itself whether it is there, on the window
    around each second. `softmax_padded` is the original AVS code: each second alone, followed by 9.24 s of
    nothing, and the largest softmax of all 527 classes, which shares out 1 among them.
    """

    version = 1

    weights: str = WEIGHTS
    reading: Reading = "sigmoid"

    def __post_init__(self) -> None:
        super().__post_init__()
        if self.reading not in get_args(Reading):
            raise InputError(f"eventness.reading ({self.reading!r}) must be one of {', '.join(get_args(Reading))}")

    @property
    def identity(self) -> dict[str, Any]:
        return super().identity | {"reading": self.reading}

    def _build(self) -> AstNetwork:
        return AstNetwork()

    def _load(self, network: AstNetwork, file: Path) -> None:
        network.load(read_tensors(file))

    def _score(self, seconds: np.ndarray, sample_rate: int) -> np.ndarray:
        if self.reading == "sigmoid":
            return super()._score(seconds, sample_rate)
        require_rate(sample_rate)
        return self.run(Padded(self.network), list(seconds)).softmax(-1).amax(-1).numpy()


class AstNetwork(nn.Module):
    """Sound [B,S] at 16 kHz, at most 10.24 s -> logits [B,527]; `sizes` are those of ASTConfig, for tests."""

    def __init__(self, **sizes: int) -> None:
        super().__init__()
        mend_imports()
        from transformers import ASTConfig, ASTForAudioClassification

        settings: dict[str, Any] = {"num_labels": NUM_CLASSES, "max_length": _FRAMES, **sizes}
        self.model: Any = ASTForAudioClassification(ASTConfig(**settings))
        encoder: Any = self.model.audio_spectrogram_transformer
        encoder.embeddings = _Embeddings(encoder.embeddings)

    def forward(self, sounds: Tensor) -> Tensor:
        return self.classify(kaldi.log_mel(sounds))

    def classify(self, bands: Tensor) -> Tensor:
        """Log-mel bands [B,F,128], F <= 1024 -> logits."""
        return self.model(kaldi.normalised(bands)).logits

    def load(self, tensors: Mapping[str, Tensor]) -> None:
        """Take all of a published state dict, in the layout of transformers 4 or 5; InputError names what is wrong."""
        load_strict(self.model, {_renamed(name): value for name, value in tensors.items()}, source="weights")


class Padded(nn.Module):
    """AST with its input filled up to 1024 frames by zeros, as its feature extractor does before it normalises."""

    def __init__(self, network: Any) -> None:
        super().__init__()
        self.network = network

    def forward(self, sounds: Tensor) -> Tensor:
        bands = kaldi.log_mel(sounds)
        return self.network.classify(functional.pad(bands, (0, 0, 0, _FRAMES - bands.shape[1])))


class _Embeddings(nn.Module):
    """AST's patches, tokens and positions for any number of frames.

    A shorter spectrogram takes the middle of the position table along time, as AST's authors do when they
    train on shorter clips (`ast_models.py` of their repository).
    """

    def __init__(self, published: Any) -> None:
        super().__init__()
        self.cls_token = published.cls_token
        self.distillation_token = published.distillation_token
        self.position_embeddings = published.position_embeddings
        self.patch_embeddings = published.patch_embeddings
        self.rows, self.columns = published.get_shape(published.config)

    def forward(self, bands: Tensor) -> Tensor:
        patches = self.patch_embeddings(bands)
        tokens = torch.cat([self.cls_token, self.distillation_token], 1).expand(len(bands), -1, -1)
        columns = patches.shape[1] // self.rows
        start = self.columns // 2 - columns // 2
        table = self.position_embeddings[:, 2:].unflatten(1, (self.rows, self.columns))
        positions = table[:, :, start : start + columns].flatten(1, 2)
        return torch.cat([tokens + self.position_embeddings[:, :2], patches + positions], 1)


def _renamed(name: str) -> str:
    for pattern, replacement in _RENAMED:
        name = re.sub(pattern, replacement, name)
    return name
