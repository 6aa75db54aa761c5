"""What a stage cost and where it ran: `results/cost.json` and `results/environment.json`, outside every comparison."""

from __future__ import annotations

import json
import os
import platform
import resource
import subprocess
import sys
import time
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from importlib import metadata
from pathlib import Path
from typing import Any

from avs.core.store import write_json

COST = Path("results/cost.json")
ENVIRONMENT = Path("results/environment.json")


@contextmanager
def measured(stage: str) -> Iterator[dict[str, Any]]:
    """Record the seconds and peak memory of a stage, and what it adds to the yielded dictionary."""
    started = time.perf_counter()
    cost: dict[str, Any] = {}
    yield cost
    cost["seconds"] = round(time.perf_counter() - started, 2)
    cost["peak_mib"] = _peak_mib()
    write_json(COST, _read(COST) | {stage: cost})
    write_json(ENVIRONMENT, _environment())


def _read(path: Path) -> dict[str, Any]:
    try:
        return json.loads(path.read_text())
    except (OSError, ValueError):
        return {}


def _peak_mib() -> dict[str, int]:
    """Peak resident memory of this process and of its largest finished worker."""
    unit = 2**20 if sys.platform == "darwin" else 2**10
    usage = {"process": resource.RUSAGE_SELF, "worker": resource.RUSAGE_CHILDREN}
    peaks = {name: resource.getrusage(who).ru_maxrss // unit for name, who in usage.items()}
    with suppress(OSError, ValueError):  # on Linux, getrusage begins with what the process held that started this one
        status = Path("/proc/self/status").read_text().split()
        peaks["process"] = int(status[status.index("VmHWM:") + 1]) >> 10
    return peaks


def _environment() -> dict[str, Any]:
    return {
        "python": platform.python_version(),
        "platform": platform.platform(),
        "cpu": _cpu(),
        "cores": os.cpu_count(),
        **_torch(),
        "commit": _commit() or os.environ.get("AVS_REVISION"),
        "image": os.environ.get("AVS_IMAGE"),
        "packages": {m["Name"]: m["Version"] for m in (d.metadata for d in metadata.distributions())},
    }


def _torch() -> dict[str, Any]:
    """What PyTorch says of the machine; where a stage has not imported it, what the last one wrote that had."""
    torch = sys.modules.get("torch")
    if torch is None:
        return {name: value for name, value in _read(ENVIRONMENT).items() if name in ("torch_threads", "gpus")}
    gpus = [torch.cuda.get_device_name(i) for i in range(torch.cuda.device_count())]
    return {"torch_threads": torch.get_num_threads(), "gpus": gpus}


def _cpu() -> str:
    """The processor's name where Linux tells it, else its kind."""
    try:
        lines = Path("/proc/cpuinfo").read_text().splitlines()
    except OSError:
        lines = []
    names = (line.partition(":")[2].strip() for line in lines if line.startswith("model name"))
    return next(names, platform.processor() or platform.machine())


def _commit() -> str | None:
    return git("describe", "--always", "--dirty", "--abbrev=40", "--exclude=*")


def git(*arguments: str, folder: Path = Path()) -> str | None:
    """What Git says of the clone at `folder`; None where it fails, is not there or `folder` is no clone."""
    try:
        done = subprocess.run(["git", "-C", str(folder), *arguments], capture_output=True, text=True, check=True)
    except (OSError, subprocess.CalledProcessError):
        return None
    return done.stdout.strip()
