"""The table of docs/eventness.md: every backend has a row, and the figures are those that were measured."""

import json
from pathlib import Path

import numpy as np
import pytest

from avs.audio.eventness import Backend, auto_std_threshold, make_backend, methods
from avs.core.errors import InputError
from benchmarks import eventness as benchmark

ROOT = Path(__file__).resolve().parents[1]
DOCS = (ROOT / "docs/eventness.md").read_text()
FIGURES = json.loads((ROOT / "docs/results/eventness.json").read_text())


def test_every_backend_is_documented_with_its_scale() -> None:
    assert methods()
    for method in methods():
        row = next((line for line in DOCS.splitlines() if line.startswith(f"| `{method}` |")), "")
        cells = [cell.strip() for cell in row.split("|")]
        assert cells[4:5] == [str(auto_std_threshold(method))], method


def test_the_docs_quote_what_was_measured() -> None:
    assert benchmark.table(FIGURES) in DOCS
    assert FIGURES["command"] == "python -m benchmarks.eventness"
    assert FIGURES["machine"] in DOCS
    assert {name.split()[0] for name in FIGURES["methods"] if "+" not in name} >= {
        method for method in methods() if not method.startswith("audio_")
    }


def test_random_weights_have_no_recall() -> None:
    for row in FIGURES["methods"].values():
        assert (row["recall_d0"] is None) == (row["weights"] == "random")
        assert row["cpu_seconds_per_clip"] > 0


def test_a_backend_that_hears_the_event_is_judged_so() -> None:
    sounds = np.zeros((2, 160000), np.float32)
    events = np.zeros((2, 10), bool)
    for clip, second in enumerate((3, 7)):
        sounds[clip, second * 16000 : (second + 2) * 16000] = 0.1 * (-1.0) ** np.arange(32000)
        events[clip, second : second + 2] = True
    backend: Backend = make_backend("energy")
    judged = benchmark._judged(backend, sounds, events)
    assert (judged["recall_d0"], judged["fallback"], judged["weights"]) == (1.0, 0.0, "none")


def test_absent_pairs_are_told(tmp_path: Path) -> None:
    with pytest.raises(InputError, match="name their folder"):
        benchmark.main(tmp_path / "nothing")
