"""Learning curves: what DVCLive writes holds steps and values, and nothing that differs from run to run."""

from __future__ import annotations

import json
from pathlib import Path

import pytest

from avs.avsr.curves import Curves

ROWS = [{"step": 2, "loss": 3.5, "lr": 0.1}, {"step": 4, "loss": 1.25, "lr": 0.2, "score": 7.0}]


def files(folder: Path) -> dict[Path, bytes]:
    return {path.relative_to(folder): path.read_bytes() for path in folder.rglob("*") if path.is_file()}


def test_steps_and_values(tmp_path: Path) -> None:
    with Curves(tmp_path) as curves:
        for row in ROWS:
            curves.log(row)
    assert (tmp_path / "plots/metrics/loss.tsv").read_text() == "step\tloss\n2\t3.5\n4\t1.25\n"
    assert (tmp_path / "plots/metrics/score.tsv").read_text() == "step\tscore\n4\t7.0\n"
    assert json.loads((tmp_path / "metrics.json").read_text()) == {"step": 4, "loss": 1.25, "lr": 0.2, "score": 7.0}
    assert len(files(tmp_path)) == 4


def test_resumed_ones_are_those_of_one_run(tmp_path: Path) -> None:
    """A row that was logged after the last checkpoint is not there twice."""
    with Curves(tmp_path / "whole") as curves:
        for row in ROWS:
            curves.log(row)
    stopped = Curves(tmp_path / "killed", ROWS[:1])
    stopped.log({"step": 3, "loss": 9.0, "other": 1.0})
    with Curves(tmp_path / "killed", ROWS[:1]) as curves:
        curves.log(ROWS[1])
    assert files(tmp_path / "killed") == files(tmp_path / "whole")


def test_none(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    with Curves(None, ROWS) as curves:
        curves.log(ROWS[0])
    assert not list(tmp_path.iterdir())
