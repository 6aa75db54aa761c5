"""Training by batches of clips, in one process or several: the same weights at the end, however often it was killed."""

from __future__ import annotations

import hashlib
import math
import resource
import sys
import time
from collections.abc import Callable, Iterable, Iterator, Sequence
from dataclasses import asdict, dataclass, field
from pathlib import Path
from statistics import fmean
from typing import Any, Literal, NamedTuple, Protocol

import torch
from accelerate import Accelerator
from accelerate.utils import broadcast, broadcast_object_list, gather_object
from torch import Tensor, nn
from tqdm import tqdm

from avs.avsr import launch
from avs.avsr.batch import Batch
from avs.avsr.curves import Curves
from avs.avsr.recognizers import Loss
from avs.avsr.runs import STATE, WEIGHTS, held, load, write
from avs.avsr.schedules import Schedule, scheduler
from avs.avsr.sharing import Norms, Shares, add_gradients, shares
from avs.core.errors import InputError
from avs.core.execute import ahead
from avs.core.params import params


@params
class FitParams:
    """How a model is trained, by AdamW. Published for MCoRec: lr 1e-4, up in 4000 steps, down on a line to 0 in 400000,
    weight decay .005, gradients' norm at most 1, batches of 24 clips in 2 parts, a look at the model after 2000 steps.

    max_steps: ends before the last epoch where it is reached; warmup: share of all steps; clip: of the gradients' norm,
    0 for none; accumulate: parts in which a batch goes through the model; precision: of products, weights stay in
    float32; score_every: epochs; checkpoint_every, log_every: steps.
    """

    epochs: int = 10
    max_steps: int | None = None
    lr: float = 1e-4
    weight_decay: float = 0.005
    schedule: Schedule = "linear"
    warmup: float = 0.01
    clip: float = 1.0
    accumulate: int = 1
    precision: Literal["float32", "bfloat16"] = "float32"
    seed: int = 0
    score_every: int = 1
    checkpoint_every: int = 500
    log_every: int = 50

    def __post_init__(self) -> None:
        for name in ("epochs", "accumulate", "score_every", "checkpoint_every", "log_every"):
            if getattr(self, name) < 1:
                raise ValueError(f"{name} ({getattr(self, name)}) must be >= 1")
        if self.max_steps is not None and self.max_steps < 1:
            raise ValueError(f"max_steps ({self.max_steps}) must be >= 1, or null for none")
        if not 0 < self.lr < math.inf:
            raise ValueError(f"lr ({self.lr}) must be > 0")
        for name in ("weight_decay", "clip"):
            if not 0 <= getattr(self, name) < math.inf:
                raise ValueError(f"{name} ({getattr(self, name)}) must be >= 0")
        if not 0 <= self.warmup < 1:
            raise ValueError(f"warmup ({self.warmup}) must be in [0, 1)")


class Data(Protocol):
    """Batches to train on. They depend on what is asked for and nothing else: not on PyTorch's generator either."""

    def epoch(self, number: int) -> Sequence[Any]:
        """An order for each batch of an epoch."""

    def batch(self, order: Any, epoch: int) -> Batch:
        """The whole batch, on the CPU; called in a thread, up to two batches ahead."""


@dataclass(frozen=True)
class Fitted:
    """What a training was: its steps, the one whose weights were chosen and their score, and rows of curves.

    seconds, peak_mb: a step, and memory at most, of this process; None where nothing had to be trained. They differ
    from run to run: no outputs of a stage.
    """

    steps: int
    step: int
    score: float | None
    history: list[dict[str, float]]
    seconds: float | None = None
    peak_mb: int | None = None


class _Best(NamedTuple):
    score: float
    step: int
    weights: dict[str, Tensor]


@dataclass
class _State:
    """What changes from step to step, beside weights and the optimizer."""

    step: int = 0
    history: list[dict[str, float]] = field(default_factory=list)
    recent: list[dict[str, float]] = field(default_factory=list)
    best: _Best | None = None


def fit(
    model: nn.Module,
    loss: Callable[[Batch], Loss],
    data: Data,
    p: FitParams,
    folder: Path,
    *,
    name: str = "fit",
    score: Callable[[], float] | None = None,
    curves: Path | None = None,
    accelerator: Accelerator | None = None,
) -> Fitted:
    """Train what of the model has gradients, in place; at the end it has the weights of the lowest score, or the last.

    loss: of a batch by this model, a mean over its clips; if it asks SEANet outside of an AvsrModel, for all rows at
    once. score: of the model in eval mode, asked in every process; that of the first counts.
    folder: its own (`avs.avsr.runs.run_folder`), where a killed training goes on, and a finished one has its weights.
    curves: a folder for DVCLive. Raises InputError where there is nothing to train, or numbers stop being finite.
    """
    accelerator = accelerator or launch.accelerator()
    with held(folder, accelerator):
        model.to(accelerator.device)
        if (folder / WEIGHTS).exists():
            return _finished(model, folder, curves if accelerator.is_main_process else None)
        return _Fit(model, loss, data, p, folder, name, score, accelerator).run(curves)


