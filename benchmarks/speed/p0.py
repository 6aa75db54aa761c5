"""p0's training at AVE's size: heads in jobs of five with products in bfloat16, beside one model at a time.

`python -m benchmarks.speed.p0 [DEVICE]` times what the step leaves out: the whole stage, of all 19 arms and the budget
curve, in either precision, on a CPU or a GPU.
"""

from __future__ import annotations

import sys
import tempfile
import time
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import torch
from torch import nn
from torch.utils.data import DataLoader, TensorDataset

from avs.core.clips import targets
from avs.core.execute import one_thread
from avs.localization.arms import ARMS, PRIMARY
from avs.localization.p0 import run_study
from avs.localization.study import Study, _inputs, load_study
from avs.localization.train import P0Params, train_and_predict
from avs.sampling.anchors import AnchorParams
from avs.sampling.tokens import BudgetParams
from benchmarks.speed.ave_size import write_features
from benchmarks.speed.limits import best, gemm_gflops
from benchmarks.speed.step import Clock, Found, Limit, Step, peak_mib

TRAINING = P0Params(seeds=10, epochs=5, batch_size=16, precision="bfloat16")
ALONE = 2  # seeds that the alternative trains; its time is scaled to all
ARM_NAMES = tuple(PRIMARY)


def prepare(folder: Path, clips: int = 4143) -> None:
    write_features(folder / "cache", folder / "eventness", clips)


def _study(folder: Path, p: P0Params) -> tuple[Study, np.ndarray, np.ndarray]:
    """The study, and the positions of its clips in training and in evaluation."""
    given: dict[str, Any] = {"k": 2, "anchors": AnchorParams(), "budget": BudgetParams()}
    study = load_study(folder / "cache", folder / "eventness", p=p, **given)
    splits = np.array([clip.split for clip in study.clips])
    return study, np.flatnonzero(splits == "train"), np.flatnonzero(splits == "test")


def _right(study: Study, evaluate: np.ndarray) -> np.ndarray:
    return targets([study.clips[place] for place in evaluate], study.classes)


