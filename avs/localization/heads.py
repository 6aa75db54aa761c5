"""The trainable heads, many at once: every arm and seed is one slice of the same stacked tensors."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from typing import Literal

import torch
from torch import Tensor, nn

HeadName = Literal["mlp", "temporal_conv"]


class StackedHeads(nn.Module):
    """M independent heads: a convolution over time (width 1 for `mlp`), ReLU, dropout, a linear classifier.

    Forward takes [M, B, T, D], and [M, B, T, E] beside them or nothing, and gives logits [M, B, T, C]; `learn` finds
    the gradient. Heads with the same seed start from the same weights. What stands beside has weights of its own: most
    heads see nothing there, and products of 768 columns are quicker than of some more.
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
        beside: int = 0,
    ) -> None:
        super().__init__()
        self.kernel = 1 if head == "mlp" else kernel
        self.hidden = hidden
        drawn = {seed: _draw(seed, (inputs, beside), self.kernel, hidden, classes) for seed in set(seeds)}
        stacks = (torch.stack(parts) for parts in zip(*(drawn[seed] for seed in seeds), strict=True))
        self.weight1, self.beside, self.bias1, self.weight2, self.bias2 = map(nn.Parameter, stacks)
        self.dropout = dropout
        self.generator = torch.Generator()  # of dropout: threads share PyTorch's own

    def forward(self, x: Tensor, beside: Tensor | None = None) -> Tensor:
        return self._classified(self._hidden(x, beside)).unflatten(1, x.shape[1:3])

    @torch.no_grad()
    def learn(self, x: Tensor, beside: Tensor | None, target: Tensor) -> None:
        """Put the gradient of each head's mean cross-entropy into `.grad`; target: int64 [M, B, T].

        It is what autograd finds, without autograd's copies: a step takes a quarter less time.
        """
        hidden = self._hidden(x, beside)
        error = torch.softmax(self._classified(hidden), dim=-1)
        error -= nn.functional.one_hot(target.flatten(1), error.shape[-1])
        error /= error.shape[1]
        self.weight2.grad, self.bias2.grad = torch.bmm(hidden.mT, error), error.sum(1)
        inner = torch.bmm(error, self.weight2.mT) * hidden.sign()  # ReLU's output is never negative
        if self.training and self.dropout:
            inner /= 1 - self.dropout
        self.bias1.grad = inner.sum(1)
        taps = self._to_taps(inner.view(*x.shape[:3], self.hidden)).flatten(3).flatten(1, 2)
        self.weight1.grad = torch.bmm(x.flatten(1, 2).mT, taps, out=self.weight1.grad)  # into the same memory each time
        if beside is not None:
            self.beside.grad = torch.bmm(beside.flatten(1, 2).mT, taps)

    def _hidden(self, x: Tensor, beside: Tensor | None) -> Tensor:
        """[M, B * T, H], after ReLU and dropout."""
        taps = torch.bmm(x.flatten(1, 2), self.weight1)
        if beside is not None:
            taps = torch.baddbmm(taps, beside.flatten(1, 2), self.beside)
        summed = self._over_time(taps.view(*x.shape[:3], self.kernel, self.hidden))
        return self._thinned(summed.relu_()).flatten(1, 2)

    def _classified(self, hidden: Tensor) -> Tensor:
        return torch.baddbmm(self.bias2[:, None], hidden, self.weight2)

    def _thinned(self, hidden: Tensor) -> Tensor:
        if not self.training or not self.dropout:
            return hidden
        kept = torch.rand(hidden.shape, generator=self.generator) >= self.dropout
        return hidden * kept.to(hidden.device) / (1 - self.dropout)

    def _over_time(self, taps: Tensor) -> Tensor:
        """The bias, and each tap of [M, B, T, K, H] summed into the second that it is for: a 'same' convolution."""
        summed = taps[..., self.kernel // 2, :] + self.bias1[:, None, None]
        for tap, into, of in self._shifts(taps.shape[2]):
            summed[:, :, into] += taps[:, :, of, tap]
        return summed

    def _to_taps(self, hidden: Tensor) -> Tensor:
        """The way back: each second of [M, B, T, H] to the taps that it was summed from."""
        taps = hidden.new_zeros((*hidden.shape[:3], self.kernel, self.hidden))
        taps[..., self.kernel // 2, :] = hidden
        for tap, into, of in self._shifts(hidden.shape[2]):
            taps[:, :, of, tap] = hidden[:, :, into]
        return taps

    def _shifts(self, seconds: int) -> Iterator[tuple[int, slice, slice]]:
        """Each tap beside the middle one with the seconds that it is summed into, and those that it is of."""
        for away in range(1, min(self.kernel // 2, seconds - 1) + 1):
            early, late = slice(seconds - away), slice(away, seconds)
            yield self.kernel // 2 - away, late, early
            yield self.kernel // 2 + away, early, late


def _draw(seed: int, inputs: tuple[int, int], kernel: int, hidden: int, classes: int) -> tuple[Tensor, ...]:
    """PyTorch's default initialisation of Linear and Conv1d: uniform within 1 / sqrt(fan in), which does not count what
    stands beside: most heads see nothing there."""
    generator = torch.Generator().manual_seed(seed)

    def uniform(*shape: int, fan: int) -> Tensor:
        return (torch.rand(*shape, generator=generator) * 2 - 1) / fan**0.5

    first = inputs[0] * kernel
    return (
        *uniform(sum(inputs), kernel * hidden, fan=first).split(inputs),
        uniform(hidden, fan=first),
        uniform(hidden, classes, fan=hidden),
        uniform(classes, fan=hidden),
    )
