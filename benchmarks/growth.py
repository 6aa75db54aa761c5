"""How the stages of the first study grow with the number of clips: seconds, memory and disk at 100, 1,000 and 10,000.

What a clip costs by itself (decoding, encoding) grows with their number, as benchmarks.json has it; here is what all
clips cost together. So videos, frames and features are in the store already, as items that were generated: stages read
them, put them together and write their outs. Only eventness and the studies compute. Frames are small, sound is whole.
"""

from __future__ import annotations

import argparse
import json
import os
import shutil
import sys
from collections.abc import Mapping
from contextlib import chdir
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Any
from unittest.mock import patch

import numpy as np

from avs.core.clips import Clip, read_table
from avs.core.store import root
from benchmarks import record
from benchmarks.speed import clone, one_clip

CLIPS = (100, 1000, 10_000)
STAGES = ("install clips", "preprocess clips", "eventness", "cache", "anchor_eval", "p0")
_PARAMS = {"p0.epochs": 1, "k": 2}
_NOTES = {
    "install": "digests of videos known",
    "preprocess": "all decoded before",
    "eventness": "energy, computed",
    "cache": "all encoded before",
    "anchor_eval": "",
    "p0": "5 seeds, 1 epoch, 1280-d",
}


def main() -> None:
    parser = argparse.ArgumentParser(prog="python -m benchmarks.growth", description=__doc__)
    parser.add_argument("clips", nargs="*", type=int, default=CLIPS)
    sizes = {str(clips): measured(clips) for clips in parser.parse_args().clips}
    figures = {"sizes": sizes}
    record("growth", figures)
    print(table(figures))


def measured(clips: int) -> dict[str, Any]:
    """Seconds and MiB of each stage, and bytes of what they wrote."""
    with TemporaryDirectory(prefix="avs-growth-") as folder, patch.dict(os.environ, AVS_STORE=f"{folder}/store"):
        place = Path(folder) / "clone"
        with patch.object(one_clip, "_pictures", _small_pictures):
            one_clip.start(place, **_PARAMS)
            one_clip.add(place, range(clips))
            _run(place, "install clips")  # which learns the digests
            one_clip.fill_media(read_table(place / "data/install/clips/clips.tsv", Clip))
        found = {stage.split()[0]: _run(place, stage) for stage in STAGES[:3]}
        with chdir(place):
            one_clip.fill_cache()
        shutil.rmtree(place / "data/cache")
        found |= {stage: _run(place, stage) for stage in STAGES[3:]}
        for name in ("media/clips", "eventness", "cache"):
            stage = {"media/clips": "preprocess"}.get(name, name)
            found[stage]["bytes"] = _bytes(place / "data" / name)
        return found | {"store_bytes": _bytes(root())}


def _run(place: Path, stage: str) -> dict[str, Any]:
    clone.run(place, sys.executable, "-m", f"stages.{stage.split()[0]}", *stage.split()[1:])
    cost = json.loads((place / "results/cost.json").read_text())[stage.replace(" ", "@")]
    return {"seconds": cost["seconds"], "peak_mib": max(cost["peak_mib"].values())}


def _small_pictures() -> list[np.ndarray]:
    return list(np.random.default_rng(0).integers(0, 256, (160, 8, 8, 3), dtype=np.uint8))


def _bytes(folder: Path) -> int:
    return sum(path.stat().st_size for path in folder.rglob("*") if path.is_file())


def table(figures: Mapping[str, Any]) -> str:
    """A row a stage, two columns a size."""
    sizes = figures["sizes"]
    head = [f"{int(clips):,} clips" for clips in sizes]
    lines = [f"| stage | {' | '.join(head)} | |", "|---" * (len(head) + 2) + "|"]
    for stage, note in _NOTES.items():
        cells = [f"{rows[stage]['seconds']:.1f} s, {rows[stage]['peak_mib']} MiB" for rows in sizes.values()]
        lines.append(f"| `{stage}` | {' | '.join(cells)} | {note} |")
    outs = [f"{sum(row.get('bytes', 0) for row in _stages(rows)) / 1e9:.2f} GB" for rows in sizes.values()]
    kept = [f"{rows['store_bytes'] / 1e9:.2f} GB" for rows in sizes.values()]
    lines += [f"| outs | {' | '.join(outs)} | small frames |", f"| item store | {' | '.join(kept)} | the same |"]
    return "\n".join(lines)


def _stages(rows: Mapping[str, Any]) -> list[Mapping[str, Any]]:
    return [rows[stage] for stage in _NOTES]


if __name__ == "__main__":
    main()
