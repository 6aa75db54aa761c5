"""Long use: `dvc exp run` again and again with other parameters, then `dvc gc`; and many stages in one process."""

from __future__ import annotations

import json
import os
import random
import re
import subprocess
import sys
import time
from pathlib import Path
from typing import Any

from tests.reliability import project
from tests.reliability.kills import clone, items, torn
from tests.reliability.same import outs

_CHOICES = {
    "k": (1, 2),
    "p0.seeds": (2, 3),
    "p0.epochs": (1, 2, 3),
    "eventness.method": ("energy", "energy_delta"),
    "data.demo.train": (8, 9),
    "execution.workers": (1, 2),
}
_PYTORCH = "torchinductor_"  # its folder of compiled code, one for each user, which stays
_ROUNDS = 30  # in one process
_GROWTH = 1.25  # of the last quarter's median over the first's, beyond which something grows


def run(minutes: float, seed: int, folder: Path) -> dict[str, Any]:
    """A `dvc exp run` after the other, what each took and left, and how that grew; `fault` says what may not be so."""
    draw, place, store, temporary = random.Random(seed), folder / "project", folder / "store", folder / "tmp"
    clone(place)
    for empty in (store, temporary):
        empty.mkdir()
    environment = {"TMPDIR": str(temporary)}
    until, rounds = time.monotonic() + 60 * minutes, []
    while time.monotonic() < until:
        changes = [f"-S{name}={draw.choice(choices)}" for name, choices in _CHOICES.items()]
        rounds.append(_round(place, store, ("dvc", "exp", "run", "--quiet", *changes), environment) | _left(folder))
    one = _one_process(folder)
    found = _wrong(rounds, one) + _collected(place, store, environment)
    grown = {name: round(growth(rounds, name), 3) for name in ("mib", "seconds")}
    row = {"rounds": len(rounds), "growth": grown, "last": rounds[-1], "one_process": one}
    return row | ({"fault": "; ".join(found)} if found else {})


def _wrong(rounds: list[dict[str, Any]], one: dict[str, Any]) -> list[str]:
    found = [f"round {n}: {row['said']}" for n, row in enumerate(rounds) if row["status"]]
    found += ["memory grows"] * (growth(rounds, "mib") > _GROWTH)
    found += [f"left: {name}" for name in ("processes", "files", "semaphores") if rounds[-1][name]]
    begin, end = one["begin"], one["end"]
    return found + [f"{name} grow in one process" for name in begin if end[name] > _GROWTH * begin[name]]


def _round(place: Path, store: Path, command: tuple[str, ...], environment: dict[str, str]) -> dict[str, Any]:
    """How a command ended, and the memory of its largest process."""
    started = time.perf_counter()
    process = project.start(place, store, command, environment=environment)
    assert process.stderr is not None
    said = process.stderr.read()
    _, status, used = os.wait4(process.pid, 0)
    process.returncode = os.waitstatus_to_exitcode(status)
    seconds = round(time.perf_counter() - started, 1)
    return {"status": process.returncode, "said": said[-300:], "seconds": seconds, "mib": used.ru_maxrss >> 10}


def _left(folder: Path) -> dict[str, int]:
    """Processes of ours that are still there, temporary files, and semaphores of processes that are no more."""
    processes = list(Path("/proc").glob("[0-9]*"))
    alive = {process.name for process in processes}
    semaphores = [re.match(r"sem\.loky-(\d+)-", path.name) for path in Path("/dev/shm").iterdir()]
    return {
        "processes": sum(_is_ours(process, folder) for process in processes),
        "files": sum(not path.name.startswith(_PYTORCH) for path in (folder / "tmp").iterdir()),
        "semaphores": sum(match is not None and match[1] not in alive for match in semaphores),
    }


def _is_ours(process: Path, folder: Path) -> bool:
    try:
        return f"AVS_STORE={folder}/".encode() in (process / "environ").read_bytes()
    except OSError:
        return False


def growth(rounds: list[dict[str, Any]], name: str) -> float:
    """The median of the last quarter over that of the first, of which the very first is left out."""
    values = [row[name] for row in rounds[1:]]
    quarter = max(1, len(values) // 4)
    first, last = sorted(values[:quarter])[quarter // 2], sorted(values[-quarter:])[quarter // 2]
    return last / max(1, first)


def _one_process(folder: Path) -> dict[str, Any]:
    place = folder / "inside"
    place.mkdir()
    project.write_params(place)
    command = [sys.executable, "-m", "tests.reliability.inside", str(_ROUNDS)]
    environment = os.environ | {"PYTHONPATH": str(project.ROOT)}
    done = subprocess.run(command, cwd=place, env=environment, stdout=subprocess.PIPE, text=True, check=True)
    return json.loads(done.stdout.splitlines()[-1])


def _collected(place: Path, store: Path, environment: dict[str, str]) -> list[str]:
    """What is wrong after `dvc gc`: outs that are not those before it, items that are gone or torn, work done twice."""
    before, kept = outs(place), items(store)
    for command in (("dvc", "gc", "--workspace", "--force", "--quiet"), ("dvc", "repro", "--quiet")):
        done = project.run(place, store, command, environment=environment)
        if done.status:
            return [f"{' '.join(command)}: {done.said[-300:]}"]
    found = ["other outs after dvc gc"] * (outs(place) != before)
    found += ["items gone after dvc gc"] * (not kept.items() <= items(store).items())
    return found + [f"torn: {name}" for name in torn(store)]
