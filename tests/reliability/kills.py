"""`kill -9` at any moment: what was finished is kept, nothing torn is read as whole, and the end is the same."""

from __future__ import annotations

import hashlib
import os
import random
import shutil
import signal
import time
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from tests.reliability import project

_DIGEST = 32


@dataclass(frozen=True)
class Scenario:
    """Commands that run one after the other on what `before` leaves, and the outs to be compared at the end.

    The last of `commands` is the one that is killed.
    """

    name: str
    before: tuple[str, ...]
    command: tuple[str, ...]
    outs: tuple[str, ...]


_CLIPS = ("stages.install clips", "stages.preprocess clips")
_SPEECH = ("stages.install_speech", "stages.preprocess_speech")
SCENARIOS = (
    Scenario("install", (), ("stages.install", "clips"), ("data/install/clips",)),
    Scenario("preprocess", _CLIPS[:1], ("stages.preprocess", "clips"), ("data/media/clips",)),
    Scenario("cache", _CLIPS, ("stages.cache",), ("data/cache",)),
    Scenario("preprocess_speech", _SPEECH[:1], ("stages.preprocess_speech",), ("data/media/speech",)),
    Scenario("muse_precompute", _SPEECH, ("stages.muse_precompute",), ("data/muse",)),
    Scenario(
        "avsr_train",
        (*_SPEECH, "stages.muse_precompute"),
        ("stages.avsr_train",),
        ("data/mixtures", "models/avsr", "results/avsr"),
    ),
    Scenario("download", (), ("tests.reliability.fetch",), ("fetched",)),
    Scenario(
        "dvc",
        (),
        ("dvc", "repro", "p0"),
        ("data/install/clips", "data/media/clips", "data/eventness", "data/cache", "results/p0", "dvc.lock"),
    ),
)


@dataclass(frozen=True)
class Reference:
    """An undisturbed run: a folder and a store to begin with, what comes out, and how long it takes."""

    folder: Path
    store: Path
    outs: dict[str, str]
    seconds: float


def undisturbed(scenario: Scenario, place: Path) -> Reference:
    """Prepare a project before the command that is killed, and run that once in a copy."""
    folder, store = place / "project", place / "store"
    _make(scenario, folder)
    store.mkdir()
    for command in scenario.before:
        done = project.run(folder, store, command.split())
        assert done.status == 0, done.said
    copy, copied = place / "whole", place / "whole-store"
    _copy(folder, copy)
    _copy(store, copied)
    done = project.run(copy, copied, scenario.command)
    assert done.status == 0, done.said
    return Reference(folder, store, project.digests(copy, scenario.outs), done.seconds)


def _make(scenario: Scenario, folder: Path) -> None:
    if scenario.command[0] == "dvc":
        clone(folder)
    else:
        folder.mkdir(parents=True)
        project.write_params(folder)


def clone(folder: Path, **params: Any) -> None:
    """A clone of this repository whose params.yaml asks for little."""
    made = project.run(folder.parent, folder, ("git", "clone", "--quiet", f"file://{project.ROOT}", str(folder)))
    assert made.status == 0, made.said
    project.write_params(folder, **params)


def copied(reference: Reference, folder: Path, store: Path | None = None) -> tuple[Path, Path]:
    """The project and the store of a reference in a folder; a store that is there already is left as it is."""
    store = store or folder / "store"
    _copy(reference.folder, folder / "project")
    if not store.exists():
        _copy(reference.store, store)
    return folder / "project", store


def _copy(source: Path, target: Path) -> None:
    shutil.copytree(source, target, symlinks=True)


def trial(scenario: Scenario, reference: Reference, seed: int, folder: Path) -> dict[str, Any]:
    """Kill the command once, or thrice in a row, at moments drawn by the seed, and then let it end."""
    draw = random.Random(seed)
    work, store = copied(reference, folder)
    row: dict[str, Any] = {"scenario": scenario.name, "kills": 0, "lost": 0, "finished": 0}
    found: list[str] = []
    finished: dict[Path, int] = {}
    for _ in range(draw.choice((1, 1, 1, 3))):
        project.remove(work, [] if scenario.command[0] == "dvc" else scenario.outs)
        whole = draw.random() < 0.5  # the group of processes, or only its leader
        row["kills"] += _killed(work, store, scenario, draw.uniform(0.2, 1.0) * reference.seconds, whole, found)
        found += [f"torn: {name}" for name in torn(store)]
        found += [f"changed: {name}" for name in _changed(work, scenario, reference)]
        row["lost"] += _redone(finished)
        finished = items(store)
    row["finished"] = len(finished)
    project.remove(work, [] if scenario.command[0] == "dvc" else scenario.outs)
    done = project.run(work, store, scenario.command)
    row["lost"] += _redone(finished)
    if done.status:
        found.append(f"does not go on: {done.said[-300:]}")
    elif project.digests(work, scenario.outs) != reference.outs:
        found.append("ends otherwise than undisturbed")
    return row | ({"fault": "; ".join(found)} if found or row["lost"] else {})


def _killed(work: Path, store: Path, scenario: Scenario, after: float, whole: bool, found: list[str]) -> int:
    """1 if it was still at work; what its group leaves behind by itself is a fault."""
    process = project.start(work, store, scenario.command)
    time.sleep(after)
    if process.poll() is not None:
        process.communicate()
        return 0
    if whole:
        os.killpg(process.pid, signal.SIGKILL)
    else:
        process.kill()
    process.wait()
    if not project.group_is_empty(process.pid) and scenario.command[0] != "dvc":
        found.append("left processes behind")
    _end_rest(process.pid)
    process.communicate()
    return 1


def _end_rest(leader: int) -> None:
    try:
        os.killpg(leader, signal.SIGKILL)
    except ProcessLookupError:
        return
    project.group_is_empty(leader)


def items(store: Path) -> dict[Path, int]:
    """Finished items, and when each was written. What has an ending beside them is a second name of a shard."""
    files = [path for path in store.glob("*/??/*") if path.is_file() and "." not in path.name]
    return {path: path.stat().st_mtime_ns for path in files}


def torn(store: Path) -> list[str]:
    """Items whose bytes are not those that their digest is of."""
    contents = ((path, path.read_bytes()) for path in items(store))
    return [p.name for p, data in contents if hashlib.sha256(data[_DIGEST:]).digest() != data[:_DIGEST]]


def _redone(finished: dict[Path, int]) -> int:
    """How many items that were finished are gone, or were made again."""
    return sum(not path.exists() or path.stat().st_mtime_ns != written for path, written in finished.items())


def _changed(work: Path, scenario: Scenario, reference: Reference) -> list[str]:
    """Whole files among the outs that an undisturbed run would have otherwise."""
    if scenario.command[0] == "dvc":
        return []  # a stage that has not begun has its committed outs
    there = project.digests(work, scenario.outs)
    return [name for name, digest in there.items() if reference.outs.get(name) != digest]
