"""The transformer decoders behind AV-HuBERT, fairseq's and ESPnet's, one token at a time or all at once.

Both are pre-norm with ReLU. What differs: fairseq's tells positions by sines beside cosines, counted from 2, and its
output weights are its embedding; ESPnet's by sines and cosines in turn, beside an embedding of `sqrt(width)` times the
size, and has output weights of its own. Names are fairseq's.
"""

from __future__ import annotations

import math
from dataclasses import dataclass
from typing import Any, Literal

import torch
from torch import Tensor, nn
from torch.nn import functional

from avs.core.errors import InputError

Style = Literal["fairseq", "espnet"]
KeysValues = tuple[Tensor, Tensor]


@dataclass(frozen=True)
class DecoderConfig:
    """Sizes of a decoder; the defaults are those of the MCoRec recipe."""

    vocabulary: int = 5049
    width: int = 1024
    layers: int = 6
    heads: int = 16
    inner: int = 3072
    style: Style = "espnet"
    dropout: float = 0.1
    attention_dropout: float = 0.0
    activation_dropout: float = 0.0

    def __post_init__(self) -> None:
        for name in ("vocabulary", "width", "layers", "heads", "inner"):
            if getattr(self, name) < 1:
                raise InputError(f"the decoder's {name} ({getattr(self, name)}) must be >= 1")
        if self.width % self.heads or self.width % 2:
            raise InputError(f"the decoder's width ({self.width}) must be even and a multiple of heads ({self.heads})")


class Past:
    """What a decoder knows of K beginnings of each of B clips: keys and values of their tokens and of the memory.

    The keys and values of the memory are there once a clip: all its beginnings ask them together.
    """

    def __init__(self, memory: list[KeysValues], mask: Tensor | None) -> None:
        self.memory, self.mask = memory, mask
        self.tokens: list[KeysValues | None] = [None] * len(memory)
        self.length = 0

    def reorder(self, origin: Tensor) -> None:
        """Let beginning k of clip b go on from `origin[b,k]`, int64 [B,K]."""
        beams = origin.shape[1]
        if bool((origin == torch.arange(beams, device=origin.device)).all()):
            return
        rows = (origin + torch.arange(len(origin), device=origin.device)[:, None] * beams).flatten()
        self.tokens = [pair and (pair[0][rows], pair[1][rows]) for pair in self.tokens]


class Decoder(nn.Module):
    """Tokens so far, and what the encoder says of a clip -> logits of the next token."""

    layers: Any

    def __init__(self, config: DecoderConfig) -> None:
        super().__init__()
        self.config = config
        self.embed_tokens = nn.Embedding(config.vocabulary, config.width)
        nn.init.normal_(self.embed_tokens.weight, std=config.width**-0.5)
        self.layers = nn.ModuleList(_Layer(config) for _ in range(config.layers))
        self.layer_norm = _norm(config)
        if config.style == "espnet":
            self.output_projection = nn.Linear(config.width, config.vocabulary)
        self.dropout = nn.Dropout(config.dropout)

    def forward(self, tokens: Tensor, memory: Tensor, padding_mask: Tensor | None = None) -> Tensor:
        """Tokens [B,L] and features [B,T,width] -> logits [B,L,vocabulary]; row l has seen tokens 0..l.

        padding_mask: True [B,T] on frames that are none of the clip. Padding of the tokens belongs at their end.
        """
        x = self._embedded(tokens, torch.arange(tokens.shape[1], device=tokens.device))
        mask = _keys(padding_mask)
        for layer in self.layers:
            x = layer(x, layer.encoder_attn.keys(memory), mask)
        return self._logits(x)

    def start(self, memory: Tensor, padding_mask: Tensor | None = None) -> Past:
        """A past without tokens, for `step`; arguments as of `forward`."""
        return Past([layer.encoder_attn.keys(memory) for layer in self.layers], _keys(padding_mask))

    def step(self, tokens: Tensor, past: Past) -> Tensor:
        """The latest token of each beginning [B,K] -> logits of the next [B,K,vocabulary]; `past` grows by it."""
        x = self._embedded(tokens, torch.tensor(past.length, device=tokens.device))
        for number, layer in enumerate(self.layers):
            x, past.tokens[number] = layer.step(x, past.memory[number], past.mask, past.tokens[number])
        past.length += 1
        return self._logits(x)

    def _embedded(self, tokens: Tensor, places: Tensor) -> Tensor:
        x = self.embed_tokens(tokens)
        if self.config.style == "espnet":
            return self.dropout(x * math.sqrt(self.config.width) + _interleaved(places, self.config.width))
        return self.dropout(x + _halves(places + 2, self.config.width))

    def _logits(self, x: Tensor) -> Tensor:
        x = self.layer_norm(x)
        if self.config.style == "espnet":
            return self.output_projection(x)
        return functional.linear(x, self.embed_tokens.weight)


