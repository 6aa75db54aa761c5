"""Several processes that train one model: started from here, or by `torchrun` and `accelerate launch`."""

from __future__ import annotations

import os
import select
import subprocess
import sys
import threading
from collections.abc import Sequence
from contextlib import suppress

import joblib
from accelerate import Accelerator

from avs.core.errors import InputError
from avs.core.execute import DEVICE, torch_device

_PARENT = "AVS_LAUNCHER"  # the process without which workers have nobody to work for


def is_worker() -> bool:
    """Whether this process is one of those that train together."""
    return int(os.environ.get("WORLD_SIZE", "1")) > 1


def for_another() -> bool:
    """Whether this process was started by `spread`, by one that waits for its training."""
    return _PARENT in os.environ


def spread(module: str, devices: Sequence[str], arguments: Sequence[str] = ()) -> None:
    """Run `python -m module` in one process for each device, `cpu` or `cuda:N`, and wait until all have ended.

    In such a process `is_worker` is true. Raises InputError for devices that cannot work together, or where one failed.
    """
    places = [torch_device(name) for name in devices]
    kinds = {place.type for place in places}
    if len(kinds) > 1 or (kinds == {"cuda"} and len(set(places)) < len(places)):
        raise InputError(f"execution.devices ({', '.join(devices)}) must be different GPUs, or CPUs only")
    environment = {**os.environ, _PARENT: str(os.getpid()), "ACCELERATE_USE_CPU": str(kinds == {"cpu"}).lower()}
    environment[DEVICE] = places[0].type  # of its own; which, its turn says
    environment.setdefault("OMP_NUM_THREADS", str(max(1, joblib.cpu_count() // len(places))))
    if kinds == {"cuda"}:
        environment["CUDA_VISIBLE_DEVICES"] = ",".join(_visible(place.index or 0) for place in places)
    torchrun = [
        sys.executable,
        "-m",
        "torch.distributed.run",
        "--standalone",
        "--local-addr=127.0.0.1",
        f"--nproc_per_node={len(places)}",
    ]
    done = subprocess.run([*torchrun, "-m", module, *arguments], env=environment, check=False)
    if done.returncode:
        raise InputError(f"{module} on {', '.join(devices)} ended with status {done.returncode}: see above")


def accelerator(device: str = "auto") -> Accelerator:
    """Of this process: on `device` if it works alone, else on the GPU of its turn, or all on CPUs."""
    _watch()
    place = torch_device(device)
    if place.type == "cuda" and place.index is not None and not is_worker():
        os.environ["ACCELERATE_TORCH_DEVICE"] = device
    made = Accelerator(cpu=place.type == "cpu")
    if made.num_processes != int(os.environ.get("WORLD_SIZE", "1")):
        raise InputError(
            f"{os.environ['WORLD_SIZE']} processes were started, but accelerate joins {made.num_processes}"
        )
    return made


def _visible(index: int) -> str:
    """How the driver names the GPU that PyTorch counts as `index`."""
    shown = os.environ.get("CUDA_VISIBLE_DEVICES")
    return shown.split(",")[index] if shown else str(index)


def _watch() -> None:
    """A worker ends with the process that has started it, even if that was killed."""
    parent = os.environ.get(_PARENT)
    if parent is not None:
        threading.Thread(target=_exit_after, args=(int(parent),), daemon=True).start()


def _exit_after(parent: int) -> None:
    with suppress(ProcessLookupError):  # it is gone already
        select.select([os.pidfd_open(parent)], [], [])
    os._exit(1)
