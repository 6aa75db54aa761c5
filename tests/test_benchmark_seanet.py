"""The committed figures of SEANet: of the command that is named, and faster than a plain writing of the same graph."""

import json
from pathlib import Path

import torch

from avs.avsr.seanet import SEANet
from avs.core.execute import one_thread
from benchmarks import seanet as benchmark
from benchmarks.plain_seanet import plain_forward

FIGURES = json.loads((Path(__file__).resolve().parents[1] / "docs/results/seanet.json").read_text())


def test_the_figures_are_complete() -> None:
    assert FIGURES["command"] == "python -m benchmarks.seanet"
    assert [row["seconds"] for row in FIGURES["lengths"]] == list(benchmark.SECONDS)
    for row in FIGURES["lengths"]:
        assert row["ours"]["cpu_seconds"] > 0
        assert ("plain" in row) == (row["seconds"] <= benchmark.PLAIN_UP_TO)
        assert "plain" not in row or row["ratio"] > 1
    assert FIGURES["log_fbank"]["ratio"] > 1
    assert "not measured" in benchmark.table(FIGURES)


def test_both_say_the_same() -> None:
    """What is measured is the same result: 2e-5 of values up to 4."""
    torch.manual_seed(0)
    model, mixture, visual = SEANet().eval(), torch.randn(1, 5 * 640), torch.randn(1, 5, 512)
    with one_thread(), torch.inference_mode():
        torch.testing.assert_close(
            model(mixture, visual), plain_forward(model, mixture, visual)[0][-1], rtol=0, atol=1e-4
        )
