"""A tiny project in a folder of its own, and its commands run there, as a user or DVC would."""

from __future__ import annotations

import hashlib
import os
import shutil
import signal
import subprocess
import sys
import time
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from benchmarks.speed.clone import set_params

ROOT = Path(__file__).resolve().parents[2]
# Everything as small as it can be while every part takes part.
TINY: Mapping[str, Any] = {
    "data.demo.train": 8,
    "data.demo.val": 2,
    "data.demo.test": 4,
    "data.demo.seconds": 8,
    "budget.low_res": 16,
    "budget.base_res": 32,
    "budget.high_res": 80,
    "cache.weights": "random",
    "k": 1,
    "p0.seeds": 2,
    "p0.epochs": 2,
    "speech_data.demo.train": 6,
    "speech_data.demo.val": 2,
    "speech_data.demo.test": 2,
    "speech_data.demo.speakers": 2,
    "avsr.max_steps": 4,
    "avsr.babble": 1,
    "avsr.conditions": ["clean", "snr_0"],
    "avsr.voices": 1,
    "p0.resamples": 200,
    "execution.workers": 2,
}


@dataclass(frozen=True)
class Done:
    """How a command ended: its status, what it wrote to standard error, and its seconds."""

    status: int
    said: str
    seconds: float


def write_params(folder: Path, **more: Any) -> None:
    shutil.copy2(ROOT / "params.yaml", folder)
    set_params(folder / "params.yaml", {**TINY, **more})


def start(
    folder: Path, store: Path, command: Sequence[str], *, environment: Mapping[str, str] | None = None, **more: Any
) -> subprocess.Popen[str]:
    """A command of the kit at work, the leader of a group of its own."""
    environment = os.environ | {"AVS_STORE": str(store), "PYTHONPATH": str(ROOT)} | dict(environment or {})
    environment["PATH"] = f"{Path(sys.executable).parent}:{environment['PATH']}"
    for name in ("AVS_DATA_DIR", "AVS_RUNS_DIR"):
        environment.pop(name, None)
    return subprocess.Popen(
        program(command),
        cwd=folder,
        env=environment,
        stdout=subprocess.DEVNULL,
        stderr=subprocess.PIPE,
        text=True,
        start_new_session=True,
        **more,
    )


def program(command: Sequence[str]) -> list[str]:
    """What to execute; a module's name stands for it."""
    return [sys.executable, "-m", *command] if command[0].startswith(("stages.", "tests.")) else [*command]


def run(folder: Path, store: Path, command: Sequence[str], *, limit: float = 600, **more: Any) -> Done:
    started = time.perf_counter()
    process = start(folder, store, command, **more)
    try:
        _, said = process.communicate(timeout=limit)
    except subprocess.TimeoutExpired:
        end_group(process)
        return Done(-1, f"hangs: more than {limit} s", limit)
    return Done(process.returncode, said, time.perf_counter() - started)


def end_group(process: subprocess.Popen[str]) -> None:
    os.killpg(process.pid, signal.SIGKILL)
    process.communicate()


def group_is_empty(leader: int, patience: float = 10) -> bool:
    """Whether all processes of a group end by themselves."""
    until = time.monotonic() + patience
    while time.monotonic() < until:
        try:
            os.killpg(leader, 0)
        except ProcessLookupError:
            return True
        time.sleep(0.05)
    return False


def digests(folder: Path, names: Sequence[str]) -> dict[str, str]:
    """The sha256 of every whole file below some names of a folder; what is half written has another name."""
    files = [file for name in names for file in _files(folder / name) if not file.name.startswith(".partial-")]
    return {str(file.relative_to(folder)): hashlib.sha256(file.read_bytes()).hexdigest() for file in files}


def _files(path: Path) -> list[Path]:
    return sorted(other for other in path.rglob("*") if other.is_file()) if path.is_dir() else [path] * path.exists()


def remove(folder: Path, names: Sequence[str]) -> None:
    """As DVC does with the outs of a stage that it is about to run."""
    for name in names:
        path = folder / name
        if path.is_dir():
            shutil.rmtree(path)
        else:
            path.unlink(missing_ok=True)
