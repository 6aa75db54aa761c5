"""How fast a training learns, over its steps: the published schedules, by name."""

from __future__ import annotations

import math
from collections.abc import Callable
from functools import partial
from typing import Literal

from torch.optim import Optimizer
from torch.optim.lr_scheduler import LambdaLR, LRScheduler, OneCycleLR

Schedule = Literal["linear", "onecycle", "tri_stage"]

TRI_START, TRI_END = 0.01, 0.05  # shares of the highest rate, as published with AV-HuBERT's fine-tuning


def scheduler(name: Schedule, optimizer: Optimizer, steps: int, warmup: float) -> LRScheduler:
    """From the optimizer's rates, which are the highest ones; `warmup` is the share of the steps until these.

    `linear`: from 0 up and down to 0, MCoRec's recipe. `onecycle`: PyTorch's, along half waves, from a 25th up, then
    down to nearly nothing, while momentum goes the other way. `tri_stage`: AV-HuBERT's fine-tuning, from a hundredth
    up on a line, then down to a twentieth by the same share in each step, with no time at the top.
    """
    if name == "onecycle":
        return OneCycleLR(optimizer, [group["lr"] for group in optimizer.param_groups], steps, pct_start=warmup)
    shares: dict[str, Callable[[int, int, int], float]] = {"linear": linear, "tri_stage": tri_stage}
    return LambdaLR(optimizer, partial(_share, shares[name], steps, math.ceil(warmup * steps)))


def linear(step: int, steps: int, rise: int) -> float:
    """The share of the highest rate in `step`, counted from 0, of `steps`, of which `rise` lead up to it."""
    if step < rise:
        return step / rise
    return max(0.0, (steps - step) / max(1, steps - rise))


def tri_stage(step: int, steps: int, rise: int) -> float:
    if step < rise:
        return TRI_START + (1 - TRI_START) * step / rise
    return TRI_END ** min(1.0, (step - rise) / max(1, steps - rise))


def _share(shape: Callable[[int, int, int], float], steps: int, rise: int, step: int) -> float:
    return shape(step, steps, rise)
