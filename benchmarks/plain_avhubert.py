"""AV-HuBERT's graph written down as it is described, over the same parameters, to be measured against.

All frames at once, explicit attention matrices, and a decoder that reads the whole text again for each token, with a
copy of the clip for each beginning.
"""

from __future__ import annotations

from typing import Any

import torch
from torch import Tensor
from torch.nn import functional

from avs.avsr.avhubert import AVHubertEncoder
from avs.avsr.decoders import Decoder


def plain_encoder(model: AVHubertEncoder, audio: Tensor, video: Tensor) -> Tensor:
    """Features [B,T,width] of a batch without padding."""
    network: Any = model
    resnet = network.feature_extractor_video["resnet"]
    frames = resnet.frontend3D(video).transpose(1, 2)
    clips, count = frames.shape[:2]
    seen = resnet.trunk(functional.max_pool2d(frames.flatten(0, 1), 3, 2, 1)).mean(dim=(2, 3)).view(clips, count, -1)
    heard = network.feature_extractor_audio["proj"](audio)
    joined = torch.cat([heard, network.feature_extractor_video["proj"](seen)], dim=-1)
    x = network.post_extract_proj(network.layer_norm(joined))
    x = x + network.encoder.pos_conv(x.transpose(1, 2)).transpose(1, 2)
    for layer in network.encoder.layers:
        inner = layer.self_attn_layer_norm(x)
        x = x + _attention(layer.self_attn, inner, inner)
        x = x + layer.fc2(functional.gelu(layer.fc1(layer.final_layer_norm(x))))
    return network.encoder.layer_norm(x)


class Text:
    """What a decoder without a cache knows: the tokens so far, and a copy of the clip for each beginning."""

    def __init__(self, memory: Tensor) -> None:
        self.memory = memory
        self.tokens: Tensor | None = None

    def reorder(self, origin: Tensor) -> None:
        assert self.tokens is not None
        self.tokens = self.tokens.gather(1, origin[..., None].expand_as(self.tokens))


class PlainDecoder:
    """Stands for a `Decoder` in a search, and reads everything again at each step."""

    def __init__(self, decoder: Decoder) -> None:
        self._decoder: Any = decoder
        self.config = decoder.config

    def start(self, memory: Tensor, padding_mask: Tensor | None) -> Text:
        assert padding_mask is None
        return Text(memory)

    def step(self, tokens: Tensor, past: Text) -> Tensor:
        past.tokens = tokens[..., None] if past.tokens is None else torch.cat([past.tokens, tokens[..., None]], dim=-1)
        texts, beams = past.tokens.flatten(0, 1), tokens.shape[1]
        decoder = self._decoder
        memory = past.memory.repeat_interleave(beams, dim=0)
        x = decoder._embedded(texts, torch.arange(texts.shape[1]))
        later = torch.ones(texts.shape[1], texts.shape[1], dtype=torch.bool).triu(1)
        for layer in decoder.layers:
            inner = layer.self_attn_layer_norm(x)
            x = x + _attention(layer.self_attn, inner, inner, later)
            x = x + _attention(layer.encoder_attn, layer.encoder_attn_layer_norm(x), memory)
            x = x + layer.fc2(functional.relu(layer.fc1(layer.final_layer_norm(x))))
        return decoder._logits(x)[:, -1].unflatten(0, tokens.shape)


def _attention(layer: Any, asking: Tensor, asked: Tensor, hidden: Tensor | None = None) -> Tensor:
    projected = [
        projection(x).unflatten(-1, (layer.heads, -1)).transpose(1, 2)
        for projection, x in ((layer.q_proj, asking), (layer.k_proj, asked), (layer.v_proj, asked))
    ]
    query, key, value = projected
    scores = query @ key.transpose(2, 3) * query.shape[-1] ** -0.5
    if hidden is not None:
        scores = scores.masked_fill(hidden, -torch.inf)
    return layer.out_proj((scores.softmax(dim=-1) @ value).transpose(1, 2).flatten(2))
