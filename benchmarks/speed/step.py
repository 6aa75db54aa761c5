"""What a step to be timed is, and the process that times one side of it."""

from __future__ import annotations

import importlib
import json
import resource
import sys
import time
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

Found = dict[str, Any]  # what a side found, beside its seconds: what `check` compares, and figures worth keeping


@dataclass(frozen=True)
class Limit:
    """The ratio that this machine would allow, and what says so."""

    ratio: float
    why: str


@dataclass(frozen=True)
class Step:
    """One step, ours and the alternative.

    `prepare(folder)` makes the input there, once. `ours(folder, clock)` and `alternative(folder, clock)` do the work on
    it inside `with clock:`, which leaves imports, loading of models and other things done once outside; they return
    what they found. `check(ours, alternative)` raises unless both answers are the same, and returns figures that show
    it. `limit(ours, alternative)` gets the seconds and figures of both. `needs()` tells why it can't be run here.
    """

    what: str
    alternative_is: str
    goal: float | None
    prepare: Callable[[Path], None]
    ours: Callable[[Path, Clock], Found]
    alternative: Callable[[Path, Clock], Found]
    check: Callable[[Found, Found], Found] = lambda ours, alternative: {}
    limit: Callable[[Found, Found], Limit | None] = lambda ours, alternative: None
    needs: Callable[[], str | None] = lambda: None
    rounds: int = 3
    environment: Mapping[str, str] = field(default_factory=dict)


class Clock:
    """Seconds of the clock and of the processors (this process and its ended children) spent inside `with`."""

    def __init__(self) -> None:
        self.seconds = self.cpu_seconds = 0.0

    def __enter__(self) -> Clock:
        self._started = time.perf_counter(), _cpu()
        return self

    def __exit__(self, *_: object) -> None:
        self.seconds += time.perf_counter() - self._started[0]
        self.cpu_seconds += _cpu() - self._started[1]


def _cpu() -> float:
    kinds = (resource.RUSAGE_SELF, resource.RUSAGE_CHILDREN)
    return sum(used.ru_utime + used.ru_stime for used in map(resource.getrusage, kinds))


def load(name: str) -> Step:
    return importlib.import_module(f"benchmarks.speed.{name}").STEP


def measured(name: str, side: str, folder: Path) -> Found:
    """One side in this process: what it found, its `seconds`, `cpu_seconds` and `peak_mib`."""
    clock = Clock()
    found = getattr(load(name), side)(folder, clock)
    return found | {"seconds": clock.seconds, "cpu_seconds": clock.cpu_seconds, "peak_mib": peak_mib()}


def peak_mib() -> int:
    """Memory that this process held at most; not by getrusage, which begins with what its parent held."""
    status = Path("/proc/self/status").read_text().split()
    return int(status[status.index("VmHWM:") + 1]) >> 10


if __name__ == "__main__":
    name, what, place = sys.argv[1:]
    if what == "prepare":
        load(name).prepare(Path(place))
    else:
        print(json.dumps(measured(name, what, Path(place))))
