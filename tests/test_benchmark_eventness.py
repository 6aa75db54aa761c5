"""The table of docs/eventness.md: every backend has a row, and the figures are those that were measured."""

import json
from pathlib import Path

import numpy as np
import pytest

from avs.audio.backend import find_backend
from avs.audio.eventness import make_backend, methods
from avs.core.clips import Clip
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
        assert cells[4:5] == [str(find_backend(method).scale.std_threshold)], method


def test_the_docs_quote_what_was_measured() -> None:
    assert benchmark.table(FIGURES) in DOCS
    assert FIGURES["command"] == "python -m benchmarks.eventness"
    assert FIGURES["machine"] in DOCS
    assert {name.split()[0] for name in FIGURES["methods"]} >= set(methods())


def test_random_weights_have_no_recall() -> None:
    for row in FIGURES["methods"].values():
        assert (row["recall_d0"] is None) == (row["weights"] == "random")
        assert row["cpu_seconds_per_clip"] > 0


def blips(count: int) -> tuple[list[Clip], np.ndarray]:
    """Clips of silence, the even ones for training, with a tone in two seconds that are the event."""
    sounds = np.zeros((count, 160000), np.float32)
    clips = []
    for i in range(count):
        start = (3 * i) % 9
        sounds[i, start * 16000 : (start + 2) * 16000] = 0.1 * (-1.0) ** np.arange(32000)
        clips.append(Clip(str(i), ("train", "test")[i % 2], "tone", start, start + 2, 10, f"v{i}", f"v{i}"))
    return clips, sounds


@pytest.mark.parametrize(("method", "kind"), [("energy", "none"), ("audio_basic_lr", "learnt")])
def test_a_backend_that_hears_the_event_is_judged_so(method: str, kind: str) -> None:
    clips, sounds = blips(20)
    test = [i for i, clip in enumerate(clips) if clip.split == "test"]
    scores, row = benchmark._scored(make_backend(method), clips, sounds, test)
    assert row["weights"] == kind
    judged = benchmark._judged(scores, row["std_threshold"], np.stack([clips[i].event() for i in test]))
    assert judged == {"recall_d0": 1.0, "fallback": 0.0}


def test_absent_pairs_are_told(tmp_path: Path) -> None:
    with pytest.raises(InputError, match="name their folder"):
        benchmark.main(tmp_path / "nothing")
