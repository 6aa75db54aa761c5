"""What the stages of a run cost, or will cost, as a table."""

from __future__ import annotations

import json
import shutil
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

from rich import box
from rich.console import Console
from rich.table import Table

from avs.core.provenance import COST
from avs.core.store import root


@dataclass(frozen=True)
class StageCost:
    """seconds: of the stage's work; disk: bytes it leaves, in data/ and in the store; memory: peak bytes."""

    stage: str
    seconds: float
    disk: int
    memory: int
    note: str = ""


def print_costs(stages: Sequence[StageCost], measured: Mapping[str, float]) -> None:
    """Print a row a stage, with the seconds that it took the last time (`measured`), and the totals."""
    table = Table(box=box.SIMPLE_HEAD, pad_edge=False)
    for title in ("stage", "time", "last run", "disk", "peak memory", ""):
        table.add_column(title, justify="left" if title in ("stage", "") else "right")
    last = {stage.stage: measured[stage.stage] for stage in stages if stage.stage in measured}
    disk, memory = sum(stage.disk for stage in stages), max(stage.memory for stage in stages)
    every = StageCost("all", sum(stage.seconds for stage in stages), disk, memory)
    for stage in (*stages, every):
        before = sum(last.values()) or None if stage is every else last.get(stage.stage)
        times = _duration(stage.seconds), "" if before is None else _duration(before)
        table.add_row(stage.stage, *times, _bytes(stage.disk), _bytes(stage.memory), stage.note)
    console = Console(width=max(140, Console().width))
    console.print(table)
    free = f"free at {root()}: {_bytes(shutil.disk_usage(_existing(root())).free)}"
    console.print(f"{free}; disk counts data/ and the store, a DVC cache that copies is extra", soft_wrap=True)


def last_run() -> dict[str, float]:
    """Seconds that each stage took when it last ran here, from results/cost.json."""
    try:
        return {stage: cost["seconds"] for stage, cost in json.loads(COST.read_text()).items()}
    except (OSError, ValueError):
        return {}


def _duration(seconds: float) -> str:
    if seconds < 100:
        return f"{seconds:.1f} s"
    return f"{seconds / 60:.1f} min" if seconds < 6000 else f"{seconds / 3600:.1f} h"


def _bytes(count: int) -> str:
    return f"{count / 2**20:.0f} MiB" if count < 2**30 else f"{count / 2**30:.1f} GiB"


def _existing(path: Path) -> Path:
    return path if path.exists() else _existing(path.parent)
