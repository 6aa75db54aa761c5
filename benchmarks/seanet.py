"""SEANet and the log filter bank: CPU seconds and memory against the length of the sound, beside plain implementations.

Each figure is of a process of its own, in one thread, ours and the plain one in turn: on a machine that others use,
seconds of the clock would tell of them. `python -m benchmarks.seanet NAME SECONDS` measures one.
"""

from __future__ import annotations

import json
import resource
import subprocess
import sys
import time
from collections.abc import Callable
from typing import Any

import torch
from torch import Tensor

from avs.avsr.fbank import log_fbank
from avs.avsr.seanet import SAMPLES_PER_FRAME, VISUAL_DIM, SEANet
from avs.core.execute import one_thread, progress
from benchmarks import record
from benchmarks.plain_seanet import plain_forward

SECONDS = (1, 5, 15, 60)
PLAIN_UP_TO = 15  # seconds; of a minute the plain one would hold several matrices of 1.5 GB each
REPEATS = {1: 3, 5: 2}  # the best of so many
FPS = 25


def main() -> None:
    rows = []
    for seconds in progress(SECONDS, "lengths"):
        row = {"seconds": seconds, "ours": measured("ours", seconds), "all_stages": measured("all_stages", seconds)}
        if seconds <= PLAIN_UP_TO:
            row["plain"] = measured("plain", seconds)
            row["ratio"] = round(row["plain"]["cpu_seconds"] / row["ours"]["cpu_seconds"], 2)
        rows.append(row)
    figures = {"threads": 1, "lengths": rows, "log_fbank": fbank_row()}
    record("seanet", figures)
    print(table(figures))


def table(figures: dict[str, Any]) -> str:
    """The rows of docs/speech.md."""
    lines = ["| sound | ours | ours, all stages | plain | ratio | memory | plain's |", "|---|---|---|---|---|---|---|"]
    for row in figures["lengths"]:
        kinds = [row.get(kind) for kind in ("ours", "all_stages", "plain")]
        seconds = [f"{kind['cpu_seconds']:.2f} s" if kind else "not measured" for kind in kinds]
        memory = [f"{kind['memory_mb']} MB" if kind else "not measured" for kind in (kinds[0], kinds[2])]
        cells = [f"{row['seconds']} s", *seconds, str(row.get("ratio", "not measured")), *memory]
        lines.append(f"| {' | '.join(cells)} |")
    return "\n".join(lines)


def measured(name: str, seconds: int) -> dict[str, Any]:
    command = [sys.executable, "-m", "benchmarks.seanet", name, str(seconds)]
    done = subprocess.run(command, capture_output=True, text=True, check=True)
    return json.loads(done.stdout)


def one(name: str, seconds: int) -> dict[str, Any]:
    """CPU seconds of the best run, and the memory that the process took at most beyond what it had before."""
    torch.manual_seed(0)
    model, frames = SEANet().eval(), FPS * seconds
    mixture, visual = torch.randn(1, frames * SAMPLES_PER_FRAME), torch.randn(1, frames, VISUAL_DIM)
    ways: dict[str, Callable[[Tensor, Tensor], Any]] = {
        "ours": model,
        "all_stages": lambda *given: model(*given, stages=True),
        "plain": lambda *given: plain_forward(model, *given),
    }
    with one_thread(), torch.inference_mode():
        model(mixture[:, :SAMPLES_PER_FRAME], visual[:, :1])
        before = _memory()
        best = min(_cpu_seconds(ways[name], mixture, visual) for _ in range(REPEATS.get(seconds, 1)))
    return {"cpu_seconds": round(best, 3), "memory_mb": _memory() - before}


def fbank_row() -> dict[str, Any]:
    """Ten seconds of sound; python_speech_features neither stacks nor normalises."""
    import python_speech_features

    sound = torch.randn(1, 160000)
    numbers = sound[0].double().numpy()
    with one_thread(), torch.inference_mode():
        ours = min(_cpu_seconds(log_fbank, sound) for _ in range(50))
        other = min(_cpu_seconds(python_speech_features.logfbank, numbers, 16000) for _ in range(50))
    figures = {"seconds": 10, "ours": round(ours, 5), "python_speech_features": round(other, 5)}
    return figures | {"ratio": round(other / ours, 1)}


def _cpu_seconds(function: Callable[..., Any], *given: Any) -> float:
    started = time.thread_time()
    function(*given)
    return time.thread_time() - started


def _memory() -> int:
    """Megabytes that the process has held at most."""
    return resource.getrusage(resource.RUSAGE_SELF).ru_maxrss // 1024


if __name__ == "__main__":
    if sys.argv[1:]:
        print(json.dumps(one(sys.argv[1], int(sys.argv[2]))))
    else:
        main()
