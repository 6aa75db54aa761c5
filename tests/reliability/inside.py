"""Stages over and over in one process, each time from an empty store: its memory, open files, threads and workers."""

from __future__ import annotations

import json
import multiprocessing
import os
import shutil
import sys
import threading
from pathlib import Path

from avs.config import load_config
from stages import anchor_eval, cache, eventness, install, preprocess

_FIRST = 3  # rounds after which everything has been loaded


def main(rounds: int) -> None:
    """In the folder of a project with small parameters; prints what there is after the first rounds and at the end."""
    config = load_config()
    seen = []
    for number in range(rounds):
        store = Path(f"store-{number}").resolve()
        os.environ["AVS_STORE"] = str(store)
        for stage in (install, preprocess, eventness, cache, anchor_eval):
            stage.main(config)
        shutil.rmtree(store)
        seen.append(_now())
    print(json.dumps({"rounds": rounds, "begin": seen[_FIRST], "end": seen[-1]}))


def _now() -> dict[str, int]:
    pages = int(Path("/proc/self/statm").read_text().split()[1])
    return {
        "mib": pages * os.sysconf("SC_PAGE_SIZE") >> 20,
        "handles": sum(1 for _ in Path("/proc/self/fd").iterdir()),
        "threads": threading.active_count(),
        "workers": len(multiprocessing.active_children()),
    }


if __name__ == "__main__":
    main(int(sys.argv[1]))
