"""What tests run in processes of their own: `SCENARIO FOLDER`, and for `killed` the step in which the process dies."""

from __future__ import annotations

import os
import signal
import sys
from pathlib import Path
from typing import Any

import torch
from fit_models import SHARED, Noise, system
from torch import nn
from torch.optim.optimizer import register_optimizer_step_pre_hook

from avs.avsr.batch import Batch
from avs.avsr.recognizers import Loss
from avs.avsr.train import FitParams, Fitted, fit
from avs.core.execute import one_thread

LONG = FitParams(epochs=3, lr=1e-3, warmup=0.2, checkpoint_every=2, log_every=5, seed=3)
SHORT = FitParams(epochs=1, lr=1e-6, warmup=0.0, weight_decay=0.0, log_every=1)
DROPPING = {"dropout": 0.1, "attention_dropout": 0.1, "modality_dropout": 0.5}


def long_run(folder: Path, die_at: int | None = None) -> tuple[nn.Module, Fitted]:
    """Nine steps with dropout of all kinds; the score grows with the way from the first weights."""
    model = system(**DROPPING)
    first = model.recognizer.ctc.weight.detach().clone()
    calls = 0

    def loss(batch: Batch) -> Loss:
        nonlocal calls
        calls += 1
        if calls == die_at:
            os.kill(os.getpid(), signal.SIGKILL)
        return model(batch)

    def score() -> float:
        return float((model.recognizer.ctc.weight - first).norm())

    data = Noise([3, 2], [2, 2], [3, 3])
    return model, fit(model, loss, data, LONG, folder, score=score, curves=folder / "curves")


def shared_run(name: str, folder: Path) -> dict[str, Any]:
    """Gradients of each step, weights and statistics at the end, losses."""
    make, data = SHARED[name]
    model, steps = make(), []
    names = {id(value): name for name, value in model.named_parameters()}

    def keep(optimizer: torch.optim.Optimizer, *_: Any) -> None:
        values = [value for group in optimizer.param_groups for value in group["params"]]
        steps.append({names[id(value)]: value.grad.clone() for value in values if value.grad is not None})

    handle = register_optimizer_step_pre_hook(keep)
    try:
        fitted = fit(model, model, data, SHORT, folder)
    finally:
        handle.remove()
    return {"gradients": steps, "state": dict(model.state_dict()), "loss": [row["loss"] for row in fitted.history]}


def main(scenario: str, folder: Path, *rest: str) -> None:
    with one_thread():
        if scenario == "killed":
            long_run(folder, int(rest[0]))
            return
        for name in SHARED:
            torch.save(shared_run(name, folder / name), folder / f"{name}.{os.environ['RANK']}.pt")


if __name__ == "__main__":
    main(sys.argv[1], Path(sys.argv[2]), *sys.argv[3:])
