"""The trainable heads, many at once: every arm and seed is one slice of the same stacked tensors."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Literal

import torch
from torch import Tensor, nn

HeadName = Literal["mlp", "temporal_conv"]


class StackedHeads(nn.Module):
    """M independent heads: a convolution over time (width 1 for `mlp`), ReLU, dropout, a linear classifier.

    Forward takes [M, B, T, D] and gives logits [M, B, T, C]. Heads with the same seed start from the same weights.
    """

    def __init__(
        self,
        seeds: Sequence[int],
        inputs: int,
        hidden: int,
        classes: int,
        *,
        head: HeadName,
        kernel: int,
        dropout: float,
        fan_in: int | None = None,
    ) -> None:
        super().__init__()
        self.kernel = 1 if head == "mlp" else kernel
        self.hidden = hidden
        first = (fan_in or inputs) * self.kernel
        drawn = {seed: _draw(seed, inputs, self.kernel * hidden, hidden, classes, first) for seed in set(seeds)}
        stacks = (torch.stack(parts) for parts in zip(*(drawn[seed] for seed in seeds), strict=True))
        self.weight1, self.bias1, self.weight2, self.bias2 = map(nn.Parameter, stacks)
        self.dropout = dropout
        self.generator = torch.Generator()  # of dropout: threads share PyTorch's own

    def forward(self, x: Tensor) -> Tensor:
        models, batch, seconds, _ = x.shape
        taps = torch.bmm(x.flatten(1, 2), self.weight1).view(models, batch, seconds, self.kernel, self.hidden)
        hidden = self._over_time(taps) + self.bias1[:, None, None]
        hidden = self._thinned(torch.relu(hidden)).flatten(1, 2)
        return torch.baddbmm(self.bias2[:, None], hidden, self.weight2).view(models, batch, seconds, -1)

    def _thinned(self, hidden: Tensor) -> Tensor:
        if not self.training or not self.dropout:
            return hidden
        kept = torch.rand(hidden.shape, generator=self.generator) >= self.dropout
        return hidden * kept.to(hidden.device) / (1 - self.dropout)

    def _over_time(self, taps: Tensor) -> Tensor:
        """Sum tap j of second t + j - kernel // 2 into second t, zeros outside: a 'same' convolution.

        In memory those taps are kernel + 1 vectors apart, so that one strided view replaces as many copies.
        """
        half = self.kernel // 2
        padded = nn.functional.pad(taps, (0, 0, 0, 0, half, half)).contiguous()
        models, batch, seconds, kernel, hidden = taps.shape
        strides = (*padded.stride()[:3], (kernel + 1) * hidden, 1)
        return padded.as_strided((models, batch, seconds, kernel, hidden), strides).sum(3)


def _draw(seed: int, inputs: int, columns: int, hidden: int, classes: int, fan_in: int) -> tuple[Tensor, ...]:
    """PyTorch's default initialisation of Linear and Conv1d: uniform within 1 / sqrt(fan in)."""
    generator = torch.Generator().manual_seed(seed)

    def uniform(*shape: int, fan: int) -> Tensor:
        return (torch.rand(*shape, generator=generator) * 2 - 1) / fan**0.5

    return (
        uniform(inputs, columns, fan=fan_in),
        uniform(hidden, fan=fan_in),
        uniform(hidden, classes, fan=hidden),
        uniform(classes, fan=hidden),
    )
