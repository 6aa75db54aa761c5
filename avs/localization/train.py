"""Train the heads of all arms and all seeds as one batched computation on cached features."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from typing import Literal

import numpy as np
import torch
from torch import Tensor
from torch.nn import functional

from avs.core.clips import BACKGROUND
from avs.core.execute import progress, torch_device
from avs.core.params import params
from avs.localization.heads import HeadName, StackedHeads

SplitName = Literal["val", "test"]


@params
class P0Params:
    """Head, optimiser (AdamW) and evaluation of the study.

    `standardize`: features less their mean, over their deviation, both of the training clips at all resolutions
    together; false keeps the original's raw features.
    """

    head: HeadName = "temporal_conv"
    hidden: int = 128
    kernel: int = 3
    dropout: float = 0.0
    standardize: bool = True
    seeds: int = 10
    epochs: int = 5
    batch_size: int = 16
    lr: float = 0.002
    weight_decay: float = 0.0
    eval_splits: tuple[SplitName, ...] = ("test",)
    resamples: int = 10000

    def __post_init__(self) -> None:
        for name in ("hidden", "seeds", "epochs", "batch_size", "resamples"):
            if getattr(self, name) < 1:
                raise ValueError(f"{name} ({getattr(self, name)}) must be >= 1")
        if self.kernel < 1 or self.kernel % 2 == 0:
            raise ValueError(f"kernel ({self.kernel}) must be odd")
        if not 0 < self.lr < float("inf"):
            raise ValueError(f"lr ({self.lr}) must be > 0")
        if not 0 <= self.weight_decay < float("inf"):
            raise ValueError(f"weight_decay ({self.weight_decay}) must be >= 0")
        if not 0 <= self.dropout < 1:
            raise ValueError(f"dropout ({self.dropout}) must be in [0, 1)")
        if not self.eval_splits or len(set(self.eval_splits)) < len(self.eval_splits):
            raise ValueError(f"eval_splits ({list(self.eval_splits)}) must name one or more splits, each once")


@dataclass(frozen=True)
class Inputs:
    """What the heads see, of N clips with T seconds, for A arms and S seeds.

    `features` float32 [R, N, T, D + E]: D visual ones at each resolution, then E of the audio; `audio_mask` float32
    [A, E] says which audio columns an arm may see, the others are zero to it; `plan` int64 [A, S, N, T] indexes the
    first axis of `features`; `targets` int64 [N, T] are class indices below `classes`.
    """

    features: Tensor
    audio_mask: Tensor
    plan: Tensor
    targets: Tensor
    classes: int

    def to(self, device: torch.device) -> Inputs:
        features, mask = self.features.to(device), self.audio_mask.to(device)
        return Inputs(features, mask, self.plan.to(device), self.targets.to(device), self.classes)


def train_and_predict(inputs: Inputs, train: np.ndarray, evaluate: np.ndarray, p: P0Params, device: str) -> tuple:
    """Train on the clips at positions `train`, answer for those at `evaluate`.

    Returns int64 [A, S, len(evaluate), T] twice: the best class, and the best with background left out.
    """
    place = torch_device(device)
    inputs = inputs.to(place)
    heads = _fit(inputs, torch.from_numpy(train).to(place), p, place)
    heads.eval()
    answers = []
    with torch.inference_mode():
        for clips in torch.from_numpy(evaluate).to(place).split(p.batch_size):
            logits = heads(_batch(inputs, clips.expand(p.seeds, -1)))
            foreground = logits[..., BACKGROUND + 1 :].argmax(-1) + BACKGROUND + 1
            answers.append(torch.stack([logits.argmax(-1), foreground]))
    shape = (2, *inputs.plan.shape[:2], len(evaluate), inputs.plan.shape[-1])
    answer, foreground = torch.cat(answers, dim=2).reshape(shape).cpu().numpy()
    return answer, foreground


def _fit(inputs: Inputs, train: Tensor, p: P0Params, device: torch.device | str) -> StackedHeads:
    arms = len(inputs.plan)
    columns = inputs.features.shape[-1]
    heads = StackedHeads(
        list(range(p.seeds)) * arms,
        columns,
        p.hidden,
        inputs.classes,
        head=p.head,
        kernel=p.kernel,
        dropout=p.dropout,
        fan_in=columns - inputs.audio_mask.shape[-1],  # most arms see no audio
    ).to(device)
    torch.manual_seed(0)  # dropout
    optimizer = torch.optim.AdamW(heads.parameters(), lr=p.lr, weight_decay=p.weight_decay, fused=True)
    for clips in progress(list(_order(train, p)), "p0"):
        x = _batch(inputs, clips)
        target = inputs.targets[clips].expand(arms, -1, -1, -1)
        total = functional.cross_entropy(heads(x).flatten(0, 2), target.flatten(), reduction="sum")
        optimizer.zero_grad()
        (total / target[0, 0].numel()).backward()  # the sum over models of each one's mean
        optimizer.step()
    return heads


def _order(train: Tensor, p: P0Params) -> Iterator[Tensor]:
    """Clip positions [S, B] of each step: every seed shuffles by itself, all its arms alike."""
    generators = [torch.Generator().manual_seed(seed) for seed in range(p.seeds)]
    for _ in range(p.epochs):
        orders = torch.stack([torch.randperm(len(train), generator=g) for g in generators])
        yield from train[orders.to(train.device)].split(p.batch_size, dim=1)


def _batch(inputs: Inputs, clips: Tensor) -> Tensor:
    """What each arm and seed sees of the clips [S, B]: visual features, then audio, [A * S, B, T, D + E]."""
    seeds = inputs.plan.shape[1]
    _, total, seconds, columns = inputs.features.shape
    plan = inputs.plan[:, torch.arange(seeds, device=clips.device)[:, None], clips]
    rows = (plan * total + clips[..., None]) * seconds + torch.arange(seconds, device=clips.device)
    seen = inputs.features.view(-1, columns).index_select(0, rows.flatten()).view(*rows.shape, columns)
    seen[..., -inputs.audio_mask.shape[-1] :] *= inputs.audio_mask[:, None, None, None]
    return seen.flatten(0, 1)