class _Layer(nn.Module):
    def __init__(self, config: DecoderConfig) -> None:
        super().__init__()
        self.self_attn, self.encoder_attn = _Attention(config), _Attention(config)
        self.self_attn_layer_norm, self.encoder_attn_layer_norm = _norm(config), _norm(config)
        self.fc1 = nn.Linear(config.width, config.inner)
        self.fc2 = nn.Linear(config.inner, config.width)
        self.final_layer_norm = _norm(config)
        self.dropout = nn.Dropout(config.dropout)
        self.activation_dropout = nn.Dropout(config.activation_dropout)

    def forward(self, x: Tensor, memory: KeysValues, mask: Tensor | None) -> Tensor:
        inner = self.self_attn_layer_norm(x)
        x = x + self.dropout(self.self_attn(inner, self.self_attn.keys(inner), causal=True))
        return self._after(x, memory, mask)

    def step(
        self, x: Tensor, memory: KeysValues, mask: Tensor | None, past: KeysValues | None
    ) -> tuple[Tensor, KeysValues]:
        """One token of each beginning [B,K,width], and its keys and values behind those of the past."""
        inner = self.self_attn_layer_norm(x).flatten(0, 1)[:, None]
        key, value = self.self_attn.keys(inner)
        if past is not None:
            key, value = torch.cat([past[0], key], dim=2), torch.cat([past[1], value], dim=2)
        x = x + self.self_attn(inner, (key, value)).view_as(x)
        return self._after(x, memory, mask), (key, value)

    def _after(self, x: Tensor, memory: KeysValues, mask: Tensor | None) -> Tensor:
        x = x + self.dropout(self.encoder_attn(self.encoder_attn_layer_norm(x), memory, mask=mask))
        inner = self.activation_dropout(functional.relu(self.fc1(self.final_layer_norm(x))))
        return x + self.dropout(self.fc2(inner))


class _Attention(nn.Module):
    def __init__(self, config: DecoderConfig) -> None:
        super().__init__()
        self.heads, self.dropout = config.heads, config.attention_dropout
        width = config.width
        self.q_proj, self.k_proj, self.v_proj, self.out_proj = (nn.Linear(width, width) for _ in range(4))

    def keys(self, x: Tensor) -> KeysValues:
        """Keys and values of [B,L,width], each [B,heads,L,width/heads]."""
        return self._split(self.k_proj(x)), self._split(self.v_proj(x))

    def forward(self, x: Tensor, pair: KeysValues, *, mask: Tensor | None = None, causal: bool = False) -> Tensor:
        mixed = functional.scaled_dot_product_attention(
            self._split(self.q_proj(x)),
            *pair,
            attn_mask=mask,
            dropout_p=self.dropout if self.training else 0.0,
            is_causal=causal,
        )
        return self.out_proj(mixed.transpose(1, 2).flatten(2))

    def _split(self, x: Tensor) -> Tensor:
        return x.unflatten(-1, (self.heads, -1)).transpose(1, 2)


def _norm(config: DecoderConfig) -> nn.LayerNorm:
    return nn.LayerNorm(config.width, eps=1e-12 if config.style == "espnet" else 1e-5)


def _keys(padding_mask: Tensor | None) -> Tensor | None:
    """Which frames may be asked, [B,1,1,T]."""
    return None if padding_mask is None else ~padding_mask[:, None, None]


def _interleaved(places: Tensor, width: int) -> Tensor:
    """Sine and cosine in turn: [...] -> [...,width]; wavelengths grow from 2π up to nearly 10000 · 2π."""
    rates = torch.exp(torch.arange(0, width, 2, device=places.device) * (-math.log(10000.0) / width))
    angles = places[..., None] * rates
    return torch.stack([angles.sin(), angles.cos()], dim=-1).flatten(-2)


def _halves(places: Tensor, width: int) -> Tensor:
    """All sines, then all cosines: [...] -> [...,width]; the longest wavelength is 10000 · 2π."""
    count = width // 2
    rates = torch.exp(torch.arange(count, device=places.device) * (-math.log(10000.0) / (count - 1)))
    angles = places[..., None] * rates
    return torch.cat([angles.sin(), angles.cos()], dim=-1)
