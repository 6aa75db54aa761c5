"""The p0 step of the benchmarks, on few clips: both sides find the same accuracy, or it is told."""

from __future__ import annotations

from dataclasses import replace

import pytest

from avs.core.execute import one_thread
from benchmarks.speed import p0
from benchmarks.speed.ave_size import write_features
from benchmarks.speed.step import Clock, Found

SMALL = replace(p0.TRAINING, hidden=16, seeds=3, epochs=3)


@pytest.fixture(scope="module")
def sides(tmp_path_factory: pytest.TempPathFactory) -> tuple[Found, Found]:
    folder = tmp_path_factory.mktemp("p0")
    write_features(folder / "cache", folder / "eventness", 60, 32)
    clocks = Clock(), Clock()
    with one_thread():  # more would wait for each other where cores are shared
        ours, alternative = p0.ours(folder, clocks[0], SMALL), p0.alternative(folder, clocks[1], SMALL)
    return ours | {"seconds": clocks[0].seconds}, alternative | {"seconds": clocks[1].seconds}


def test_both_sides_judge_the_nine_arms(sides: tuple[Found, Found]) -> None:
    ours, alternative = sides
    assert [len(seeds) for seeds in ours["accuracy"]] == [3] * 9
    assert [len(seeds) for seeds in alternative["accuracy"]] == [p0.ALONE] * 9
    assert alternative["seconds"] > 0
    assert (ours["models"], ours["columns"], ours["steps"]) == (27, 32, 3 * 3)


def test_accuracy_must_be_the_same_within_the_noise_of_the_seeds() -> None:
    same = [[0.70, 0.71, 0.69]] * 9
    ours = {"accuracy": same, "float32_accuracy": [row[:2] for row in same], "float32_seconds": 1.0}
    assert p0.check(ours, {"accuracy": [[0.70, 0.705]] * 9, "seeds_timed": 2})["seed_sd"] == 0.01
    with pytest.raises(SystemExit, match="differs from alternative"):
        p0.check(ours, {"accuracy": [[0.60, 0.60]] * 9, "seeds_timed": 2})
    with pytest.raises(SystemExit, match="differs from float32"):
        p0.check(ours | {"float32_accuracy": [[0.8, 0.8]] * 9}, {"accuracy": same, "seeds_timed": 3})
