"""bfloat16 where it costs little accuracy: products of matrices and convolutions; float32 for all else."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager

import torch
from torch import nn

_PRODUCTS = (nn.Linear, nn.Conv1d, nn.Conv2d, nn.Conv3d)


@contextmanager
def reduced(model: nn.Module, active: bool = True) -> Iterator[None]:
    """Within it, the model's matrix products and convolutions, and attention, run in bfloat16.

    What is added up along the layers, norms, the position convolution's weight, softmax of CTC and of the searches stay
    in float32. Weights are rounded once and put back after, so that no step of a search has to convert them.
    """
    if not active:
        yield
        return
    device = next(model.parameters()).device.type
    kept: list[tuple[nn.Parameter, torch.Tensor]] = []
    for module in model.modules():
        if isinstance(module, _PRODUCTS):
            kept += [(value, value.data) for value in module.parameters(recurse=False)]
    try:
        for value, _ in kept:
            value.data = value.data.to(torch.bfloat16)
        with torch.autocast(device, dtype=torch.bfloat16):
            yield
    finally:
        for value, data in kept:
            value.data = data