def _finished(model: nn.Module, folder: Path, curves: Path | None) -> Fitted:
    kept = load(folder / WEIGHTS)
    (folder / STATE).unlink(missing_ok=True)  # where it was killed between the two
    model.load_state_dict(kept["weights"])
    fitted = Fitted(**kept["fitted"])
    with Curves(curves, fitted.history):
        return fitted


class _Fit:
    def __init__(
        self,
        model: nn.Module,
        loss: Callable[[Batch], Loss],
        data: Data,
        p: FitParams,
        folder: Path,
        name: str,
        score: Callable[[], float] | None,
        accelerator: Accelerator,
    ) -> None:
        self.model, self.loss, self.data, self.p = model.train(), loss, data, p
        self.folder, self.name, self.score, self.accelerator = folder, name, score, accelerator
        self.parameters = [value for value in model.parameters() if value.requires_grad]
        if not self.parameters:
            raise InputError(f"{name}: all of the model is frozen: there is nothing to train")
        self.epochs = _epoch_steps(data, p)
        self.steps = sum(self.epochs)
        if not self.steps:
            raise InputError(f"{name}: there are no batches to train on")
        self.optimizer = torch.optim.AdamW(_groups(self.parameters, p.weight_decay), lr=p.lr, fused=True)
        self.scheduler = scheduler(p.schedule, self.optimizer, self.steps, p.warmup)
        self.norms = Norms(model, shared=accelerator.num_processes > 1)
        self.state = _State()
        self._resume()
        model.zero_grad()

    def run(self, curves: Path | None) -> Fitted:
        main, first = self.accelerator.is_main_process, self.state.step
        quiet = not (main and sys.stderr.isatty())
        spent = 0.0
        with (
            self.norms.shared(),
            Curves(curves if main else None, self.state.history) as live,
            tqdm(total=self.steps, initial=first, desc=self.name, disable=quiet, smoothing=0.05) as bar,
        ):
            for epoch, last, batch in _ahead(self.data, self.epochs, first):
                started = time.perf_counter()
                self._step(batch)
                spent += time.perf_counter() - started
                bar.update()
                bar.set_postfix(loss=f"{self.state.recent[-1]['loss']:.3g}", mb=_peak_mb(self.accelerator.device))
                self._look(epoch, last, live)
        return self._finish(spent / max(1, self.state.step - first))

    def _step(self, batch: Batch) -> None:
        """One step of the optimizer on a global batch."""
        found: dict[str, float] = {}
        for part in range(min(self.p.accumulate, len(batch))):
            rows = range(part, len(batch), self.p.accumulate)
            for key, value in self._part(batch, part, rows).items():
                found[key] = found.get(key, 0.0) + value
        if self.accelerator.num_processes > 1:
            add_gradients(self.parameters)
            everyone = gather_object([found])
            found = {key: math.fsum(own.get(key, 0.0) for own in everyone) for own in everyone for key in own}
        norm = float(nn.utils.clip_grad_norm_(self.parameters, self.p.clip or math.inf))
        if not math.isfinite(found["loss"] + norm):
            at = f"at step {self.state.step} loss {found['loss']:g}, gradients' norm {norm:g}"
            raise InputError(f"{self.name}: {at}: a lower lr than {self.p.lr:g} may keep them finite")
        rate = self.optimizer.param_groups[0]["lr"]
        self.optimizer.step()
        self.scheduler.step()
        self.optimizer.zero_grad()
        self.norms.settle()
        self.state.step += 1
        self.state.recent.append(found | {"gradient_norm": norm, "lr": rate})

    def _part(self, batch: Batch, part: int, rows: range) -> dict[str, float]:
        """Gradients of this process's share of some rows; returned is what they add to the batch's mean losses."""
        index, processes = self.accelerator.process_index, self.accelerator.num_processes
        share = shares(batch, rows, processes, self.norms) if processes > 1 else Shares((tuple(rows),))
        mine = share.rows[index]
        self.norms.begin(part, share)
        if not mine:
            return {}
        _seed(index, self.p.seed, self.name, self.state.step, part)
        own = (batch if len(mine) == len(batch) else batch.rows(mine)).to(self.accelerator.device)
        reduced = self.p.precision == "bfloat16"
        with torch.autocast(self.accelerator.device.type, dtype=torch.bfloat16, enabled=reduced):
            loss = self.loss(own)
        weight = len(mine) / len(batch)
        if loss.total.requires_grad:  # else this share has nothing to do with what is trained
            (loss.total * weight).backward()
        return {key: float(value.detach()) * weight for key, value in {"loss": loss.total, **loss.parts}.items()}

    def _look(self, epoch: int, last: bool, live: Curves) -> None:
        """What is due after a step: a score, a row for the curves, a checkpoint."""
        state, p = self.state, self.p
        scored = last and ((epoch + 1) % p.score_every == 0 or state.step == self.steps)
        score = self._score() if scored and self.score else None
        if score is not None and (state.best is None or score < state.best.score):
            state.best = _Best(score, state.step, _copied(self.model))
        if last or state.step % p.log_every == 0:
            row = {"step": state.step, "epoch": epoch, **_means(state.recent)}
            state.history.append(row if score is None else row | {"score": score})
            state.recent = []
            live.log(state.history[-1])
        if (last or state.step % p.checkpoint_every == 0) and state.step < self.steps:
            self._save()

    def _score(self) -> float:
        assert self.score is not None
        self.model.eval()
        with torch.no_grad():
            found = [float(self.score())]
        broadcast_object_list(found)
        self.model.train()
        if math.isnan(found[0]):
            raise InputError(f"{self.name}: the score after step {self.state.step} is no number")
        return found[0]

    def _save(self) -> None:
        if self.accelerator.is_main_process:
            parts = {"optimizer": self.optimizer.state_dict(), "scheduler": self.scheduler.state_dict()}
            state = vars(self.state) | {"best": self.state.best and self.state.best._asdict()}
            write(self.folder / STATE, {"steps": self.steps, "weights": self.model.state_dict(), **parts, **state})

    def _resume(self) -> None:
        """Weights of the first process, or those of a checkpoint."""
        if not (self.folder / STATE).exists():
            if self.accelerator.num_processes > 1:
                for value in self.model.state_dict().values():
                    value.copy_(broadcast(value))
            return
        kept = load(self.folder / STATE)
        if kept["steps"] != self.steps:
            raise InputError(f"{self.folder / STATE} is of a training of {kept['steps']} steps, not of {self.steps}")
        self.model.load_state_dict(kept["weights"])
        self.optimizer.load_state_dict(kept["optimizer"])
        self.scheduler.load_state_dict(kept["scheduler"])
        best = kept["best"] and _Best(**kept["best"])
        self.state = _State(kept["step"], kept["history"], kept["recent"], best)

    def _finish(self, seconds: float) -> Fitted:
        state = self.state
        if state.best:
            self.model.load_state_dict(state.best.weights)
        step, score = (state.best.step, state.best.score) if state.best else (state.step, None)
        fitted = Fitted(state.step, step, score, state.history)
        if self.accelerator.is_main_process:
            write(self.folder / WEIGHTS, {"weights": self.model.state_dict(), "fitted": asdict(fitted)})
            (self.folder / STATE).unlink(missing_ok=True)
        return Fitted(state.step, step, score, state.history, seconds, _peak_mb(self.accelerator.device))


