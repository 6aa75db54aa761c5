"""Train the heads of all arms and all seeds on cached features, those of alike arms once."""

from __future__ import annotations

from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager
from dataclasses import dataclass, replace
from functools import partial
from typing import Any, Literal

import numpy as np
import torch
from torch import Tensor

from avs.core.clips import BACKGROUND
from avs.core.execute import one_thread, progress, running, torch_device
from avs.core.params import params
from avs.localization.heads import HeadName, StackedHeads

SplitName = Literal["val", "test"]
Precision = Literal["float32", "bfloat16"]
_CACHED = 6 << 20  # bytes of weights that are trained together on a core


@params
class P0Params:
    """Head, optimiser (AdamW) and evaluation of the study.

    `standardize`: features less their mean, over their deviation, both of the training clips at all resolutions
    together; false keeps the original's raw features. `curve`: more budgets at which arms are judged, each a share of
    the way from all seconds at low resolution (0) to all at high (1). `precision` is that of the factors of
    matrix products, where the processor has such (TF32 on a GPU): sums, weights and all else are float32.
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
    precision: Precision = "float32"
    eval_splits: tuple[SplitName, ...] = ("test",)
    resamples: int = 10000
    curve: tuple[float, ...] = (0.125, 0.625)

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
        if not all(0 < share < 1 for share in self.curve):
            raise ValueError(f"curve ({list(self.curve)}) must be shares between 0 and 1")


@dataclass(frozen=True)
class Inputs:
    """What the heads see, of N clips with T seconds, for A arms and S seeds.

    `features` float32 [R, N, T, D] are visual, at each resolution; `beside` float32 [N, T, E] is what an arm may see
    beside them where `mask` [A, E] is 1, else it is zero to it; `plan` integer [A, S, N, T] indexes the first axis of
    `features`, and so does `eval_plan`, which is what is seen in evaluation (by default the same); `targets` int64
    [N, T] are class indices below `classes`.
    """

    features: Tensor
    beside: Tensor
    mask: Tensor
    plan: Tensor
    targets: Tensor
    classes: int
    eval_plan: Tensor | None = None

    def of(self, arms: list[int], seeds: list[int], *, evaluation: bool = False) -> View:
        """What some arms see, each with one seed, in training or in evaluation."""
        plan = self.plan if self.eval_plan is None or not evaluation else self.eval_plan
        mask = self.mask[arms]
        return View(self.features, self.beside if mask.any() else None, mask[:, None, None], plan[arms, seeds])

    def to(self, device: torch.device) -> Inputs:
        moved: dict[str, Any] = {name: x.to(device) for name, x in vars(self).items() if isinstance(x, Tensor)}
        return replace(self, **moved)


@dataclass(frozen=True)
class View:
    """What M heads see: their `plan` [M, N, T] of the features, and `mask` [M, 1, 1, E] of what is beside, if any."""

    features: Tensor
    beside: Tensor | None
    mask: Tensor
    plan: Tensor

    def batch(self, clips: Tensor) -> tuple[Tensor, Tensor | None]:
        """Of the clips [M, B]: visual features [M, B, T, D], and what stands beside them [M, B, T, E]."""
        _, total, seconds, columns = self.features.shape
        plan = self.plan[torch.arange(len(clips), device=clips.device)[:, None], clips].long()
        rows = (plan * total + clips[..., None]) * seconds + torch.arange(seconds, device=clips.device)
        visual = self.features.view(-1, columns).index_select(0, rows.flatten()).view(*rows.shape, columns)
        return visual, None if self.beside is None else self.beside[clips] * self.mask


@dataclass(frozen=True)
class Model:
    """A head to train: its seed, and the arms that it answers for, in groups that see the same in evaluation too."""

    seed: int
    groups: list[list[int]]

    def group(self, turn: int) -> list[int]:
        return self.groups[min(turn, len(self.groups) - 1)]


def train_and_predict(inputs: Inputs, train: np.ndarray, evaluate: np.ndarray, p: P0Params, device: str) -> tuple:
    """Train on the clips at positions `train`, answer for those at `evaluate`.

    Returns int64 [A, S, len(evaluate), T] twice: the best class, and the best with background left out.
    Arms that see the same in training are one model, those that see the same in evaluation too have one answer.
    A GPU trains all models at once. Each core of a CPU trains a few by itself, so few that their weights stay in its
    cache: no core waits for another, and the bits do not depend on how many there are.
    """
    place = torch_device(device)
    models = _alike(inputs, train, evaluate)
    inputs = inputs.to(place)
    together = len(models) if place.type == "cuda" else max(1, _CACHED // _weight_bytes(inputs, p))
    jobs = [models[first : first + together] for first in range(0, len(models), together)]
    solve = partial(_solve, inputs, torch.from_numpy(train).to(place), torch.from_numpy(evaluate).to(place), p)
    answers = np.empty((2, *inputs.plan.shape[:2], len(evaluate), inputs.plan.shape[-1]), np.int64)
    with running(_pool(torch.get_num_threads())) as pool, one_thread(), _products(p.precision):
        for found in progress(pool.map(solve, jobs), "p0", len(jobs)):
            for (arm, seed), best in found.items():
                answers[:, arm, seed] = best
    best, foreground = answers
    return best, foreground


@contextmanager
def _products(precision: Precision) -> Iterator[None]:
    """Matrix products of float32 by factors of that precision, added up in float32."""
    before = torch.get_float32_matmul_precision()
    torch.set_float32_matmul_precision("medium" if precision == "bfloat16" else "highest")
    try:
        yield
    finally:
        torch.set_float32_matmul_precision(before)


def _pool(workers: int) -> ThreadPoolExecutor:
    return ThreadPoolExecutor(workers, initializer=torch.set_num_threads, initargs=(1,))


def _weight_bytes(inputs: Inputs, p: P0Params) -> int:
    """Of a head, as far as they matter: the first layer's."""
    taps = p.kernel if p.head == "temporal_conv" else 1
    return 4 * inputs.features.shape[-1] * taps * p.hidden


