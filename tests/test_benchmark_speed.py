"""The frame of the benchmarks: both sides in turn in processes of their own, rows kept beside each other, the chart."""

import json
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from avs.core.clips import Clip, read_table
from avs.preprocess import MediaShards
from benchmarks.speed import __main__ as bench
from benchmarks.speed import ave_size, chart
from benchmarks.speed.step import Clock, Limit, Step, load, measured

ROOT = Path(__file__).resolve().parents[1]
ROW = {"goal": 5, "ours": 1.0, "alternative": 6.0, "ratio": 6.0, "limit": 8.0, "limit_is": "a rate"} | dict.fromkeys(
    ("what", "alternative_is"), "words"
)
OPEN = ROW | dict.fromkeys(("ours", "alternative", "ratio", "limit", "limit_is")) | {"open": "no device"}


def test_every_step_is_there_and_says_what_it_compares() -> None:
    for name in bench.STEPS:
        step = load(name)
        assert step.what
        assert step.alternative_is
        assert step.goal is None or step.goal > 0


def a_step(**changes: Any) -> Step:
    return Step(
        what="a sum",
        alternative_is="another",
        goal=1.0,
        prepare=lambda folder: None,
        ours=lambda folder, clock: {},
        alternative=lambda folder, clock: {},
        **changes,
    )


def test_medians_of_runs_in_turn(monkeypatch: pytest.MonkeyPatch) -> None:
    seconds = iter([1.0, 9.0, 3.0, 8.0, 2.0, 7.0])
    ran: list[str] = []

    def run(name: str, what: str, place: str, step: Step) -> dict[str, Any]:
        ran.append(what)
        return {} if what == "prepare" else {"seconds": next(seconds), "peak_mib": 5}

    monkeypatch.setattr(bench, "_run", run)
    row = bench.compare("x", a_step(limit=lambda ours, alternative: Limit(10.0, "why")))
    assert ran == ["prepare", *["ours", "alternative"] * 3]
    assert (row["ours"], row["alternative"], row["ratio"], row["limit"]) == (2.0, 8.0, 4.0, 10.0)
    assert row["runs"] == {"ours": [1.0, 3.0, 2.0], "alternative": [9.0, 8.0, 7.0]}


def test_what_cannot_run_here_stays_open_with_its_command() -> None:
    row = bench.compare("cache_gpu", a_step(needs=lambda: "no CUDA device"))
    assert row["ratio"] is None
    assert row["open"] == "no CUDA device; measured by: python -m benchmarks.speed cache_gpu"


def test_rows_of_other_steps_are_kept(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("benchmarks.RESULTS", tmp_path)
    monkeypatch.setattr(bench, "RESULTS", tmp_path)
    bench.keep("p0", ROW)
    bench.keep("noop", OPEN)
    kept = json.loads((tmp_path / "benchmarks.json").read_text())
    assert kept["p0"] == ROW
    assert kept["noop"] == OPEN
    assert kept["command"] == "make bench"


def test_the_clock_counts_what_is_inside(monkeypatch: pytest.MonkeyPatch) -> None:
    times = iter([1.0, 3.5, 10.0, 11.0])
    monkeypatch.setattr("time.perf_counter", lambda: next(times))
    clock = Clock()
    for _ in range(2):
        with clock:
            pass
    assert clock.seconds == 3.5


def test_a_side_reports_its_memory(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("benchmarks.speed.step.load", lambda name: a_step())
    found = measured("x", "ours", Path())
    assert found["peak_mib"] > 10


def test_generated_inputs_have_the_shapes_of_ave(tmp_path: Path) -> None:
    rows = ave_size.table()
    splits = [sum(row.split == name for row in rows) for name in ("train", "val", "test")]
    assert splits == [3339, 402, 402]
    assert len({row.label for row in rows}) == ave_size.CLASSES
    ave_size.write_media(tmp_path / "media", 3, (64, 48))
    shards = MediaShards(tmp_path / "media")
    assert [frame.shape for frame in shards.frames(shards.clips[2])] == [(48, 64, 3)] * 10
    assert shards.waveform(shards.clips[0]).shape == (160000,)
    ave_size.write_features(tmp_path / "cache", tmp_path / "eventness", 7, dim=4)
    assert np.load(tmp_path / "cache/res_352.npy").shape == (7, 10, 4)
    assert read_table(tmp_path / "eventness/index.tsv", Clip) == ave_size.table(7)


def test_the_chart_and_the_tables_tell_goals_limits_and_what_is_open(tmp_path: Path) -> None:
    figures = {"p0": ROW, "cache_gpu": OPEN, "noop": ROW | {"ratio": 0.5, "goal": 0.67}}
    chart.draw(figures, tmp_path / "a.svg")
    chart.draw(figures, tmp_path / "b.svg")
    drawn = (tmp_path / "a.svg").read_text()
    assert drawn == (tmp_path / "b.svg").read_text()
    assert "6×" in drawn
    assert "open" in drawn
    rows = chart.table(figures).splitlines()
    assert rows[2:] == [
        "| feature cache, GPU | open | | | 5 | |",
        "| p0: all arms, seeds | 1 s | 6 s | 6 | 5 ✓ | 8.0 |",
        "| nothing to do | 1 s | 6 s | 0.5 | 0.67 not met | 8.0 |",
    ]
    assert "**Open**: no device." in chart.words(figures)


def test_the_committed_figures_have_every_step() -> None:
    figures = json.loads((ROOT / "docs/results/benchmarks.json").read_text())
    for name in bench.STEPS:
        assert {"ours", "alternative", "ratio", "limit"} <= set(figures[name])
        assert (figures[name]["ratio"] is None) == ("open" in figures[name])
