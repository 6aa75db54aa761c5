"""Two stages on a Ray cluster of three nodes, one of which is killed in the middle of each: what is seen, lost, made.

The nodes are Ray's test cluster: processes of this machine, one core each. Clips are the demo's, made for this.

    python -m benchmarks.cluster            # 120 clips; or --clips N
"""

from __future__ import annotations

import argparse
import fcntl
import os
import pty
import re
import struct
import subprocess
import sys
import termios
import threading
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Any

import yaml

from benchmarks import record
from benchmarks.speed.ave_size import data_digest

ROOT = Path(__file__).resolve().parents[1]
CLIPS, NODES = 120, 3
STAGES = {"preprocess": "media", "cache": "features"}  # and the store whose items tell how far it is
OUTS = {"preprocess": Path("data/media/clips"), "cache": Path("data/cache")}
_COLUMNS, _SECONDS = 150, 2.0  # of the terminal that stages see; between two lines of progress in the transcript
_AGAIN = re.compile(r"died; run again: (\d+) clips")


class Project:
    """A folder with parameters, in which stages run as `dvc repro` runs them, with an item store of its own."""

    def __init__(self, folder: Path, clips: int, execution: dict[str, Any]) -> None:
        self.folder, self.store = folder, folder / "store"
        folder.mkdir()
        params = yaml.safe_load((ROOT / "params.yaml").read_text())
        params["dataset"], params["execution"] = "demo", execution
        params["data"]["demo"] |= {"train": clips - 2, "val": 1, "test": 1}
        params["cache"]["weights"] = "random"  # as good as published ones to compare bytes
        (folder / "params.yaml").write_text(yaml.safe_dump(params))
        self._environment = os.environ | {
            "PYTHONPATH": str(ROOT),
            "AVS_STORE": str(self.store),
            "AVS_DATA_DIR": str(folder.parent / "raw"),
        }

    def run(self, *stage: str) -> Iterator[str]:
        """Lines that a stage writes to a terminal, as they come. Raises where it fails."""
        ours, its = pty.openpty()
        fcntl.ioctl(its, termios.TIOCSWINSZ, struct.pack("HHHH", 40, _COLUMNS, 0, 0))
        command = [sys.executable, "-m", f"stages.{stage[0]}", *stage[1:]]
        process = subprocess.Popen(command, cwd=self.folder, env=self._environment, stdin=its, stdout=its, stderr=its)
        os.close(its)
        with os.fdopen(ours, encoding="utf-8", errors="replace", newline="") as terminal:
            yield from filter(None, map(_plain, _lines(terminal)))
        if process.wait():
            raise SystemExit(f"{' '.join(command)} ended with status {process.returncode}")

    def items(self, kind: str) -> int:
        return len([path for path in (self.store / kind).glob("*/*") if not path.name.startswith(".")])


def _lines(terminal: Any) -> Iterator[str]:
    try:
        text = ""
        while piece := terminal.read(1):
            if piece in "\r\n":
                yield text
                text = ""
            else:
                text += piece
    except OSError:  # the other end of a terminal is gone
        return


def _plain(line: str) -> str:
    """Without colours, and without the drawn part of a bar."""
    return re.sub(r"%\|[^|]*\|", "% |", re.sub(r"\x1b\[[0-9;]*m", "", line)).strip()


def thinned(lines: Iterator[str]) -> Iterator[str]:
    """All that is said, and progress every two seconds, with the seconds since the start."""
    began = last = time.monotonic()
    for line in lines:
        now, is_bar = time.monotonic(), "% |" in line
        if not is_bar or now - last >= _SECONDS or "100% |" in line:
            last = now if is_bar else last
            yield f"{now - began:6.1f} s  {line}"


def when(reached: Callable[[], bool], act: Callable[[], None], over: threading.Event) -> threading.Thread:
    """A thread that acts once it is so, unless all is over before."""

    def watch() -> None:
        while not over.wait(0.05):
            if reached():
                act()
                return

    thread = threading.Thread(target=watch)
    thread.start()
    return thread


def with_a_death(cluster: Any, project: Project, stage: str, clips: int) -> tuple[list[str], float]:
    """The transcript of a stage during which a node that joined before it is killed, and seconds."""
    victim = cluster.add_node(**_node(1))
    log: list[str] = []

    def say(line: str) -> None:
        print(line, flush=True)
        log.append(line)

    def kill() -> None:
        say(f"--- node {victim.node_id[:4]} is killed: {project.items(STAGES[stage])} items are in the store ---")
        cluster.remove_node(victim, allow_graceful=False)

    wanted = clips * (3 if stage == "cache" else 1)  # items: a clip at each of three resolutions
    over, began = threading.Event(), time.monotonic()
    killer = when(lambda: project.items(STAGES[stage]) >= 0.4 * wanted, kill, over)
    say(f"$ python -m stages.{stage}")
    for line in thinned(project.run(*_arguments(stage))):
        say(line)
    seconds = time.monotonic() - began
    over.set()
    killer.join()
    if not any("is killed" in line for line in log):
        raise SystemExit(f"{stage} ended before a node could be killed: take more clips")
    return log, seconds


def _arguments(stage: str) -> list[str]:
    return [stage, "clips"] if stage in ("install", "preprocess") else [stage]


def _node(cores: int) -> dict[str, Any]:
    return {"num_cpus": cores, "num_gpus": 0, "object_store_memory": 100 * 2**20}


def measure(folder: Path, clips: int) -> dict[str, Any]:
    os.environ["RAY_USAGE_STATS_ENABLED"] = "0"
    from ray.cluster_utils import Cluster

    local = Project(folder / "local", clips, {"backend": "process", "workers": NODES, "devices": "cpu"})
    for stage in ("install", *STAGES):
        for line in thinned(local.run(*_arguments(stage))):
            print(f"local   {line}", flush=True)
    cluster = Cluster(initialize_head=True, head_node_args=_node(1) | {"include_dashboard": False})
    try:
        cluster.add_node(**_node(1))
        spread = {"backend": "ray", "address": cluster.address, "workers": "auto", "devices": "cpu"}
        away = Project(folder / "ray", clips, spread)
        list(away.run(*_arguments("install")))
        found = {stage: _compared(cluster, local, away, stage, clips) for stage in STAGES}
    finally:
        cluster.shutdown()
    return {"clips": clips, "nodes": NODES, "stages": found}


def _compared(cluster: Any, local: Project, away: Project, stage: str, clips: int) -> dict[str, Any]:
    log, seconds = with_a_death(cluster, away, stage, clips)
    ours, theirs = (data_digest(project.folder / OUTS[stage]) for project in (away, local))
    print(f"{stage}: outs are {'equal' if ours == theirs else 'NOT EQUAL'} to the local run's\n", flush=True)
    if ours != theirs:
        raise SystemExit(f"{stage}: {ours} on Ray, {theirs} locally")
    again = sum(int(match[1]) for match in map(_AGAIN.search, log) if match)
    return {"seconds": round(seconds, 1), "run_again": again, "equal": ours == theirs, "outs": ours, "transcript": log}


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0] if __doc__ else "")
    parser.add_argument("--clips", type=int, default=CLIPS)
    clips = parser.parse_args().clips
    with TemporaryDirectory(prefix="avs-cluster-") as folder:
        figures = measure(Path(folder), clips)
    command = "python -m benchmarks.cluster" + (f" --clips {clips}" if clips != CLIPS else "")
    record("cluster", figures, command=command)


if __name__ == "__main__":
    main()
