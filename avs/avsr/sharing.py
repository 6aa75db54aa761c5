"""A batch shared out to processes so that its loss and gradients are those that one process would find.

Each process takes some rows, and gradients are added up. What looks at several rows at once are batch norms in
training: their statistics are of all processes' rows. In an AvsrModel SEANet meets rows of one length together, so its
norms take the statistics of that length: over all processes if each has such a row, else one process has all of them.
"""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from functools import partial
from typing import Any

import torch
from accelerate.utils import gather_object
from torch import Tensor, distributed, nn
from torch.nn.modules.batchnorm import _BatchNorm

from avs.avsr.batch import Batch
from avs.avsr.model import AvsrModel
from avs.avsr.seanet import SAMPLES_PER_FRAME, SEANet

_Found = tuple[int, Tensor, Tensor]  # which norm, mean, variance without bias


@dataclass(frozen=True)
class Shares:
    """rows: of each process; alone: lengths that one process has for itself, None for all."""

    rows: tuple[tuple[int, ...], ...]
    alone: frozenset[int] | None = frozenset()


def shares(batch: Batch, rows: Sequence[int], processes: int, norms: Norms) -> Shares:
    """Who takes which of the rows."""
    lengths = defaultdict(list)
    for row in rows:
        lengths[batch.frames[row] if norms.by_length and bool(batch.seanet[row]) else 0].append(row)
    free = lengths.pop(0, [])
    whole = {length: own for length, own in lengths.items() if len(own) < processes}
    taken: list[list[int]] = [[] for _ in range(processes)]
    for length in sorted(lengths.keys() - whole.keys()):
        order = sorted(taken, key=len)
        for place, row in enumerate(lengths[length]):
            order[place % processes].append(row)
    for own in [*(whole[length] for length in sorted(whole)), *([row] for row in free)]:
        min(taken, key=len).extend(own)
    if norms.found and not all(taken):  # statistics of all need all
        return Shares((tuple(rows), *[()] * (processes - 1)), None)
    return Shares(tuple(tuple(sorted(own)) for own in taken), frozenset(whole))


class Norms:
    """The batch norms of a model that learn. Within `shared` they do so over all processes."""

    def __init__(self, model: nn.Module, *, shared: bool) -> None:
        """The model in training mode, so that frozen parts show."""
        modules = list(model.modules()) if shared else []
        self.found = [module for module in modules if isinstance(module, _BatchNorm) and module.training]
        self._seanets = [module for module in modules if isinstance(module, SEANet) and module.training]
        self.by_length = any(isinstance(module, AvsrModel) and module.seanet in self._seanets for module in modules)
        self._share, self._alone = Shares(()), False
        self._place = (0, 0)  # part of the step, and length of clips within SEANet
        self._statistics: dict[tuple[int, int], list[_Found]] = defaultdict(list)
        self._apart = False

    @contextmanager
    def shared(self) -> Iterator[Norms]:
        """For a while, forward passes in training take the statistics of all processes."""
        hooks = [net.register_forward_pre_hook(self._enter) for net in self._seanets]
        hooks += [net.register_forward_hook(self._leave) for net in self._seanets]
        for number, norm in enumerate(self.found):
            norm.forward = partial(self._forward, number)  # type: ignore[method-assign]
        try:
            yield self
        finally:
            for hook in hooks:
                hook.remove()
            for norm in self.found:
                del norm.forward

    def begin(self, part: int, share: Shares) -> None:
        """The next forward pass is that of a part of the step, by this share."""
        self._share, self._place, self._alone = share, (part, 0), share.alone is None
        self._apart |= share.alone is None or bool(share.alone)

    def settle(self) -> None:
        """After a step: running statistics as one process would have them, in the order in which it would meet them."""
        everyone = gather_object([dict(self._statistics)]) if self._apart else [self._statistics]
        merged = {place: found for own in everyone for place, found in own.items()}
        for place in sorted(merged):
            for number, mean, variance in merged[place]:
                _learn(self.found[number], mean, variance)
        self._statistics.clear()
        self._apart = False

    def _enter(self, _net: nn.Module, given: tuple[Tensor, ...]) -> None:
        length = given[0].shape[1] // SAMPLES_PER_FRAME
        self._place = (self._place[0], length)
        self._alone = self._share.alone is None or length in self._share.alone

    def _leave(self, *_: Any) -> None:
        self._place, self._alone = (self._place[0], 0), self._share.alone is None

    def _forward(self, number: int, x: Tensor) -> Tensor:
        norm = self.found[number]
        if not norm.training:
            return type(norm).forward(norm, x)
        values = x.to(torch.promote_types(x.dtype, torch.float32)).movedim(1, -1)
        flat = values.flatten(0, -2)
        sums = self._sum(torch.cat([flat.sum(dim=0), flat.new_full((1,), len(flat))]))
        mean, count = sums[:-1] / sums[-1], sums[-1].detach()
        variance = self._sum((flat - mean).square().sum(dim=0)) / count
        unbiased = variance.detach() * count / (count - 1).clamp(min=1)
        self._statistics[self._place].append((number, mean.detach().cpu(), unbiased.cpu()))
        found = (values - mean) * (variance + norm.eps).rsqrt()
        if norm.affine:
            found = found * norm.weight + norm.bias
        return found.movedim(-1, 1).to(x.dtype)

    def _sum(self, x: Tensor) -> Tensor:
        return x if self._alone else _Sum.apply(x)


def add_gradients(parameters: Sequence[nn.Parameter]) -> None:
    """Of all processes. A parameter that no process has a gradient for keeps none; one that some have gets zeros."""
    if not parameters:
        return
    known = torch.tensor([value.grad is not None for value in parameters], dtype=torch.int32).to(parameters[0].device)
    distributed.all_reduce(known)
    waiting = []
    for value, count in zip(parameters, known.tolist(), strict=True):
        if count:
            value.grad = torch.zeros_like(value) if value.grad is None else value.grad.contiguous()
            waiting.append(distributed.all_reduce(value.grad, async_op=True))
    for work in waiting:
        work.wait()


class _Sum(torch.autograd.Function):
    """Over all processes, of gradients too."""

    @staticmethod
    def forward(_ctx: Any, x: Tensor) -> Tensor:
        total = x.contiguous().clone()
        distributed.all_reduce(total)
        return total

    @staticmethod
    def backward(_ctx: Any, gradient: Tensor) -> Tensor:
        return _Sum.forward(_ctx, gradient)


def _learn(norm: _BatchNorm, mean: Tensor, variance: Tensor) -> None:
    """As PyTorch's own norm does."""
    if norm.running_mean is None or norm.running_var is None or norm.num_batches_tracked is None:
        return
    norm.num_batches_tracked += 1
    share = norm.momentum if norm.momentum is not None else 1 / int(norm.num_batches_tracked)
    for running, value in ((norm.running_mean, mean), (norm.running_var, variance)):
        running.lerp_(value.to(running), share)
