"""SEANet's graph written down as it is described, layer after layer, over the same parameters, to be measured against.

Every stage is worked out in full, in the layout of the paper [B,C,K,S], with explicit attention matrices, and none of
what makes `avs.avsr.seanet` fast.
"""

from __future__ import annotations

import math
from typing import Any

import torch
from torch import Tensor
from torch.nn import functional

from avs.avsr.seanet import SEANet


def plain_forward(model: SEANet, mixture: Tensor, visual: Tensor) -> tuple[Tensor, Tensor]:
    """Voice and noise of all stages, [R,B,S] each."""
    separator: Any = model.separator
    encoded = torch.relu(model.encoder.conv1d_U(mixture[:, None]))  # [B,N,P]
    sound = separator.bottleneck_conv1x1(separator.layer_norm(encoded))
    picture = separator.v_conv(separator.v_ds(visual).transpose(1, 2))
    picture = functional.interpolate(picture, encoded.shape[2], mode="linear", align_corners=False)
    joined = separator.av_conv(torch.cat([sound, picture], dim=1))
    speech = noise = _cut(joined, separator.K)
    voices, noises = [], []
    for stage in range(separator.R):
        if stage:
            speech, noise = _cross(separator.cross[stage], speech, noise)
        speech = _dual_path(separator.rnn_s[stage], speech)
        noise = _dual_path(separator.rnn_n[stage], noise)
        voices.append(_sound(model, encoded, speech))
        noises.append(_sound(model, encoded, noise))
    return torch.stack(voices), torch.stack(noises)


def _cut(x: Tensor, size: int) -> Tensor:
    """[B,C,P] -> [B,C,K,S]."""
    half = size // 2
    gap = size - (half + x.shape[2] % size) % size
    x = functional.pad(x, (half, gap + half))
    starts = range(0, x.shape[2] - size + 1, half)
    return torch.stack([x[:, :, start : start + size] for start in starts], dim=3)


def _sound(model: SEANet, encoded: Tensor, chunks: Tensor) -> Tensor:
    adder: Any = model.separator.adder
    joined = _added(chunks, chunks.shape[2] // 2)
    joined = joined[:, :, chunks.shape[2] // 2 :][:, :, : encoded.shape[2]]
    mask = torch.relu(adder.mask_conv1x1(adder.prelu(joined)))
    frames = model.decoder.basis_signals((encoded * mask).transpose(1, 2)).transpose(1, 2)  # [B,L,P]
    return _added(frames[:, None], frames.shape[1] // 2)[:, 0]


def _added(frames: Tensor, hop: int) -> Tensor:
    """Overlap and add: [B,C,L,F] -> [B,C,(F - 1) hop + L]."""
    size, count = frames.shape[2:]
    return functional.fold(frames.flatten(1, 2), (1, (count - 1) * hop + size), (1, size), stride=(1, hop))[:, :, 0]


def _dual_path(block: Any, x: Tensor) -> Tensor:
    batch, channels, size, count = x.shape
    rows = x.permute(0, 3, 2, 1).reshape(batch * count, size, channels)
    rows = block.intra_linear(block.intra_rnn(rows)[0])
    x = x + _norm(block.intra_norm, rows.view(batch, count, size, channels).permute(0, 3, 2, 1))
    rows = x.permute(0, 2, 3, 1).reshape(batch * size, count, channels)
    rows = block.inter_linear(block.inter_rnn(rows.transpose(0, 1))[0]).transpose(0, 1)
    return x + _norm(block.inter_norm, rows.reshape(batch, size, count, channels).permute(0, 3, 1, 2))


def _norm(norm: Any, x: Tensor) -> Tensor:
    return functional.group_norm(x, 1, norm.weight, norm.bias, norm.eps)


def _cross(block: Any, speech: Tensor, noise: Tensor) -> tuple[Tensor, Tensor]:
    batch, channels, size, count = speech.shape
    rows = [x.permute(0, 3, 2, 1).reshape(batch * count, size, channels) for x in (speech, noise)]
    rows = [x.view(batch, count, size, channels).permute(0, 3, 2, 1) for x in _attend(block.inter_cross, *rows)]
    speech, noise = speech + _norm(block.inter_norm_s, rows[0]), noise + _norm(block.inter_norm_n, rows[1])
    rows = [x.permute(0, 2, 3, 1).reshape(batch * size, count, channels) for x in (speech, noise)]
    rows = [x.view(batch, size, count, channels).permute(0, 3, 1, 2) for x in _attend(block.intra_cross, *rows)]
    return speech + _norm(block.intra_norm_s, rows[0]), noise + _norm(block.intra_norm_n, rows[1])


def _attend(layer: Any, one: Tensor, two: Tensor) -> list[Tensor]:
    one = layer.norm1(one.transpose(1, 2)).transpose(1, 2)
    two = layer.norm2(two.transpose(1, 2)).transpose(1, 2)

    def heads(name: str, x: Tensor) -> Tensor:
        return torch.relu(getattr(layer, f"linear_{name}")(x)).unflatten(2, (4, 64)).transpose(1, 2)

    found = []
    for number, own, other in ((1, one, two), (2, two, one)):
        key, value = heads(f"k{number}", own), heads(f"v{number}", own)
        reverse = torch.softmax(-heads(f"q{3 - number}", other) @ key.transpose(2, 3) / math.sqrt(64), dim=3)
        usual = torch.softmax(heads(f"q{number}_self", own) @ key.transpose(2, 3) / math.sqrt(64), dim=3)
        weighed = ((reverse + usual) / 2 @ value).transpose(1, 2).flatten(2)
        found.append(torch.relu(getattr(layer, f"linear_o{number}")(weighed)))
    return found
