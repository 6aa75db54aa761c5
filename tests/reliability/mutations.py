"""Files of every kind, damaged or hostile: each is read or refused, and does nothing else."""

from __future__ import annotations

import json
import subprocess
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from functools import cache
from pathlib import Path
from typing import Any

from tests.reliability.kinds import KINDS, ROOT
from tests.reliability.mutate import mutated

NAMES = tuple(KINDS)
_INSIDE = "cage"


class Cage:
    """The process that uses files."""

    def __init__(self) -> None:
        command = [sys.executable, "-m", "tests.reliability.cage"]
        self.process = subprocess.Popen(
            command, cwd=ROOT, stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True, env=None
        )

    def use(self, kind: str, path: Path, folder: Path) -> dict[str, Any]:
        assert self.process.stdin is not None
        assert self.process.stdout is not None
        self.process.stdin.write(json.dumps({"kind": kind, "path": str(path), "folder": str(folder)}) + "\n")
        self.process.stdin.flush()
        return json.loads(self.process.stdout.readline())


@contextmanager
def open_cage() -> Iterator[Cage]:
    cage = Cage()
    with cage.process:
        yield cage
        assert cage.process.stdin is not None
        cage.process.stdin.close()


@cache
def good(kind: str) -> list[bytes]:
    return KINDS[kind].good()


def trial(cage: Cage, seed: int, folder: Path) -> dict[str, Any]:
    """The file of a seed, used; `fault` says what it did that it may not."""
    kind = NAMES[seed % len(NAMES)]
    inside = folder / _INSIDE
    inside.mkdir()
    path = inside / kind
    path.write_bytes(mutated(seed, good(kind), text=KINDS[kind].text))
    found = cage.use(kind, path, inside)
    fault = found["text"] if found["outcome"] == "fault" else ""
    if strays := sorted(str(other) for other in folder.iterdir() if other != inside) + _outside():
        fault = f"left files outside of its folder: {', '.join(strays)}"
    return {"kind": kind, "outcome": found["outcome"], "mib": found["mib"]} | ({"fault": fault} if fault else {})


def _outside() -> list[str]:
    """What the hostile names of the good files point at."""
    return [str(path) for path in (Path("/outside"), Path("/touch")) if path.exists()]
