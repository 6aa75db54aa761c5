"""SEANet: the voice of the face that one sees, out of a mixture, with a model of the noise beside that of the voice.

The published architecture and state dict (arXiv 2404.18501), in an order of work that is faster, and exact but for
rounding: frames stay in one layout, [batch, chunk, place in the chunk, channel], in which both paths of a block read
their sequences with few copies; what the last voice does not need is left out; attention runs slice by slice, in the
processor's cache, and never holds a matrix of scores.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any, NamedTuple

import torch
from torch import Tensor, nn
from torch.nn import functional

from avs.avsr.apart import run_apart
from avs.core.errors import InputError

SAMPLES_PER_FRAME = 640  # 16 kHz to 25 fps
VISUAL_DIM = 512

_VISUAL_CHANNELS, _VISUAL_HIDDEN, _VISUAL_BLOCKS = 256, 512, 5
HEADS = 4
CHUNK = 100  # frames, as published
_EPS = 1e-8
_SLICE = 1024  # frames that a processor's cache holds with all their queries, keys and values


class Stages(NamedTuple):
    """The voice and the noise after each stage, each [R,B,S]; the last voice is the result."""

    speech: Tensor
    noise: Tensor


class SEANet(nn.Module):
    """Mixture [B,S] at 16 kHz and MuSE features [B,T,512] at 25 Hz, S = 640 T -> the voice [B,S].

    N filters of L samples, B channels in the separator, H in each direction of an LSTM, chunks of K frames, R stages,
    attention by four heads of `head` channels.
    On a processor whose cores others use too, run it in `avs.core.execute.one_thread`: an LSTM's steps are short, and
    threads that wait for each other at each of them take many times as long.
    """

    encoder: Any
    decoder: Any

    def __init__(
        self, N: int = 256, L: int = 40, B: int = 64, H: int = 128, K: int = CHUNK, R: int = 6, head: int = 64
    ) -> None:
        super().__init__()
        if min(N, B, H, R, head) < 1:
            raise InputError(f"N ({N}), B ({B}), H ({H}), R ({R}) and head ({head}) must be >= 1")
        if L < 2 or L % 2 or SAMPLES_PER_FRAME % (L // 2) or K < 2 or K % 2:
            raise InputError(f"L ({L}) must be twice a divisor of {SAMPLES_PER_FRAME}, K ({K}) even")
        self.frozen = False
        self.encoder = nn.Module()
        self.encoder.conv1d_U = nn.Conv1d(1, N, L, L // 2, bias=False)
        self.separator = _Separator(N, B, H, K, R, head)
        self.decoder = nn.Module()
        self.decoder.basis_signals = nn.Linear(N, L, bias=False)
        for parameter in self.parameters():
            if parameter.dim() > 1:
                nn.init.xavier_normal_(parameter)

    def forward(self, mixture: Tensor, visual: Tensor, *, stages: bool = False) -> Any:
        """The voice [B,S], or with `stages` what every stage says, `Stages`; in the weights' precision, also
        inside autocast.

        All rows have one length: zeros at the end of a shorter one would change all of it (see `separate`).
        Raises InputError where S is not 640 T, or nothing is there.
        """
        check_lengths(mixture, visual)
        with torch.autocast(mixture.device.type, enabled=False):
            dtype = self.encoder.conv1d_U.weight.dtype
            mixture, visual = mixture.to(dtype), visual.to(dtype)
            weights = functional.relu(self.encoder.conv1d_U(mixture[:, None])).transpose(1, 2)
            found = [self._decode(weights * mask) for mask in self.separator(weights, visual, stages=stages)]
        if not stages:
            return found[0]
        return Stages(torch.stack(found[::2]), torch.stack(found[1::2]))

    def _decode(self, weights: Tensor) -> Tensor:
        """Filter weights [B,P,N] -> sound [B,S] of overlapping frames."""
        frames = self.decoder.basis_signals(weights)
        first, second = frames.chunk(2, dim=-1)
        return (functional.pad(first, (0, 0, 0, 1)) + functional.pad(second, (0, 0, 1, 0))).flatten(1)

    def freeze(self) -> SEANet:
        """No gradients, and eval mode for good: batch statistics and running means stay where they are."""
        self.frozen = True
        return self.requires_grad_(False).eval()

    def train(self, mode: bool = True) -> SEANet:
        return super().train(mode and not self.frozen)


def check_lengths(mixture: Tensor, visual: Tensor) -> None:
    """Raise InputError unless mixture is [B,640 T] and visual [B,T,512], T >= 1."""
    if mixture.ndim != 2 or visual.ndim != 3 or len(mixture) != len(visual) or visual.shape[2] != VISUAL_DIM:
        shapes = f"{list(mixture.shape)} and {list(visual.shape)}"
        raise InputError(f"mixture and visual features ({shapes}) must be [B,S] and [B,T,{VISUAL_DIM}]")
    if not mixture.numel() or not visual.numel():
        raise InputError(f"Invalid MuSE/SEANet input lengths: wav={mixture.shape[1]}, muse={visual.shape[1]}")
    if mixture.shape[1] != visual.shape[1] * SAMPLES_PER_FRAME:
        expected = visual.shape[1] * SAMPLES_PER_FRAME
        raise InputError(f"Audio/MuSE length mismatch: wav={mixture.shape[1]}, expected={expected}")


def separate(model: SEANet, mixture: Tensor, visual: Tensor, frames: Sequence[int]) -> Tensor:
    """A padded batch, mixture [B,S] and visual [B,T,512], `frames` valid of each row -> voices [B,S], padded by zeros.

    Rows of equal length go through the model together, others apart, so that each is what it would be alone. On a
    processor lengths go through it at once, each in one thread; gradients reach the model, and not its inputs.
    """
    check_lengths(mixture, visual)
    if len(frames) != len(mixture) or not all(1 <= count <= visual.shape[1] for count in frames):
        limits = f"from 1 to {visual.shape[1]}, one for each of {len(mixture)} rows"
        raise InputError(f"frames ({list(frames)}) must be {limits}")
    counts = sorted(set(frames))
    places = [[row for row, own in enumerate(frames) if own == count] for count in counts]
    groups = [
        (mixture[rows, : count * SAMPLES_PER_FRAME], visual[rows, :count])
        for rows, count in zip(places, counts, strict=True)
    ]
    found: list[Tensor] = [mixture] * len(mixture)
    for rows, voices in zip(places, run_apart(model, groups), strict=True):
        for row, voice in zip(rows, functional.pad(voices, (0, mixture.shape[1] - voices.shape[1])), strict=True):
            found[row] = voice
    return torch.stack(found)


class _Separator(nn.Module):
    """Filter weights of the mixture [B,P,N] and visual features [B,T,512] -> masks [B,P,N] of voice and noise."""

    def __init__(self, N: int, B: int, H: int, K: int, R: int, head: int) -> None:
        super().__init__()
        self.K, self.R = K, R
        self.layer_norm = nn.GroupNorm(1, N, eps=_EPS)
        self.bottleneck_conv1x1 = nn.Conv1d(N, B, 1, bias=False)
        self.v_ds = nn.Linear(VISUAL_DIM, _VISUAL_CHANNELS, bias=False)
        self.v_conv = nn.Sequential(*(_VisualBlock() for _ in range(_VISUAL_BLOCKS)))
        self.av_conv = nn.Conv1d(B + _VISUAL_CHANNELS, B, 1, bias=False)
        self.rnn_s = nn.ModuleList(_DualPath(B, H) for _ in range(R))
        self.rnn_n = nn.ModuleList(_DualPath(B, H) for _ in range(R))
        self.cross = nn.ModuleList(_Cross(B, head) for _ in range(R))  # the first is never used
        self.adder = _Adder(N, B)

    def forward(self, weights: Tensor, visual: Tensor, *, stages: bool) -> list[Tensor]:
        """The last mask of the voice; with `stages` all masks: voice and noise of the first stage, then of the next."""
        start = _chunked(self._joined(weights, visual), self.K)
        masks, speech, noise = [], start, start
        for stage in range(self.R):
            needed = stages or stage < self.R - 1
            if stage:
                speech, noise = self.cross[stage](speech, noise, both=needed)
            speech = self.rnn_s[stage](speech)
            noise = self.rnn_n[stage](noise) if needed else noise
            if stages:
                masks += [self.adder(speech, weights.shape[1]), self.adder(noise, weights.shape[1])]
        return masks or [self.adder(speech, weights.shape[1])]

    def _joined(self, weights: Tensor, visual: Tensor) -> Tensor:
        """Sound and picture in one sequence [B,P,B'].

        av_conv sees the sound's channels, then the picture's; its share of the picture is taken before the picture is
        stretched to the sound's rate, since mixing channels and interpolating over time may change places.
        """
        normed = functional.group_norm(
            weights.transpose(1, 2), 1, self.layer_norm.weight, self.layer_norm.bias, self.layer_norm.eps
        )
        of_sound, of_picture = self.av_conv.weight.split(
            (self.bottleneck_conv1x1.out_channels, _VISUAL_CHANNELS), dim=1
        )
        sound = functional.conv1d(self.bottleneck_conv1x1(normed), of_sound)
        picture = functional.conv1d(self.v_conv(self.v_ds(visual).transpose(1, 2)), of_picture)
        picture = functional.interpolate(picture, weights.shape[1], mode="linear", align_corners=False)
        return (sound + picture).transpose(1, 2)


class _VisualBlock(nn.Module):
    """A residual block over time, [B,256,T]."""

    def __init__(self) -> None:
        super().__init__()
        self.net = nn.Sequential(
            nn.ReLU(),
            _GlobalNorm(_VISUAL_CHANNELS),
            nn.Conv1d(_VISUAL_CHANNELS, _VISUAL_HIDDEN, 1, bias=False),
            nn.ReLU(),
            _GlobalNorm(_VISUAL_HIDDEN),
            nn.Conv1d(_VISUAL_HIDDEN, _VISUAL_HIDDEN, 3, padding=1, groups=_VISUAL_HIDDEN, bias=False),
            nn.PReLU(),
            _GlobalNorm(_VISUAL_HIDDEN),
            nn.Conv1d(_VISUAL_HIDDEN, _VISUAL_CHANNELS, 1, bias=False),
        )

    def forward(self, x: Tensor) -> Tensor:
        return x + self.net(x)


class _GlobalNorm(nn.Module):
    """Mean 0 and variance 1 over channels and time together."""

    def __init__(self, channels: int) -> None:
        super().__init__()
        self.gamma = nn.Parameter(torch.ones(1, channels, 1))
        self.beta = nn.Parameter(torch.zeros(1, channels, 1))

    def forward(self, x: Tensor) -> Tensor:
        return functional.group_norm(x, 1, self.gamma.flatten(), self.beta.flatten(), _EPS)


class _ChannelsLastNorm(nn.GroupNorm):
    """Mean 0 and variance 1 over all of a row, for channels last [B,…,C]."""

    def __init__(self, channels: int) -> None:
        super().__init__(1, channels, eps=_EPS)

    def forward(self, x: Tensor) -> Tensor:
        return functional.group_norm(x.flatten(1)[:, None], 1, eps=self.eps).view_as(x) * self.weight + self.bias


class _DualPath(nn.Module):
    """[B,S,K,C] -> the same: an LSTM within each chunk, then one across chunks at each place, both ways."""

    def __init__(self, channels: int, hidden: int) -> None:
        super().__init__()
        self.intra_rnn = nn.LSTM(channels, hidden, batch_first=True, bidirectional=True)
        self.inter_rnn = nn.LSTM(channels, hidden, bidirectional=True)
        self.intra_linear = nn.Linear(2 * hidden, channels)
        self.inter_linear = nn.Linear(2 * hidden, channels)
        self.intra_norm = _ChannelsLastNorm(channels)
        self.inter_norm = _ChannelsLastNorm(channels)

    def forward(self, x: Tensor) -> Tensor:
        within = self.intra_linear(self.intra_rnn(x.flatten(0, 1))[0]).view_as(x)
        x = x + self.intra_norm(within)
        steps = x.transpose(0, 1)  # [S,B,K,C]
        across = self.inter_linear(self.inter_rnn(steps.flatten(1, 2))[0]).view(steps.shape)
        return x + self.inter_norm(across.transpose(0, 1).contiguous())


class _Cross(nn.Module):
    """Voice and noise look at each other, within chunks, then across them: [B,S,K,C] twice -> the same.

    In the published names what works within chunks is `inter` here, the other way round than in `_DualPath`.
    """

    def __init__(self, channels: int, head: int) -> None:
        super().__init__()
        self.intra_cross, self.inter_cross = _CrossLayer(channels, head), _CrossLayer(channels, head)
        self.intra_norm_s, self.intra_norm_n = _ChannelsLastNorm(channels), _ChannelsLastNorm(channels)
        self.inter_norm_s, self.inter_norm_n = _ChannelsLastNorm(channels), _ChannelsLastNorm(channels)

    def forward(self, speech: Tensor, noise: Tensor, *, both: bool) -> tuple[Tensor, Tensor]:
        """both: False leaves the noise as it was before the second layer, for a last stage of which none is asked."""
        of_speech, of_noise = self.inter_cross(speech, noise, both=True)
        speech, noise = speech + self.inter_norm_s(of_speech), noise + self.inter_norm_n(of_noise)
        across = [x.transpose(1, 2) for x in (speech, noise)]  # [B,K,S,C]
        of_speech, of_noise = (x.transpose(1, 2).contiguous() for x in self.intra_cross(*across, both=both))
        speech = speech + self.intra_norm_s(of_speech)
        return speech, noise + self.intra_norm_n(of_noise) if both else noise


class _CrossLayer(nn.Module):
    """Attention along the last but one axis of two streams [B,M,L,C], each with its own projections.

    A stream's values are weighed half by its own queries, half by those of the other stream with their sign turned:
    what the other looks at counts less.
    """

    def __init__(self, channels: int, head: int) -> None:
        super().__init__()
        width = HEADS * head
        for name in ("q1_self", "q2_self", "q1", "k1", "v1", "q2", "k2", "v2"):
            self.add_module(f"linear_{name}", nn.Linear(channels, width))
        self.linear_o1, self.linear_o2 = nn.Linear(width, channels), nn.Linear(width, channels)
        self.norm1, self.norm2 = nn.BatchNorm1d(channels), nn.BatchNorm1d(channels)

    def forward(self, one: Tensor, two: Tensor, *, both: bool) -> tuple[Tensor, Tensor]:
        """What is to be added to each stream, before its norm; `both` False: to the first, twice."""
        normed = [self._normed(self.norm1, one), self._normed(self.norm2, two)]
        count = len(one) * one.shape[1] if one.is_cuda else max(1, _SLICE // one.shape[2])
        parts = [
            self._attend(*pair, both=both) for pair in zip(*(x.flatten(0, 1).split(count) for x in normed), strict=True)
        ]
        first, second = (torch.cat(part).view(one.shape) for part in zip(*parts, strict=True))
        return first, second

    @staticmethod
    def _normed(norm: nn.Module, x: Tensor) -> Tensor:
        return norm(x.reshape(-1, x.shape[-1])).view(x.shape)

    def _attend(self, one: Tensor, two: Tensor, *, both: bool) -> tuple[Tensor, Tensor]:
        """A slice of sequences [n,L,C]."""
        own1, key1, value1, *rest1 = self._projected(one, ("q1_self", "k1", "v1", "q1")[: 4 if both else 3])
        ask2, *rest2 = self._projected(two, ("q2", "q2_self", "k2", "v2")[: 4 if both else 1])
        first = self.linear_o1(_weigh(own1, ask2, key1, value1)).relu_()
        if not both:
            return first, first
        (ask1,), (own2, key2, value2) = rest1, rest2
        return first, self.linear_o2(_weigh(own2, ask1, key2, value2)).relu_()

    def _projected(self, x: Tensor, names: Sequence[str]) -> tuple[Tensor, ...]:
        """By several layers at once: [n,L,C] -> as many [n,heads,L,head]."""
        layers: list[Any] = [self.get_submodule(f"linear_{name}") for name in names]
        weight, bias = torch.cat([layer.weight for layer in layers]), torch.cat([layer.bias for layer in layers])
        projected = functional.linear(x, weight, bias).relu_()
        return projected.unflatten(-1, (len(names), HEADS, -1)).permute(2, 0, 3, 1, 4).unbind(0)


def _weigh(own: Tensor, other: Tensor, key: Tensor, value: Tensor) -> Tensor:
    """The mean of the values as `own` asks for them and as `other`, reversed, does: [n,heads,L,D] -> [n,L,heads D]."""
    attend = functional.scaled_dot_product_attention
    both = attend(own, key, value) + attend(-other, key, value)  # not scale < 0: kernels take the largest score first
    return (both / 2).transpose(1, 2).flatten(2)


class _Adder(nn.Module):
    """Chunks [B,S,K,C] -> the mask [B,P,N]."""

    def __init__(self, N: int, B: int) -> None:
        super().__init__()
        self.prelu = nn.PReLU()
        self.mask_conv1x1 = nn.Conv1d(B, N, 1, bias=False)

    def forward(self, chunks: Tensor, length: int) -> Tensor:
        joined = self.prelu(_overlapped(chunks, length))
        return functional.relu(functional.linear(joined, self.mask_conv1x1.weight[..., 0]))


def _chunked(x: Tensor, size: int) -> Tensor:
    """A sequence [B,P,C] -> chunks [B,S,K,C] of `size` frames that overlap by half, with zeros before and after.

    As published: first 1 to `size` frames of zeros at the end, so that with half a chunk before and after all is whole.
    """
    half = size // 2
    gap = size - (half + x.shape[1]) % size
    padded = functional.pad(x, (0, 0, half, half + gap))
    return padded.unfold(1, size, half).transpose(2, 3).contiguous()


def _overlapped(chunks: Tensor, length: int) -> Tensor:
    """The sum of overlapping chunks, without what `_chunked` had put around: [B,S,K,C] -> [B,length,C]."""
    half = chunks.shape[2] // 2
    first, second = chunks.split(half, dim=2)
    return (first[:, 1:] + second[:, :-1]).flatten(1, 2)[:, :length]
