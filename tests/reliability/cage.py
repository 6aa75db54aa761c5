"""Uses one file after another, each in a process of its own that may take little time and memory.

It reads jobs (a JSON line: kind, path, folder) from its standard input and answers each with a line. What is imported
here once costs no trial anything: each is a fork.
"""

from __future__ import annotations

import json
import os
import resource
import select
import signal
import sys
import time
from importlib import import_module
from pathlib import Path
from typing import Any

from tests.reliability.kind import REFUSALS
from tests.reliability.kinds import KINDS  # imports all of the kit

SECONDS = 60  # of the clock, beyond which a use hangs
MEMORY = 2 << 30  # bytes beyond what the process has when it begins


def main() -> None:
    import_module("torch._dynamo")  # as PyTorch does for the first network without memory: it takes seconds
    for line in sys.stdin:
        job = json.loads(line)
        print(json.dumps(_caged(KINDS[job["kind"]].use, Path(job["path"]), Path(job["folder"]))), flush=True)


def _caged(use: Any, path: Path, folder: Path) -> dict[str, Any]:
    """`taken`, `refused` or `fault`, each with a text, and the memory it took in MiB."""
    reading, writing = os.pipe()
    child = os.fork()
    if not child:
        os.close(reading)
        _inside(use, path, folder, writing)
    os.close(writing)
    ready, *_ = select.select([reading], [], [], SECONDS)
    if not ready:
        os.kill(child, signal.SIGKILL)
    said = b"".join(iter(lambda: os.read(reading, 1 << 16), b"")).decode(errors="replace")
    os.close(reading)
    _, status, used = os.wait4(child, 0)
    answer = json.loads(said) if said else {"outcome": "fault", "text": f"hangs: more than {SECONDS} s"}
    if not said and ready:
        answer["text"] = f"the process died: signal {os.WTERMSIG(status)}" if os.WIFSIGNALED(status) else "no answer"
    return answer | {"mib": used.ru_maxrss >> 10}


def _inside(use: Any, path: Path, folder: Path, writing: int) -> None:
    try:
        os.chdir(folder)
        pages = int(Path("/proc/self/statm").read_text().split()[0])
        limit = pages * resource.getpagesize() + MEMORY
        resource.setrlimit(resource.RLIMIT_AS, (limit, limit))
        quiet = os.open(os.devnull, os.O_WRONLY)
        os.dup2(quiet, 1)
        os.dup2(quiet, 2)
        answer = _used(use, path, folder)
        os.write(writing, json.dumps(answer).encode())
    finally:
        os._exit(0)


def _used(use: Any, path: Path, folder: Path) -> dict[str, str]:
    started = time.perf_counter()
    try:
        use(path, folder)
    except REFUSALS as error:
        text = str(error)
        if len(text) > 4000:
            return {"outcome": "fault", "text": f"a message of {len(text)} characters: {text[:200]}"}
        return {"outcome": "refused", "text": text[:300]}
    except BaseException as error:
        import traceback

        place = traceback.extract_tb(error.__traceback__)[-1]
        where = f"{Path(place.filename).name}:{place.lineno}"
        return {"outcome": "fault", "text": f"{type(error).__name__} at {where}: {str(error)[:300]}"}
    return {"outcome": "taken", "text": f"{time.perf_counter() - started:.3f} s"}


if __name__ == "__main__":
    main()
