"""A machine that lacks something: room, permission, shared memory, memory. One clear line, nothing torn, and it goes on
once the lack is mended."""

from __future__ import annotations

import os
import random
import shutil
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any

from tests.reliability import project
from tests.reliability.kills import Reference, Scenario, copied, torn


def needs() -> str | None:
    """Why these trials can't run here: they mount small disks."""
    if os.geteuid() != 0:
        return "only root may mount a small disk"
    if not all(map(shutil.which, ("mount", "unshare", "setpriv"))):
        return "mount, unshare and setpriv are not installed"
    allowed = subprocess.run(["unshare", "--mount", "true"], capture_output=True, check=False)
    return "this container may not mount anything" if allowed.returncode else None


def trial(scenario: Scenario, reference: Reference, seed: int, folder: Path, lack: str | None = None) -> dict[str, Any]:
    """lack: otherwise drawn by the seed."""
    draw = random.Random(seed)
    name = lack or draw.choice(sorted(LACKS))
    disk = folder / "disk"
    disk.mkdir()
    _shell(f"mount -t tmpfs -o size=2g none {disk}")
    try:
        work, store = copied(reference, disk)
        project.remove(work, scenario.outs)
        done = LACKS[name](draw, disk, work, store, scenario.command)
        found = [f"torn: {item}" for item in torn(store)]
        if done.status and ("Traceback" in done.said or not done.said.strip()):
            found.append(f"no clear error: {done.said[-300:]!r}")
        if done.status == -1:
            found.append(done.said)
        project.remove(work, scenario.outs)
        again = project.run(work, store, scenario.command)
        if again.status or project.digests(work, scenario.outs) != reference.outs:
            found.append(f"does not end as undisturbed: {again.said[-300:]}")
    finally:
        _shell(f"umount --lazy {disk}")
    row = {"scenario": scenario.name, "lack": name, "status": done.status, "said": done.said.strip()[-200:]}
    return row | ({"fault": "; ".join(found)} if found else {})


Lack = Callable[[random.Random, Path, Path, Path, tuple[str, ...]], project.Done]


def _full(draw: random.Random, disk: Path, work: Path, store: Path, command: tuple[str, ...]) -> project.Done:
    """A disk that has room for a part of what comes."""
    used = shutil.disk_usage(disk).used
    _shell(f"mount -o remount,size={used + draw.randrange(1 << 12, 3 << 20)} {disk}")
    try:
        return project.run(work, store, command)
    finally:
        _shell(f"mount -o remount,size=2g {disk}")


def _read_only(draw: random.Random, disk: Path, work: Path, store: Path, command: tuple[str, ...]) -> project.Done:
    _shell(f"mount -o remount,ro {disk}")
    try:
        return project.run(work, store, command)
    finally:
        _shell(f"mount -o remount,rw {disk}")


def _no_permission(draw: random.Random, disk: Path, work: Path, store: Path, command: tuple[str, ...]) -> project.Done:
    """Another user's folders, by a root without its powers: others may not even reach this Python, which it owns."""
    _shell(f"chown -R nobody {disk}")
    try:
        return project.run(work, store, ("setpriv", "--bounding-set=-all", *project.program(command)))
    finally:
        _shell(f"chown -R root {disk}")


def _no_shared_memory(
    draw: random.Random, disk: Path, work: Path, store: Path, command: tuple[str, ...]
) -> project.Done:
    """As in a container without `--shm-size`, and worse."""
    mount = 'mount -t tmpfs -o size=4k none /dev/shm && exec "$@"'
    return project.run(work, store, ("unshare", "--mount", "sh", "-c", mount, "sh", *project.program(command)))


def _little_memory(draw: random.Random, disk: Path, work: Path, store: Path, command: tuple[str, ...]) -> project.Done:
    """More than it takes to begin, and at times enough."""
    limited = (sys.executable, "-c", _LIMITED, str(draw.randrange(200 << 20, 800 << 20)), *command)
    return project.run(work, store, limited, limit=200)


# scipy's OpenBLAS, loaded where it can't have its 32 MiB, asks for them for ever: here it has them before.
_LIMITED = """
import resource, runpy, sys
import scipy.linalg
limit, name = int(sys.argv[1]), sys.argv[2]
sys.argv[1:] = sys.argv[3:]
resource.setrlimit(resource.RLIMIT_DATA, (limit, limit))
runpy.run_module(name, run_name="__main__", alter_sys=True)
"""


LACKS: dict[str, Lack] = {
    "full disk": _full,
    "read-only disk": _read_only,
    "no permission": _no_permission,
    "no shared memory": _no_shared_memory,
    "little memory": _little_memory,
}


def _shell(command: str) -> None:
    subprocess.run(command.split(), check=True, capture_output=True)
