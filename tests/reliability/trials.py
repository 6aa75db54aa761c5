"""Seeded trials that go on where they stopped: one line a trial in a journal, which a later run adds to."""

from __future__ import annotations

import json
import os
from collections.abc import Callable, Iterable
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Any

from avs.core.execute import progress

Row = dict[str, Any]


def read_journal(path: Path) -> list[Row]:
    """The trials that are done; a line that a kill tore is none."""
    rows = []
    for line in path.read_text().splitlines() if path.exists() else []:
        try:
            rows.append(json.loads(line))
        except ValueError:
            continue
    return rows


def run_trials(journal: Path, name: str, seeds: Iterable[int], trial: Callable[[int, Path], Row]) -> list[Row]:
    """Run each seed that is not in the journal, in an empty folder of its own; all rows, in order of the seeds."""
    wanted = list(seeds)
    done = {row["seed"]: row for row in read_journal(journal)}
    journal.parent.mkdir(parents=True, exist_ok=True)
    with journal.open("a") as file:
        if journal.stat().st_size:
            file.write("\n")  # after a torn line
        for seed in progress([seed for seed in wanted if seed not in done], name):
            with TemporaryDirectory(prefix="avs-torture-") as folder:
                done[seed] = {"seed": seed} | trial(seed, Path(folder))
            file.write(json.dumps(done[seed]) + "\n")
            file.flush()
            os.fsync(file.fileno())
    return [done[seed] for seed in wanted]


def faults(rows: Iterable[Row]) -> list[Row]:
    return [row for row in rows if row.get("fault")]
