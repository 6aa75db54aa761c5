import json
from pathlib import Path

import numpy as np
import pytest

from avs.config import load_config
from avs.report.results import load_results
from avs.report.run_facts import arm_seconds, encoding_pace, write_run

ROOT = Path(__file__).resolve().parents[1]


def test_an_arm_takes_what_its_plan_costs_mean_over_clips_and_seeds() -> None:
    rows = [
        {"plans": {"uniform": [2, 2], "random": [[1, 3], [3, 3]]}},
        {"plans": {"uniform": [2, 2], "random": [[1, 1], [1, 1]]}},
    ]
    found = arm_seconds(rows, {1: 0.1, 2: 0.2, 3: 0.3})
    assert found == pytest.approx({"uniform": 0.4, "random": (0.4 + 0.6 + 0.2 + 0.2) / 4})


class Counting:
    """Stands for an encoder; knows what it was given."""

    def __init__(self) -> None:
        self.given: list[tuple[int, ...]] = []

    def batch_size(self, resolution: int) -> int:
        return 5

    def prepare(self, frames: list[np.ndarray], resolution: int) -> np.ndarray:
        return np.zeros((len(frames), 3, resolution, resolution), np.uint8)

    def embed(self, images: np.ndarray) -> np.ndarray:
        self.given.append(images.shape)
        return images


def test_pace_is_measured_on_whole_batches_at_each_resolution_in_turn(monkeypatch: pytest.MonkeyPatch) -> None:
    encoder = Counting()
    monkeypatch.setattr("avs.report.run_facts.load_encoder", lambda *_, **__: encoder)
    pace = encoding_pace([np.zeros((16, 16, 3), np.uint8)] * 2, [32, 64], load_config(ROOT / "params.yaml"))
    assert encoder.given == [(5, 3, 32, 32), (5, 3, 64, 64)] * 3
    assert pace.keys() == {32, 64}
    assert min(pace.values()) > 0


def test_the_run_lies_in_a_script_and_names_its_results(
    page_study: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    config = load_config(ROOT / "params.yaml")
    monkeypatch.chdir(tmp_path)  # no Git, no dvc.lock, no cost.json: it says so and goes on
    monkeypatch.setattr("avs.report.run_facts.load_encoder", lambda *_, **__: Counting())
    results = load_results(page_study / "results", page_study / "media")
    write_run(tmp_path / "run.js", results, config)
    text = (tmp_path / "run.js").read_text()
    facts = json.loads(text.removeprefix("window.AVS_RUN = ").removesuffix(";\n"))
    assert facts["results"] == results.fingerprint
    assert facts["params"]["report"]["clips"] == 60
    assert (facts["cost"], facts["environment"]) == ({}, {})
    assert "unknown" in facts["looks"]
    assert facts["seconds_figure"].startswith("<svg")
    assert "at 112" in facts["seconds_note"]
    assert text.count("<") == 0