def _epoch_steps(data: Data, p: FitParams) -> list[int]:
    """Steps in each epoch."""
    steps: list[int] = []
    for number in range(p.epochs):
        count = len(data.epoch(number))
        steps.append(count if p.max_steps is None else min(count, p.max_steps - sum(steps)))
        if sum(steps) == p.max_steps:
            break
    return steps


def _ahead(data: Data, epochs: Sequence[int], done: int) -> Iterator[tuple[int, bool, Batch]]:
    """Epoch, whether it is its last step, and the batch, of the steps that are not done."""

    def read(step: tuple[int, bool, Any]) -> tuple[int, bool, Batch]:
        epoch, last, order = step
        return epoch, last, data.batch(order, epoch)

    return ahead(read, _orders(data, epochs, done))


def _orders(data: Data, epochs: Sequence[int], done: int) -> Iterable[tuple[int, bool, Any]]:
    for number, count in enumerate(epochs):
        if done < count:
            orders = data.epoch(number)
            yield from ((number, place == count - 1, orders[place]) for place in range(done, count))
        done = max(0, done - count)


def _groups(parameters: Sequence[nn.Parameter], decay: float) -> list[dict[str, Any]]:
    """Weights decay; biases, and factors of norms, do not."""
    kinds = [[value for value in parameters if (value.ndim > 1) == decays] for decays in (True, False)]
    return [{"params": own, "weight_decay": by} for own, by in zip(kinds, (decay, 0.0), strict=True) if own]


def _seed(index: int, *parts: Any) -> None:
    """Of all that is drawn in a part of a step, so that what was drawn before makes no difference.

    What the CPU's generator decides first, as which input a batch loses, is alike in all processes; GPUs draw their
    own dropout.
    """
    number = int.from_bytes(hashlib.sha256(repr(parts).encode()).digest()[:7])
    torch.manual_seed(number)
    if torch.cuda.is_available():
        torch.cuda.manual_seed(number + index)


def _means(rows: Sequence[dict[str, float]]) -> dict[str, float]:
    names = sorted({name for row in rows for name in row})
    return {name: fmean(row[name] for row in rows if name in row) for name in names}


def _copied(model: nn.Module) -> dict[str, Tensor]:
    return {name: value.detach().cpu().clone() for name, value in model.state_dict().items()}


def _peak_mb(device: torch.device) -> int:
    if device.type == "cuda":
        return torch.cuda.max_memory_allocated(device) >> 20
    return resource.getrusage(resource.RUSAGE_SELF).ru_maxrss >> 10
