"""Eventness by AudioMAE, a vision transformer on spectrograms, fine-tuned on AudioSet with its trained head."""

from __future__ import annotations

from dataclasses import dataclass

import torch
from torch import Tensor, nn

from avs.audio import kaldi
from avs.audio.audioset import NUM_CLASSES, Tagger
from avs.audio.backend import backend
from avs.core.errors import InputError
from avs.core.import_shims import mend_imports

_ROWS, _COLUMNS = 64, 8  # patches of 16 x 16 along time and frequency
_PATCH = 16
_WAY_OUT = (
    "audiomae has no weights here whose digest could be confirmed. Get the fine-tuned ViT-B as finetuned.pth from "
    "https://github.com/facebookresearch/AudioMAE (its README, Checkpoints, 2; licence: CC BY-NC 4.0), or its port to "
    "timm as pytorch_model.bin or model.safetensors from "
    "https://huggingface.co/gaunernst/vit_base_patch16_1024_128.audiomae_as2m_ft_as20k, put it anywhere, and set "
    "eventness.weights to file:PATH#sha256=DIGEST (see: sha256sum PATH; for a run: "
    "dvc exp run -S 'eventness.weights=\"file:PATH#sha256=DIGEST\"')"
)


@backend("audiomae")
@dataclass(frozen=True)
class AudioMaeTagger(Tagger):
    """The probability of the likeliest AudioSet class that names a sound event, by AudioMAE at 16 kHz."""

    version = 1

    def __post_init__(self) -> None:
        super().__post_init__()
        if not self.weights:
            raise InputError(_WAY_OUT)

    def _build(self) -> AudioMae:
        return AudioMae()


class AudioMae(nn.Module):
    """Sound [B,S] at 16 kHz, at most 10.24 s -> logits [B,527], under the names of both published state dicts.

    The head reads the normalised mean of the patches, without the class token. Fewer than 1024 frames take the
    middle of the position table along time, as AST does. Source: Huang et al., "Masked Autoencoders that
    Listen", arXiv 2207.06405, and its public code (`models_vit.py`, `dataset.py`, `main_finetune_as.py`).
    """

    def __init__(self, dim: int = 768, depth: int = 12, heads: int = 12) -> None:
        super().__init__()
        mend_imports()
        from timm.layers import Mlp
        from timm.models.vision_transformer import Block

        self.cls_token = nn.Parameter(torch.randn(1, 1, dim) * 0.02)
        self.pos_embed = nn.Parameter(torch.randn(1, 1 + _ROWS * _COLUMNS, dim) * 0.02)
        self.patch_embed = nn.ModuleDict({"proj": nn.Conv2d(1, dim, _PATCH, _PATCH)})
        self.blocks = nn.Sequential(*(Block(dim, heads, qkv_bias=True, mlp_layer=Mlp) for _ in range(depth)))
        self.fc_norm = nn.LayerNorm(dim, eps=1e-6)
        self.head = nn.Linear(dim, NUM_CLASSES)

    def forward(self, sounds: Tensor) -> Tensor:
        bands = kaldi.audioset_input(sounds)
        patches = self.patch_embed["proj"](bands[:, None]).flatten(2).transpose(1, 2)
        rows = patches.shape[1] // _COLUMNS
        start = (_ROWS // 2 - rows // 2) * _COLUMNS
        positions = self.pos_embed[:, 1 + start : 1 + start + rows * _COLUMNS]
        token = (self.cls_token + self.pos_embed[:, :1]).expand(len(sounds), -1, -1)
        hidden = self.blocks(torch.cat([token, patches + positions], 1))
        return self.head(self.fc_norm(hidden[:, 1:].mean(1)))
