"""The committed figures of MuSE's front-end: of the command that is named, and in bounded memory."""

import json
from pathlib import Path

from benchmarks import muse as benchmark

FIGURES = json.loads((Path(__file__).resolve().parents[1] / "docs/results/muse.json").read_text())


def test_the_figures_are_complete() -> None:
    assert FIGURES["command"] == "python -m benchmarks.muse"
    assert FIGURES["cores_1"]["largest_difference"] < 1e-5
    ours, plain = (FIGURES["peak_mib"][kind] for kind in ("ours", "plain"))
    assert ours["3000"] < plain["750"]
    assert benchmark.table(FIGURES).count("\n") == 1 + 2 + len(benchmark.LENGTHS["ours"])