def _alike(inputs: Inputs, train: np.ndarray, evaluate: np.ndarray) -> list[Model]:
    """A model for what each seed sees in training, with the arms that see it by what they see in evaluation.

    Neighbours see as little beside as each other, and the same clips by turns.
    """
    models: dict[tuple[bytes, int, bytes], dict[bytes, list[int]]] = {}
    for arm, seed in np.ndindex(*inputs.plan.shape[:2]):
        seen = (inputs.of([arm], [seed], evaluation=judging) for judging in (False, True))
        trained, judged = (view.plan[0, clips].numpy() for view, clips in zip(seen, (train, evaluate), strict=True))
        key = inputs.mask[arm].numpy().tobytes(), seed, trained.tobytes()
        models.setdefault(key, {}).setdefault(judged.tobytes(), []).append(arm)
    return [Model(seed, list(groups.values())) for (_, seed, _), groups in sorted(models.items())]


def _solve(
    inputs: Inputs, train: Tensor, evaluate: Tensor, p: P0Params, models: list[Model]
) -> dict[tuple[int, int], np.ndarray]:
    """Train some models together; the answers [2, len(evaluate), T] of each of their arms and seeds."""
    seeds = [model.seed for model in models]
    heads = _fit(inputs, train, p, [model.groups[0][0] for model in models], seeds).eval()
    answers: dict[tuple[int, int], np.ndarray] = {}
    for turn in range(max(len(model.groups) for model in models)):
        groups = [model.group(turn) for model in models]
        found = _predict(heads, inputs.of([arms[0] for arms in groups], seeds, evaluation=True), evaluate, p)
        answers |= {(arm, seeds[m]): found[:, m] for m, arms in enumerate(groups) for arm in arms}
    return answers


def _predict(heads: StackedHeads, view: View, evaluate: Tensor, p: P0Params) -> np.ndarray:
    """[2, M, len(evaluate), T]: the best class, and the best with background left out."""
    answers = []
    with torch.inference_mode():
        for clips in evaluate.split(p.batch_size):
            logits = heads(*view.batch(clips.expand(len(view.plan), -1)))
            foreground = logits[..., BACKGROUND + 1 :].argmax(-1) + BACKGROUND + 1
            answers.append(torch.stack([logits.argmax(-1), foreground]))
    return torch.cat(answers, dim=2).cpu().numpy()


def _fit(inputs: Inputs, train: Tensor, p: P0Params, arms: list[int], seeds: list[int]) -> StackedHeads:
    """A head for each of the pairs of arm and seed, trained."""
    view = inputs.of(arms, seeds)
    heads = StackedHeads(
        seeds,
        inputs.features.shape[-1],
        p.hidden,
        inputs.classes,
        head=p.head,
        kernel=p.kernel,
        dropout=p.dropout,
        beside=inputs.beside.shape[-1],
    ).to(train.device)
    optimizer = torch.optim.AdamW(heads.parameters(), lr=p.lr, weight_decay=p.weight_decay, fused=True)
    for clips in _order(train, p, seeds):
        heads.learn(*view.batch(clips), inputs.targets[clips])
        optimizer.step()
    return heads


def _order(train: Tensor, p: P0Params, seeds: list[int]) -> Iterator[Tensor]:
    """Clip positions [M, B] of each step: every seed shuffles by itself, all its heads alike."""
    generators = {seed: torch.Generator().manual_seed(seed) for seed in seeds}
    for _ in range(p.epochs):
        drawn = {seed: torch.randperm(len(train), generator=g) for seed, g in generators.items()}
        orders = torch.stack([drawn[seed] for seed in seeds])
        yield from train[orders.to(train.device)].split(p.batch_size, dim=1)