def ours(folder: Path, clock: Clock, p: P0Params = TRAINING) -> Found:
    """All seeds of the nine arms by the clock; beside it, `ALONE` seeds in float32."""
    study, train, evaluate = _study(folder, p)
    whole = _inputs(study, train, p)
    assert whole.eval_plan is not None
    arms = [list(ARMS).index(name) for name in ARM_NAMES]
    nine = replace(whole, mask=whole.mask[arms], plan=whole.plan[arms], eval_plan=whole.eval_plan[arms])
    with clock:
        found, _ = train_and_predict(nine, train, evaluate, p, "cpu")
    few = replace(p, seeds=min(ALONE, p.seeds), precision="float32")
    one = replace(nine, plan=nine.plan[:, : few.seeds], eval_plan=nine.eval_plan[:, : few.seeds])
    started = time.perf_counter()
    exact, _ = train_and_predict(one, train, evaluate, few, "cpu")
    spent = time.perf_counter() - started
    right = _right(study, evaluate)
    return {
        "accuracy": (found == right).mean(axis=(2, 3)).tolist(),
        "float32_accuracy": (exact == right).mean(axis=(2, 3)).tolist(),
        "float32_seconds": spent * p.seeds / few.seeds,
        "models": len(arms) * p.seeds,
        "training_rows": len(train) * right.shape[1] * p.epochs,
        "steps": p.epochs * -(-len(train) // p.batch_size),
        "columns": whole.features.shape[-1],
    }


class _Head(nn.Module):
    """The head as anyone would write it: clips [B, T, D] to logits [B, C, T]."""

    def __init__(self, inputs: int, hidden: int, classes: int, kernel: int) -> None:
        super().__init__()
        self.first = nn.Conv1d(inputs, hidden, kernel, padding=kernel // 2)
        self.second = nn.Conv1d(hidden, classes, 1)

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        return self.second(torch.relu(self.first(x.transpose(1, 2))))


def alternative(folder: Path, clock: Clock, p: P0Params = TRAINING) -> Found:
    """One model after the other, each with a DataLoader and AdamW, on all cores; scaled from `ALONE` seeds to all."""
    study, train, evaluate = _study(folder, p)
    visual, beside = _standard(study, train)
    right = torch.from_numpy(targets(study.clips, study.classes))
    seeds = range(min(ALONE, p.seeds))
    found = []
    with clock:
        for name in ARM_NAMES:
            seen = [_seen(study.plans[name][seed], visual, beside.get(ARMS[name].beside)) for seed in seeds]
            models = [_alone(x[train], right[train], seed, p) for seed, x in zip(seeds, seen, strict=True)]
            pairs = zip(models, seen, strict=True)
            found.append([float((_best(m, x[evaluate]) == right[evaluate]).float().mean()) for m, x in pairs])
    clock.seconds *= p.seeds / len(seeds)
    clock.cpu_seconds *= p.seeds / len(seeds)
    return {"accuracy": found, "seeds_timed": len(seeds)}


def _standard(study: Study, train: np.ndarray) -> tuple[dict[int, np.ndarray], dict[str, np.ndarray]]:
    """Features of each resolution, and what may stand beside them, by their mean and deviation in training."""
    rows = np.stack([*study.features.values()])
    rows -= rows[:, train].mean((0, 1, 2))
    rows /= rows[:, train].std((0, 1, 2))
    beside = {"score": study.scores[..., None], "features": study.audio_features}
    scaled = {name: (x - x[train].mean((0, 1))) / x[train].std((0, 1)) for name, x in beside.items()}
    return dict(zip(study.features, rows, strict=True)), scaled


def _seen(plan: np.ndarray, visual: dict[int, np.ndarray], beside: np.ndarray | None) -> torch.Tensor:
    """What an arm sees of each second: the features at its resolution, then those beside."""
    x = np.empty_like(next(iter(visual.values())))
    for resolution, table in visual.items():
        x[plan == resolution] = table[plan == resolution]
    return torch.from_numpy(x if beside is None else np.concatenate([x, beside], axis=-1, dtype=np.float32))


def _alone(seen: torch.Tensor, right: torch.Tensor, seed: int, p: P0Params) -> _Head:
    torch.manual_seed(seed)
    model = _Head(seen.shape[-1], p.hidden, int(right.max()) + 1, p.kernel)
    optimizer = torch.optim.AdamW(model.parameters(), lr=p.lr, weight_decay=p.weight_decay)
    loader = DataLoader(TensorDataset(seen, right), batch_size=p.batch_size, shuffle=True)
    for _ in range(p.epochs):
        for batch, target in loader:
            loss = nn.functional.cross_entropy(model(batch), target)
            optimizer.zero_grad()
            loss.backward()
            optimizer.step()
    return model


def _best(model: _Head, seen: torch.Tensor) -> torch.Tensor:
    with torch.no_grad():
        return model(seen).argmax(1)


def check(ours: Found, alternative: Found) -> Found:
    """Each arm's mean accuracy by both ways: over all arms the same within 3 standard errors of the seeds' spread, no
    arm further than 5; in float32 and bfloat16, the same seeds, within as much."""
    first, second, exact = (np.array(x) for x in (ours["accuracy"], alternative["accuracy"], ours["float32_accuracy"]))
    spread = float(first.std(axis=1, ddof=1).mean())
    error = spread * (1 / first.shape[1] + 1 / second.shape[1]) ** 0.5
    apart = first.mean(1) - second.mean(1)
    rounded = first[:, : exact.shape[1]].mean(1) - exact.mean(1)
    rows = {
        name: {"ours": round(a, 4), "alternative": round(b, 4)}
        for name, a, b in zip(ARM_NAMES, first.mean(1), second.mean(1), strict=True)
    }
    for what, found in (("alternative", apart), ("float32", rounded)):
        if abs(found.mean()) > 3 * error or np.abs(found).max() > 5 * error:
            raise SystemExit(f"accuracy differs from {what}: {found} (standard error {error}): {rows}")
    return {
        "accuracy": rows,
        "seed_sd": round(spread, 4),
        "mean_difference": round(float(apart.mean()), 5),
        "largest_difference": round(float(np.abs(apart).max()), 4),
        "largest_difference_bfloat16_float32": round(float(np.abs(rounded).max()), 4),
        "alternative_seeds_timed": alternative["seeds_timed"],
        "float32_seconds": round(ours["float32_seconds"], 1),
    }


def limit(ours: Found, alternative: Found) -> Limit:
    """The first layer forward and its weights' gradient (inputs need none), and AdamW of its weights, in turn."""
    columns, models = ours["columns"], ours["models"]
    outputs = TRAINING.kernel * TRAINING.hidden
    flops = models * ours["training_rows"] * columns * outputs * 2 * 2
    rates = [gemm_gflops(t, 160, columns, outputs) for t in (torch.bfloat16, torch.float32)]
    half, whole = (flops / rate / 1e9 for rate in rates)
    updates = models * ours["steps"] * columns * outputs
    adam = updates / _adamw_rate(columns, outputs)
    seconds = alternative["seconds"]
    why = (
        f"{flops / 1e12:.1f} TFLOP take {half:.1f} s at {rates[0]:.0f} GFLOP/s in bfloat16, AdamW's "
        f"{updates / 1e9:.0f} billion updates {adam:.1f} s at PyTorch's own rate; in float32 the products alone take "
        f"{whole:.1f} s at {rates[1]:.0f} GFLOP/s, so that its limit is {seconds / (whole + adam):.1f}"
    )
    return Limit(seconds / (half + adam), why)


def _adamw_rate(columns: int, outputs: int, heads: int = 5) -> float:
    """Weights a second that PyTorch's fused AdamW updates: on one core, times the cores."""
    weights = nn.Parameter(torch.randn(heads, columns, outputs))
    weights.grad = torch.randn_like(weights)
    cores = torch.get_num_threads()
    with one_thread():
        return cores * weights.numel() / best(torch.optim.AdamW([weights], fused=True).step)


def main(device: str = "cpu") -> None:
    """The whole stage, all arms and the curve; the first run on a GPU is not timed."""
    with tempfile.TemporaryDirectory() as place:
        folder = Path(place)
        prepare(folder)
        for precision in ("float32", "float32", "bfloat16")[device == "cpu" :]:
            p = replace(TRAINING, precision=precision)
            started = time.perf_counter()
            given: dict[str, Any] = {"k": 2, "anchors": AnchorParams(), "budget": BudgetParams()}
            run_study(folder / "cache", folder / "eventness", p=p, device=device, **given)
            print(f"{device} {precision}: {time.perf_counter() - started:.1f} s, peak {peak_mib()} MiB", flush=True)


STEP = Step(
    what="training of p0 at AVE's size (3339 clips, 402 evaluated; features generated): nine arms, 10 seeds, 5 epochs, "
    "products in bfloat16 (float32_seconds in `check`: float32, the default)",
    alternative_is=f"one model at a time as the reference: Conv1d, DataLoader, AdamW, all cores; {ALONE} of 10 seeds "
    "timed and scaled",
    goal=6.0,
    prepare=prepare,
    ours=ours,
    alternative=alternative,
    check=check,
    limit=limit,
)

if __name__ == "__main__":
    main(*sys.argv[1:])
