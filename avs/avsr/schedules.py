"""How fast a training learns, over its steps: the published schedules, by name."""

from __future__ import annotations

import math
from functools import partial
from typing import Literal

from torch.optim import Optimizer
from torch.optim.lr_scheduler import LambdaLR

Schedule = Literal["linear", "onecycle", "tri_stage"]


def scheduler(name: Schedule, optimizer: Optimizer, steps: int, warmup: float) -> LambdaLR:
    """From the optimizer's rates, which are the highest ones; `warmup` is the share of the steps until these."""
    shapes = {"linear": linear, "onecycle": onecycle, "tri_stage": tri_stage}
    return LambdaLR(optimizer, partial(shapes[name], steps=steps, rise=math.ceil(warmup * steps)))


def linear(step: int, *, steps: int, rise: int) -> float:
    """The share of the highest rate in `step`, counted from 0, of `steps`: in `rise` steps up from 0, then down to 0.

    MCoRec's recipe.
    """
    if step < rise:
        return step / rise
    return max(0.0, (steps - step) / max(1, steps - rise))


def onecycle(step: int, *, steps: int, rise: int) -> float:
    """Along half waves from a 25th up, and down to nearly nothing in the last step: PyTorch's OneCycleLR.

    Smith, Topin: Super-convergence (2018). Momentum stays.
    """
    top = rise - 1
    if step < top:
        return _wave(1 / 25, 1.0, step / top)
    return _wave(1.0, 1 / 25 / 1e4, min(1.0, (step - top) / max(1, steps - 1 - top)))


def tri_stage(step: int, *, steps: int, rise: int) -> float:
    """From a hundredth up on a line, then down to a twentieth by the same share each step, with no time at the top.

    AV-HuBERT's fine-tuning.
    """
    if step < rise:
        return 0.01 + 0.99 * step / rise
    return 0.05 ** min(1.0, (step - rise) / max(1, steps - rise))


def _wave(start: float, end: float, share: float) -> float:
    """Half a cosine from one value to another."""
    return end + (start - end) * (1 + math.cos(math.pi * share)) / 2
