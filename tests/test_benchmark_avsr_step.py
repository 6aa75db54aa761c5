"""The committed figures of a training step: of the command that is named, and of a system that learns."""

import json
from pathlib import Path

from benchmarks import avsr_step as benchmark

FIGURES = json.loads((Path(__file__).resolve().parents[1] / "docs/results/avsr_step.json").read_text())


def test_the_figures_are_complete() -> None:
    assert FIGURES["command"] == "python -m benchmarks.avsr_step"
    assert sorted(FIGURES["precisions"]) == sorted(benchmark.PRECISIONS)
    for row in FIGURES["precisions"].values():
        assert row["parameters"] > 400e6
        assert row["memory_mb"] > row["kept_mb"]
        assert len(row["loss"]) == benchmark.STEPS
        assert row["loss"][-1] < row["loss"][0]
    assert benchmark.table(FIGURES).count("\n") == 1 + len(benchmark.PRECISIONS)


def test_the_batch_is_one_of_speech() -> None:
    batch = benchmark.Noise().batch(0, 0)
    assert batch.mixture.shape == (benchmark.CLIPS, 640 * batch.lips.shape[1])
    assert batch.padding_mask() is None
    assert not batch.mixture.equal(benchmark.Noise().batch(1, 0).mixture)
