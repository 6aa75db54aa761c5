"""Run steps, ours and the alternative in turn, and put their medians into `docs/results/benchmarks.json`."""

from __future__ import annotations

import argparse
import json
import os
import statistics
import subprocess
import sys
import tempfile
from collections.abc import Sequence
from typing import Any

from benchmarks import RESULTS, origin, record
from benchmarks.speed.step import Found, Step, load

# In the order of a run, which is the order of the chart. The keys of docs/results/benchmarks.json.
STEPS = (
    "preprocess",
    "cache_cpu",
    "packing",
    "cache_gpu",
    "eventness",
    "p0",
    "noop",
    "one_clip",
    "seanet",
    "avsr_step",
    "muse_precompute",
)
SIDES = ("ours", "alternative")


def main(arguments: Sequence[str]) -> None:
    parser = argparse.ArgumentParser(prog="python -m benchmarks.speed", description=__doc__)
    parser.add_argument("steps", nargs="*", metavar="STEP", help=f"of {', '.join(STEPS)}; all where none is named")
    parser.add_argument("--rounds", type=int, help="how often each side runs; otherwise as the step says")
    chosen = parser.parse_args(arguments)
    if unknown := set(chosen.steps) - set(STEPS):
        parser.error(f"no such step: {', '.join(sorted(unknown))}")
    for name in chosen.steps or STEPS:
        row = compare(name, load(name), chosen.rounds)
        keep(name, row)
        print(told(name, row), flush=True)


def compare(name: str, step: Step, rounds: int | None = None) -> dict[str, Any]:
    """The row of a step; where it can't be run here, it says so, with the command that measures it."""
    about = {"what": step.what, "alternative_is": step.alternative_is, "goal": step.goal} | origin(f"speed {name}")
    if lacking := step.needs():
        nothing = dict.fromkeys((*SIDES, "ratio", "limit"))
        return about | nothing | {"open": f"{lacking}; measured by: python -m benchmarks.speed {name}"}
    with tempfile.TemporaryDirectory(prefix="avs-bench-") as place:
        _run(name, "prepare", place, step)
        turns = [[_run(name, side, place, step) for side in SIDES] for _ in range(rounds or step.rounds)]
        checked = [step.check(*turn) for turn in turns][-1]
    sides = dict(zip(SIDES, zip(*turns, strict=True), strict=True))
    medians = {side: _median(runs) for side, runs in sides.items()}
    limit = step.limit(*medians.values())
    return about | {
        **{side: _short(found["seconds"]) for side, found in medians.items()},
        "ratio": round(medians["alternative"]["seconds"] / medians["ours"]["seconds"], 2),
        "limit": limit and round(limit.ratio, 2),
        "limit_is": limit and limit.why,
        "runs": {side: [_short(run["seconds"]) for run in runs] for side, runs in sides.items()},
        "peak_mib": {side: found["peak_mib"] for side, found in medians.items()},
        "check": checked,
    }


def _run(name: str, what: str, place: str, step: Step) -> Found:
    command = [sys.executable, "-m", "benchmarks.speed.step", name, what, place]
    environment = os.environ | {"AVS_STORE": f"{place}/store"} | dict(step.environment)
    done = subprocess.run(command, stdout=subprocess.PIPE, text=True, env=environment, check=False)
    if done.returncode:
        sys.exit(f"{name}: {what} failed (its words stand above); again by: {' '.join(command[1:])}")
    return json.loads(done.stdout.splitlines()[-1]) if what in SIDES else {}


def _median(runs: Sequence[Found]) -> Found:
    """The run whose seconds are the median (of an even number, the lower middle)."""
    middle = statistics.median_low([run["seconds"] for run in runs])
    return next(run for run in runs if run["seconds"] == middle)


def _short(seconds: float) -> float:
    return float(f"{seconds:.4g}")


def keep(name: str, row: dict[str, Any]) -> None:
    """Put the row beside those of other steps, which may be of other days."""
    path = RESULTS / "benchmarks.json"
    before = json.loads(path.read_text()) if path.exists() else {}
    record("benchmarks", {key: before[key] for key in STEPS if key in before} | {name: row}, command="make bench")


def told(name: str, row: dict[str, Any]) -> str:
    if row["ratio"] is None:
        return f"{name}: open: {row['open']}"
    wanted = f", wanted {row['goal']}" if row["goal"] else ""
    reach = f", this machine's limit {row['limit']}: {row['limit_is']}" if row["limit"] else ""
    return f"{name}: {row['ours']} s, alternative {row['alternative']} s: ratio {row['ratio']}{wanted}{reach}"


if __name__ == "__main__":
    main(sys.argv[1:])
