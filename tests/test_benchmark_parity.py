"""The committed differences from the originals: of the command that is named, complete, and within their tolerances."""

import json
from pathlib import Path

from benchmarks import parity

FIGURES = json.loads((Path(__file__).resolve().parents[1] / "docs/results/parity.json").read_text())


def test_the_figures_are_complete() -> None:
    assert FIGURES["command"] == "python -m benchmarks.parity"
    rows = [row for part in ("front_ends", "avhubert", "fairseq") for row in FIGURES[part]]
    assert len(rows) == 19
    assert all(0 <= row["difference"] < row["tolerance"] for row in rows)


def test_the_tables_have_a_line_each() -> None:
    row = {"what": "a", "difference": 1.44e-6, "tolerance": 2e-5, "relative": False}
    figures = {"avhubert": [row, row | {"what": "b", "difference": 0.0, "relative": True}]}
    assert parity.table(figures).splitlines()[2:] == ["| a | 1.4e-6 | 2e-5 |", "| b | 0 relative | 2e-5 |"]
