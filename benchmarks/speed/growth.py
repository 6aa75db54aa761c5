"""Seconds and peak memory of install, preprocess, eventness and cache with everything in the store, by the number of
clips: `python -m benchmarks.speed.growth 100 1000 10000` adds to `docs/results/growth.json`."""

from __future__ import annotations

import json
import sys
import tempfile
from collections.abc import Sequence
from pathlib import Path
from unittest.mock import patch

from benchmarks import RESULTS, record
from benchmarks.speed import clone, one_clip

NAME = "growth"


def main(numbers: Sequence[str]) -> None:
    for clips in map(int, numbers):
        path = RESULTS / f"{NAME}.json"
        known = json.loads(path.read_text())["stages"] if path.exists() else {}
        known[str(clips)] = measured(clips)
        print(clips, known[str(clips)], flush=True)
        record(NAME, {"stages": known}, command=f"python -m benchmarks.speed.{NAME} {' '.join(known)}")


def measured(clips: int) -> dict[str, dict[str, float]]:
    """Of each stage the seconds, without the start of Python, and the MiB, where it finds all items."""
    with tempfile.TemporaryDirectory(prefix="avs-growth-") as folder, patch.dict("os.environ", AVS_STORE=f"{folder}/s"):
        place = Path(folder) / "clone"
        one_clip.start(place)
        _add(place, clips)
        _stage(place, "install", "clips")
        one_clip.fill_media(place)
        _stage(place, "preprocess", "clips")
        one_clip.fill_features(place)
        _stage(place, "eventness")
        _stage(place, "cache")
        cost = json.loads((place / "results/cost.json").read_text())
    return {stage: {"seconds": it["seconds"], "peak_mib": it["peak_mib"]["process"]} for stage, it in cost.items()}


def _add(place: Path, clips: int) -> None:
    """Rows of videos which nobody decodes: a few bytes each."""
    for number in range(clips):
        (place / f"mine/{number}.mkv").write_text(str(number))
    rows = [f"{number}.mkv\tclass {number % 28}\t1\t4\t{('train', 'test')[number % 2]}\n" for number in range(clips)]
    with (place / "rows.tsv").open("a") as file:
        file.writelines(rows)


def _stage(place: Path, name: str, *arguments: str) -> None:
    clone.run(place, sys.executable, "-m", f"stages.{name}", *arguments)


if __name__ == "__main__":
    main(sys.argv[1:])
