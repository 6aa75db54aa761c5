"""Train the heads of all arms and all seeds on cached features, those of alike arms once."""

from __future__ import annotations

from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass, replace
from functools import partial
from typing import Literal

import numpy as np
import torch
from torch import Tensor
from torch.nn import functional

from avs.core.clips import BACKGROUND
from avs.core.execute import one_thread, progress, running, torch_device
from avs.core.params import params
from avs.localization.heads import HeadName, StackedHeads

SplitName = Literal["val", "test"]
_CACHED = 16 << 20  # bytes of weights that are trained together on a core


@params
class P0Params:
    """Head, optimiser (AdamW) and evaluation of the study.

    `standardize`: features less their mean, over their deviation, both of the training clips at all resolutions
    together; false keeps the original's raw features. `curve`: more budgets at which arms are judged, each a share of
    the way from all seconds at low resolution (0) to all at high (1).
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

    `features` float32 [R, N, T, D + E]: D visual ones at each resolution, then E beside them; `mask` float32 [A, E]
    says which of those an arm may see, the others are zero to it; `plan` int64 [A, S, N, T] indexes the first axis of
    `features`, and so does `eval_plan`, which is what is seen in evaluation (by default the same); `targets` int64
    [N, T] are class indices below `classes`.
    """

    features: Tensor
    mask: Tensor
    plan: Tensor
    targets: Tensor
    classes: int
    eval_plan: Tensor | None = None

    def of(self, arms: list[int], *, evaluation: bool = False) -> Inputs:
        """The inputs of some arms, as in training or as in evaluation."""
        plan = self.plan if self.eval_plan is None or not evaluation else self.eval_plan
        return replace(self, mask=self.mask[arms], plan=plan[arms], eval_plan=None)

    def to(self, device: torch.device) -> Inputs:
        tensors = (self.features, self.mask, self.plan, self.targets)
        features, mask, plan, targets = (tensor.to(device) for tensor in tensors)
        eval_plan = None if self.eval_plan is None else self.eval_plan.to(device)
        return Inputs(features, mask, plan, targets, self.classes, eval_plan)


def train_and_predict(inputs: Inputs, train: np.ndarray, evaluate: np.ndarray, p: P0Params, device: str) -> tuple:
    """Train on the clips at positions `train`, answer for those at `evaluate`.

    Returns int64 [A, S, len(evaluate), T] twice: the best class, and the best with background left out.
    Arms that see the same in training are one model, those that see the same in evaluation too have one answer.
    A GPU trains all models at once. Each core of a CPU trains a few by itself, so few that their weights stay in its
    cache: no core waits for another, and the bits do not depend on how many there are.
    """
    place = torch_device(device)
    models = [list(model.values()) for model in _alike(inputs, train, evaluate).values()]
    inputs = inputs.to(place)
    together = len(models) if place.type == "cuda" else max(1, _CACHED // _weight_bytes(inputs, p))
    jobs = [models[first : first + together] for first in range(0, len(models), together)]
    solve = partial(_solve, inputs, torch.from_numpy(train).to(place), torch.from_numpy(evaluate).to(place), p)
    answers: dict[int, np.ndarray] = {}
    with running(_pool(torch.get_num_threads())) as pool, one_thread():
        for found in progress(pool.map(solve, jobs), "p0", len(jobs)):
            answers |= found
    best, foreground = np.stack([answers[arm] for arm in range(len(inputs.plan))], axis=1)
    return best, foreground


def _pool(workers: int) -> ThreadPoolExecutor:
    return ThreadPoolExecutor(workers, initializer=torch.set_num_threads, initargs=(1,))


def _weight_bytes(inputs: Inputs, p: P0Params) -> int:
    """Of an arm's heads, as far as they matter: the first layer's."""
    taps = p.kernel if p.head == "temporal_conv" else 1
    return 4 * p.seeds * inputs.features.shape[-1] * taps * p.hidden


def _alike(inputs: Inputs, train: np.ndarray, evaluate: np.ndarray) -> dict[bytes, dict[bytes, list[int]]]:
    """The arms by what they see in training, and those by what they see in evaluation."""
    models: dict[bytes, dict[bytes, list[int]]] = {}
    for arm in range(len(inputs.plan)):
        seen = inputs.of([arm]), inputs.of([arm], evaluation=True)
        trained, judged = (x.plan[:, :, c].numpy().tobytes() for x, c in zip(seen, (train, evaluate), strict=True))
        models.setdefault(seen[0].mask.numpy().tobytes() + trained, {}).setdefault(judged, []).append(arm)
    return models


def _solve(
    inputs: Inputs, train: Tensor, evaluate: Tensor, p: P0Params, models: list[list[list[int]]]
) -> dict[int, np.ndarray]:
    """Train some models together; the answers [2, S, len(evaluate), T] of each of their arms."""
    heads = _fit(inputs.of([model[0][0] for model in models]), train, p).eval()
    answers: dict[int, np.ndarray] = {}
    for turn in range(max(map(len, models))):
        groups = [model[min(turn, len(model) - 1)] for model in models]
        found = _predict(heads, inputs.of([arms[0] for arms in groups], evaluation=True), evaluate, p)
        answers |= {arm: found[:, place] for place, arms in enumerate(groups) for arm in arms}
    return answers


def _predict(heads: StackedHeads, inputs: Inputs, evaluate: Tensor, p: P0Params) -> np.ndarray:
    """[2, A, S, len(evaluate), T]: the best class, and the best with background left out."""
    answers = []
    with torch.inference_mode():
        for clips in evaluate.split(p.batch_size):
            logits = heads(_batch(inputs, clips.expand(p.seeds, -1)))
            foreground = logits[..., BACKGROUND + 1 :].argmax(-1) + BACKGROUND + 1
            answers.append(torch.stack([logits.argmax(-1), foreground]))
    shape = (2, *inputs.plan.shape[:2], len(evaluate), inputs.plan.shape[-1])
    return torch.cat(answers, dim=2).reshape(shape).cpu().numpy()


def _fit(inputs: Inputs, train: Tensor, p: P0Params) -> StackedHeads:
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
        fan_in=columns - inputs.mask.shape[-1],  # most arms see nothing else
    ).to(train.device)
    optimizer = torch.optim.AdamW(heads.parameters(), lr=p.lr, weight_decay=p.weight_decay, fused=True)
    for clips in _order(train, p):
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
    """What each arm and seed sees of the clips [S, B]: visual features, then those beside, [A * S, B, T, D + E]."""
    seeds = inputs.plan.shape[1]
    _, total, seconds, columns = inputs.features.shape
    plan = inputs.plan[:, torch.arange(seeds, device=clips.device)[:, None], clips]
    rows = (plan * total + clips[..., None]) * seconds + torch.arange(seconds, device=clips.device)
    seen = inputs.features.view(-1, columns).index_select(0, rows.flatten()).view(*rows.shape, columns)
    seen[..., -inputs.mask.shape[-1] :] *= inputs.mask[:, None, None, None]
    return seen.flatten(0, 1)
