"""Two at once on one store: both end as one alone does, and leave nothing behind."""

from __future__ import annotations

import random
import time
from pathlib import Path
from typing import Any

from tests.reliability import project
from tests.reliability.kills import Reference, Scenario, copied, items, torn


def trial(scenario: Scenario, reference: Reference, seed: int, folder: Path) -> dict[str, Any]:
    """The same command in two clones, the second a little later."""
    draw = random.Random(seed)
    works = [copied(reference, folder / name, folder / "store")[0] for name in ("first", "second")]
    processes = []
    for work in works:
        project.remove(work, [] if scenario.command[0] == "dvc" else scenario.outs)
        processes.append(project.start(work, folder / "store", scenario.command))
        time.sleep(draw.uniform(0, 0.5) * reference.seconds)
    said = [process.communicate(timeout=600)[1] for process in processes]
    found = [f"{name}: {text[-200:]}" for name, text, p in zip("12", said, processes, strict=True) if p.returncode]
    found += [
        f"clone {n}: other outs" for n, w in enumerate(works) if project.digests(w, scenario.outs) != reference.outs
    ]
    found += [f"torn: {name}" for name in torn(folder / "store")]
    found += [f"left behind: {path.name}" for path in folder.rglob(".partial-*")]
    found += [f"clone {n}: DVC's lock is left" for n, w in enumerate(works) if _is_locked(w / ".dvc/tmp/rwlock")]
    row = {"scenario": scenario.name, "items": len(items(folder / "store"))}
    return row | ({"fault": "; ".join(found)} if found else {})


def _is_locked(path: Path) -> bool:
    """DVC's list of who reads and writes what."""
    return path.exists() and path.read_text().strip() not in ("", "{}")
