"""Groups of rows that go through SEANet apart, at once: on a processor each by a thread, forwards and backwards.

Numbers do not hang on how many threads there are: a group is worked out in one thread, as if alone, and what groups
add up to (gradients, running statistics of norms) is added in their order.
"""

from __future__ import annotations

import copy
from collections.abc import Callable, Iterable, Sequence
from concurrent.futures import ThreadPoolExecutor
from functools import cache
from typing import Any, TypeVar

import joblib
import torch
from torch import Tensor, distributed, nn
from torch.nn.modules.batchnorm import _BatchNorm

Item = TypeVar("Item")
Result = TypeVar("Result")


def run_apart(model: nn.Module, groups: Sequence[tuple[Tensor, ...]]) -> list[Tensor]:
    """model(*group) of each. In training over several processes, whose norms wait for each other, one after another.

    Gradients reach the model's parameters, and no inputs.
    """
    if len(groups) < 2 or groups[0][0].device.type != "cpu" or distributed.is_initialized():
        return [model(*group) for group in groups]
    if not torch.is_grad_enabled():
        inferred = torch.is_inference_mode_enabled()
        return _map(lambda group: _without_gradients(model, group, inferred), groups)
    parameters = [value for value in model.parameters() if value.requires_grad]
    return list(_Apart.apply(model, groups, *parameters))


class _Apart(torch.autograd.Function):
    """A graph for each group, kept beside the graph that they are part of."""

    @staticmethod
    def forward(ctx: Any, model: nn.Module, groups: Sequence[tuple[Tensor, ...]], *parameters: Tensor) -> Any:
        twins = [_twin(model) for _ in groups]
        ctx.parameters, ctx.found = parameters, _map(_with_gradients, list(zip(twins, groups, strict=True)))
        for twin in twins:
            _learn(model, twin)
        return tuple(found.detach() for found in ctx.found)

    @staticmethod
    def backward(ctx: Any, *gradients: Tensor) -> Any:
        def of(pair: tuple[Tensor, Tensor]) -> tuple[Tensor | None, ...]:
            if not pair[0].requires_grad:
                return (None,) * len(ctx.parameters)
            return torch.autograd.grad(pair[0], ctx.parameters, pair[1], allow_unused=True)

        parts = _map(of, list(zip(ctx.found, gradients, strict=True)))
        ctx.found = None
        return None, None, *map(_added, zip(*parts, strict=True))


def _added(gradients: Iterable[Tensor | None]) -> Tensor | None:
    known = [gradient for gradient in gradients if gradient is not None]
    return sum(known[1:], known[0]) if known else None


def _with_gradients(work: tuple[nn.Module, tuple[Tensor, ...]]) -> Tensor:
    with torch.enable_grad():
        return work[0](*work[1])


def _without_gradients(model: nn.Module, group: tuple[Tensor, ...], inferred: bool) -> Tensor:
    with torch.inference_mode(inferred), torch.no_grad():
        return model(*group)


def _twin(model: nn.Module) -> nn.Module:
    """The same parameters, and norms whose running statistics are those of the next batch alone."""
    twin = copy.deepcopy(model, {id(value): value for value in model.parameters()})
    for norm in _learning(twin):
        norm.momentum = 1.0
        norm.num_batches_tracked.zero_()
    return twin


def _learn(model: nn.Module, twin: nn.Module) -> None:
    """What the twin's norms have met, as PyTorch's own norms take it in."""
    for norm, met in zip(_learning(model), _learning(twin), strict=True):
        if not met.num_batches_tracked:  # what the last voice does not need
            continue
        norm.num_batches_tracked += 1
        for name in ("running_mean", "running_var"):
            getattr(norm, name).mul_(1 - norm.momentum).add_(getattr(met, name), alpha=norm.momentum)


def _learning(model: nn.Module) -> list[Any]:
    return [module for module in model.modules() if isinstance(module, _BatchNorm) and module.training]


def _map(work: Callable[[Item], Result], items: Sequence[Item]) -> list[Result]:
    """In order; begun with the last one, since `separate` has the longest there."""
    waiting = [_pool().submit(work, item) for item in reversed(items)]
    return [done.result() for done in reversed(waiting)]


@cache
def _pool() -> ThreadPoolExecutor:
    return ThreadPoolExecutor(joblib.cpu_count(), initializer=torch.set_num_threads, initargs=(1,))
