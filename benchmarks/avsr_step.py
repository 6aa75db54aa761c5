"""One step of training the whole system in its published sizes: time, memory, and where the memory goes.

AV-HuBERT large, MCoRec's decoder and SEANet, all of it learning, on a batch of noise by the stage's own loop. Weights
are random, since only their sizes count. Each row is of a process of its own, in one thread and CPU seconds: on a
machine that others use, seconds of the clock would tell of them. `python -m benchmarks.avsr_step PRECISION` is one.
"""

from __future__ import annotations

import json
import subprocess
import sys
import tempfile
import time
from itertools import pairwise
from pathlib import Path
from typing import Any, Literal

import torch
from torch.optim.optimizer import register_optimizer_step_post_hook

from avs.avsr.avhubert import SIDE, AVHubertConfig
from avs.avsr.batch import Batch
from avs.avsr.decoders import DecoderConfig
from avs.avsr.model import AvsrModel
from avs.avsr.recognizers import CtcAttention
from avs.avsr.seanet import SAMPLES_PER_FRAME, VISUAL_DIM, SEANet
from avs.avsr.train import FitParams, fit
from avs.core.execute import one_thread, progress
from benchmarks import record

CLIPS, SECONDS, FPS, TOKENS = 2, 3, 25, 12
STEPS = 3  # the first also makes the optimizer's two numbers a weight
PRECISIONS: tuple[Literal["float32", "bfloat16"], ...] = ("float32", "bfloat16")


class Noise:
    """Batches of what has the shapes of speech."""

    def epoch(self, _number: int) -> range:
        return range(STEPS)

    def batch(self, order: int, _epoch: int) -> Batch:
        draw, frames = torch.Generator().manual_seed(order), SECONDS * FPS
        sound = 0.1 * torch.randn(CLIPS, SAMPLES_PER_FRAME * frames, generator=draw)
        return Batch(
            clips=tuple(map(str, range(CLIPS))),
            frames=(frames,) * CLIPS,
            mixture=sound,
            voice=sound,
            lips=torch.randint(0, 256, (CLIPS, frames, SIDE, SIDE), generator=draw, dtype=torch.uint8),
            muse=torch.randn(CLIPS, frames, VISUAL_DIM, generator=draw),
            seanet=torch.ones(CLIPS, dtype=torch.bool),
            labels=torch.randint(1, 5000, (CLIPS, TOKENS), generator=draw),
            words=torch.full((CLIPS, frames), -1),
        )


def main() -> None:
    rows = {precision: measured(precision) for precision in progress(PRECISIONS, "precisions")}
    settings = {"clips": CLIPS, "seconds": SECONDS, "steps": STEPS, "threads": 1, "weights": "random"}
    figures = settings | {"precisions": rows}
    record("avsr_step", figures)
    print(table(figures))


def table(figures: dict[str, Any]) -> str:
    """The rows of docs/training.md."""
    lines = [
        "| precision | parameters | step | memory | of it weights, gradients, optimizer | loss, by step |",
        "|---" * 6 + "|",
    ]
    for name in PRECISIONS:
        row = figures["precisions"][name]
        cells = [
            name,
            f"{row['parameters'] / 1e6:.0f} M",
            f"{row['cpu_seconds']:.1f} s",
            f"{row['memory_mb']} MB",
            f"{row['kept_mb']} MB",
            ", ".join(f"{loss:.1f}" for loss in row["loss"]),
        ]
        lines.append(f"| {' | '.join(cells)} |")
    return "\n".join(lines)


def measured(precision: str) -> dict[str, Any]:
    command = [sys.executable, "-m", "benchmarks.avsr_step", precision]
    return json.loads(subprocess.run(command, capture_output=True, text=True, check=True).stdout)


def one(precision: Literal["float32", "bfloat16"]) -> dict[str, Any]:
    """CPU seconds of the fastest step but the first; the memory at most of the process, beyond what it began with."""
    before = _memory()
    torch.manual_seed(0)
    encoder = AVHubertConfig.preset("large", modality_dropout=0.0)  # a batch that loses its sound would cost less
    model = AvsrModel(CtcAttention(encoder, DecoderConfig()), SEANet())
    ends: list[float] = []
    hook = register_optimizer_step_post_hook(lambda *_: ends.append(time.process_time()))
    with one_thread(), tempfile.TemporaryDirectory() as folder:
        p = FitParams(epochs=1, precision=precision, warmup=0.0, log_every=1)
        fitted = fit(model, model, Noise(), p, Path(folder))
    hook.remove()
    parameters = sum(value.numel() for value in model.parameters())
    return {
        "parameters": parameters,
        "cpu_seconds": round(min(end - start for start, end in pairwise(ends)), 1),
        "memory_mb": _memory() - before,
        "kept_mb": (4 * 4 * parameters) >> 20,
        "loss": [round(row["loss"], 2) for row in fitted.history],
    }


def _memory() -> int:
    """Megabytes that the process has held at most; not by getrusage, which begins with what its parent held."""
    status = Path("/proc/self/status").read_text().split()
    return int(status[status.index("VmHWM:") + 1]) // 1024


if __name__ == "__main__":
    if sys.argv[1:]:
        print(json.dumps(one(sys.argv[1])))  # type: ignore[arg-type]
    else:
        main()
