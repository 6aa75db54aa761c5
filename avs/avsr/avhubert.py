"""AV-HuBERT's encoder: log filter banks and lips, joined frame by frame, through a transformer. Names are fairseq's.

Shi, Hsu, Lakhotia, Mohamed: Learning audio-visual speech representation by masked multimodal cluster prediction
(ICLR 2022). Written from the architecture as published; the state dict has the names of fairseq's checkpoints.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any, ClassVar, Literal

import torch
from torch import Tensor, nn
from torch.nn import functional

from avs.avsr import fbank
from avs.avsr.resnet import DIM, LipResNet
from avs.avsr.small_lips import DIM as SMALL_DIM
from avs.avsr.small_lips import SmallLips
from avs.core.checkpoint import KeyReport
from avs.core.errors import InputError

SIDE = 88  # pixels of a mouth
MEAN, STD = 0.421, 0.165  # of its grey values in [0, 1]
Preset = Literal["tiny", "base", "large"]

_TAPS, _GROUPS = 128, 16


@dataclass(frozen=True)
class AVHubertConfig:
    """Sizes of the encoder, and what is dropped in training (shares; the published fine-tuning sets most to 0)."""

    width: int = 768
    layers: int = 12
    heads: int = 12
    inner: int = 3072
    dropout: float = 0.1
    attention_dropout: float = 0.1
    activation_dropout: float = 0.0
    layer_dropout: float = 0.0
    modality_dropout: float = 0.5  # share of training batches that lose one of their two inputs
    audio_dropout: float = 0.5  # share of those that lose the sound, the others the lips
    front_end: Literal["resnet18", "small"] = "resnet18"  # of the lips; small is no published one

    PRESETS: ClassVar[dict[str, dict[str, Any]]] = {
        "tiny": {"width": 128, "layers": 3, "heads": 4, "inner": 512, "front_end": "small"},
        "base": {"width": 768, "layers": 12, "heads": 12, "inner": 3072},
        "large": {"width": 1024, "layers": 24, "heads": 16, "inner": 4096},
    }

    def __post_init__(self) -> None:
        for name in ("width", "layers", "heads", "inner"):
            if getattr(self, name) < 1:
                raise InputError(f"AV-HuBERT's {name} ({getattr(self, name)}) must be >= 1")
        if self.width % self.heads or self.width % _GROUPS:
            raise InputError(
                f"AV-HuBERT's width ({self.width}) must be a multiple of heads ({self.heads}) and {_GROUPS}"
            )
        for name in ("dropout", "attention_dropout", "activation_dropout", "layer_dropout"):
            if not 0 <= getattr(self, name) < 1:
                raise InputError(f"AV-HuBERT's {name} ({getattr(self, name):g}) must be in [0, 1)")
        for name in ("modality_dropout", "audio_dropout"):
            if not 0 <= getattr(self, name) <= 1:
                raise InputError(f"AV-HuBERT's {name} ({getattr(self, name):g}) must be in [0, 1]")

    @classmethod
    def preset(cls, name: Preset, **changes: Any) -> AVHubertConfig:
        """A size by its name; `base` and `large` are the published ones."""
        if name not in cls.PRESETS:
            raise InputError(f"AV-HuBERT's preset ({name!r}) must be one of {', '.join(cls.PRESETS)}")
        return cls(**{**cls.PRESETS[name], **changes})


class AVHubertEncoder(nn.Module):
    """Sound and lips at 25 Hz -> features [B,T,width]. See `forward`."""

    key_report: KeyReport | None = None  # of a model that was loaded

    def __init__(self, config: AVHubertConfig) -> None:
        super().__init__()
        self.config = config
        width = config.width
        self.feature_extractor_audio = nn.ModuleDict({"proj": nn.Linear(fbank.DIM, width)})
        lips, found = (SmallLips(), SMALL_DIM) if config.front_end == "small" else (LipResNet(), DIM)
        self.feature_extractor_video = nn.ModuleDict({"resnet": lips, "proj": nn.Linear(found, width)})
        self.layer_norm = nn.LayerNorm(2 * width)
        self.post_extract_proj = nn.Linear(2 * width, width)
        self.encoder = _Transformer(config)
        self.dropout = nn.Dropout(config.dropout)

    def forward(self, audio: Tensor | None, video: Tensor | None, padding_mask: Tensor | None = None) -> Tensor:
        """Return features [B,T,width].

        audio: `log_fbank` features [B,T,104], or None; video: mouths [B,1,T,88,88], normalised by MEAN and STD, or
        what `see` makes of them, or None. What is None counts as features of zeros, which the model has met in
        training. padding_mask: True [B,T] on frames that are none of the clip; they are attended to by none, and their
        own rows mean nothing. For a batch to give what each clip gives alone, they must hold zeros (after normalising).

        In training, the whole batch loses one of its inputs with the chance `modality_dropout`.
        Raises InputError for other shapes, and for a clip without frames.
        """
        _check(audio, video, padding_mask, self.config.width)
        # norms and what layers add up to stay in their own precision where autocast lowers that of products
        joined = self.layer_norm(self.fuse(audio, video).to(self.layer_norm.weight.dtype))
        return self.encoder(self.dropout(self.post_extract_proj(joined)), padding_mask)

    def see(self, video: Tensor) -> Tensor:
        """What the lips' front-end makes of mouths: [B,1,T,88,88] -> [B,T,width].

        Most of an encoder's work is here: lips that go with several sounds need it once.
        """
        return self.feature_extractor_video["proj"](self.feature_extractor_video["resnet"](video))

    def fuse(self, audio: Tensor | None, video: Tensor | None) -> Tensor:
        """Both inputs side by side, sound first: [B,T,2 width]."""
        if audio is not None and video is not None and self.training:
            audio, video = self._without_one(audio, video)
        heard = None if audio is None else self.feature_extractor_audio["proj"](audio)
        seen = video if video is None or video.ndim == 3 else self.see(video)
        known = seen if heard is None else heard
        assert known is not None
        absent = torch.zeros_like(known)
        return torch.cat([absent if part is None else part for part in (heard, seen)], dim=-1)

    def _without_one(self, audio: Tensor, video: Tensor) -> tuple[Tensor | None, Tensor | None]:
        one, which = torch.rand(2).tolist()
        if one >= self.config.modality_dropout:
            return audio, video
        return (None, video) if which < self.config.audio_dropout else (audio, None)


class _Transformer(nn.Module):
    """Pre-norm layers after a convolution that tells positions."""

    def __init__(self, config: AVHubertConfig) -> None:
        super().__init__()
        self.pos_conv = nn.Sequential(_PositionConv(config.width), nn.GELU())
        self.layers = nn.ModuleList(_Layer(config) for _ in range(config.layers))
        self.layer_norm = nn.LayerNorm(config.width)
        self.dropout = nn.Dropout(config.dropout)
        self.layer_dropout = config.layer_dropout

    def forward(self, x: Tensor, padding_mask: Tensor | None) -> Tensor:
        keys = None
        x = x.to(self.layer_norm.weight.dtype)
        if padding_mask is not None:
            x = x.masked_fill(padding_mask[..., None], 0)
            keys = ~padding_mask[:, None, None]
        x = self.dropout(x + self.pos_conv(x.transpose(1, 2)).transpose(1, 2))
        for layer in self.layers:
            if not self.training or float(torch.rand(())) >= self.layer_dropout:
                x = layer(x, keys)
        return self.layer_norm(x)


class _PositionConv(nn.Module):
    """A grouped convolution over 128 frames, its weight given as a direction and one length a tap."""

    def __init__(self, width: int) -> None:
        super().__init__()
        self.weight_v = nn.Parameter(torch.randn(width, width // _GROUPS, _TAPS) * (4 / (_TAPS * width)) ** 0.5)
        self.weight_g = nn.Parameter(self.weight_v.detach().norm(dim=(0, 1), keepdim=True))
        self.bias = nn.Parameter(torch.zeros(width))

    def forward(self, x: Tensor) -> Tensor:
        # never in bfloat16: for 8 channels a group, oneDNN's kernel of such a convolution gives wrong numbers
        with torch.autocast(x.device.type, enabled=False):
            weight = self.weight_v * (self.weight_g / self.weight_v.norm(dim=(0, 1), keepdim=True))
            found = functional.conv1d(x.to(weight.dtype), weight, self.bias, padding=_TAPS // 2, groups=_GROUPS)
        return found[..., :-1]  # an even number of taps gives one frame more than came in


class _Layer(nn.Module):
    def __init__(self, config: AVHubertConfig) -> None:
        super().__init__()
        self.self_attn = _SelfAttention(config)
        self.self_attn_layer_norm = nn.LayerNorm(config.width)
        self.fc1 = nn.Linear(config.width, config.inner)
        self.fc2 = nn.Linear(config.inner, config.width)
        self.final_layer_norm = nn.LayerNorm(config.width)
        self.dropout = nn.Dropout(config.dropout)
        self.activation_dropout = nn.Dropout(config.activation_dropout)

    def forward(self, x: Tensor, keys: Tensor | None) -> Tensor:
        x = x + self.dropout(self.self_attn(self.self_attn_layer_norm(x), keys))
        inner = self.activation_dropout(functional.gelu(self.fc1(self.final_layer_norm(x))))
        return x + self.dropout(self.fc2(inner))


class _SelfAttention(nn.Module):
    def __init__(self, config: AVHubertConfig) -> None:
        super().__init__()
        self.heads, self.dropout = config.heads, config.attention_dropout
        self.q_proj, self.k_proj, self.v_proj, self.out_proj = (nn.Linear(config.width, config.width) for _ in range(4))

    def forward(self, x: Tensor, keys: Tensor | None) -> Tensor:
        layers = (self.q_proj, self.k_proj, self.v_proj)
        query, key, value = (layer(x).unflatten(-1, (self.heads, -1)).transpose(1, 2) for layer in layers)
        dropout = self.dropout if self.training else 0.0
        mixed = functional.scaled_dot_product_attention(query, key, value, attn_mask=keys, dropout_p=dropout)
        return self.out_proj(mixed.transpose(1, 2).flatten(2))


def _check(audio: Tensor | None, video: Tensor | None, padding_mask: Tensor | None, width: int) -> None:
    if audio is None and video is None:
        raise InputError("AV-HuBERT needs sound or lips: both are None")
    if audio is not None and (audio.ndim != 3 or audio.shape[2] != fbank.DIM):
        raise InputError(f"sound ({list(audio.shape)}) must be [B,T,{fbank.DIM}]")
    seen_already = video is not None and video.ndim == 3 and video.shape[2] == width
    if video is not None and not seen_already and (*video.shape[1:2], *video.shape[3:]) != (1, SIDE, SIDE):
        raise InputError(
            f"lips ({list(video.shape)}) must be [B,1,T,{SIDE},{SIDE}], or [B,T,{width}] where they were seen"
        )
    heard = None if audio is None else tuple(audio.shape[:2])
    seen = None if video is None else (video.shape[0], video.shape[1 if seen_already else 2])
    if heard and seen and heard != seen:
        raise InputError(f"sound {heard} and lips {seen} differ in clips or frames")
    size = heard or seen
    assert size is not None
    if not all(size):
        raise InputError(f"a batch of {size[0]} clips of {size[1]} frames holds nothing")
    if padding_mask is None:
        return
    if tuple(padding_mask.shape) != size or padding_mask.dtype != torch.bool:
        raise InputError(f"padding_mask ({padding_mask.dtype} {list(padding_mask.shape)}) must be bool {list(size)}")
    if bool(padding_mask.all(dim=1).any()):
        raise InputError("padding_mask leaves a clip without a frame")
