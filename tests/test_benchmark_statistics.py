"""docs/statistics.md quotes what was measured, and what was measured can be measured again, on a small scale."""

import json
from pathlib import Path

import numpy as np
import pytest

from avs.core.clips import Clip, write_table
from avs.core.errors import InputError
from avs.core.store import write_array
from avs.localization.p0 import TESTED
from avs.localization.train import P0Params
from avs.localization.uncertainty import MAIN
from benchmarks import null_training
from benchmarks import statistics as benchmark

ROOT = Path(__file__).resolve().parents[1]
DOCS = (ROOT / "docs/statistics.md").read_text()
FIGURES = json.loads((ROOT / "docs/results/statistics.json").read_text())
NOTHING = dict.fromkeys(TESTED, 0.0)


def test_the_docs_quote_what_was_measured() -> None:
    assert benchmark.table(FIGURES) in DOCS
    assert FIGURES["command"] == "python -m benchmarks.statistics"
    assert FIGURES["machine"] in DOCS


def test_what_was_measured_is_calibrated() -> None:
    """200 studies each: .05 within 3.3 standard errors, since many rates are looked at. Power is .8 within as many or
    more, since scores near their ceiling vary less with the effect than without, from which it is foretold."""
    assert FIGURES["studies"] == 200
    rows = [row[m] for row in FIGURES["simulated"].values() for m in TESTED]
    assert all(abs(row["false_positive_rate"] - 0.05) < 0.051 for row in rows)
    assert all(row["power"] > 0.8 - 0.094 for row in rows)
    assert all(row["family_wise_rate"] < 0.101 for row in FIGURES["simulated"].values())
    assert min(row["false_positive_rate_t_test"] for row in rows) > 0.15


def test_simulated_nulls_are_rejected_at_their_level(monkeypatch: pytest.MonkeyPatch) -> None:
    """Of 150 studies 5 %, within 2.7 standard errors; the t-test over seeds, which misses the clips, rejects more."""
    monkeypatch.setattr(benchmark, "CONTRASTS", [MAIN])
    monkeypatch.setattr(benchmark, "RESAMPLES", 300)
    rng = np.random.default_rng(0)
    rows = [benchmark.judge(benchmark.simulate(30, 5, rng), NOTHING) for _ in range(150)]
    for measure in TESTED:
        found = benchmark.rates([row[measure] for row in rows])
        assert found["found"] == pytest.approx(0.05, abs=0.048)
        assert found["covered"] == pytest.approx(0.95, abs=0.048)
        assert found["found_t_test"] > 0.15
    assert benchmark.rates([row["family"] for row in rows])["found"] < 0.1


def test_the_planted_effect_is_as_large_as_said() -> None:
    """Within three standard errors of 4,000 clips with an event and 20 seeds; arms that get nothing are equal."""
    effect = {"accuracy": 0.05, "class_event": 0.2}
    scores = benchmark.simulate(5000, 20, np.random.default_rng(0), effect)
    for measure, error in (("accuracy", 0.0032), ("class_event", 0.01)):
        first, second, other = (scores[measure][arm] for arm in (*MAIN, "random_topk"))
        assert np.nanmean(first - second) == pytest.approx(effect[measure], abs=3 * error)
        assert np.nanmean(other - second) == pytest.approx(0, abs=3 * error)
        assert np.nanmean(second) == pytest.approx(benchmark.SPREADS[measure].right, abs=3 * error)
    assert np.isnan(scores["class_event"]["uniform"]).mean() == pytest.approx(0.2, abs=0.02)
    assert not np.isnan(scores["accuracy"]["uniform"]).any()


def test_answers_become_scores_and_swapped_arms_are_alike(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    rng = np.random.default_rng(0)
    right = [[0, 1, 1, 0]] * 3
    rows = [
        {
            "target": [0, 1, 1, 0] if n else [0] * 4,
            "answers": {MAIN[0]: right, MAIN[1]: [[0, 1, 0, int(rng.random() < 0.5)]] * 3},
            "answers_foreground": {MAIN[0]: right, MAIN[1]: [[1, 1, 2, 2]] * 3},
        }
        for n in range(12)
    ]
    (tmp_path / "rows").write_text("\n".join(json.dumps(row) for row in rows))
    scores = benchmark.read_answers(tmp_path / "rows")
    assert scores["accuracy"].shape == (2, 3, 12)
    np.testing.assert_allclose(scores["accuracy"][0, 0, 1:], 1)
    np.testing.assert_allclose(scores["class_event"][1, :, 1:], 0.5)
    assert np.isnan(scores["class_event"][:, :, 0]).all()
    monkeypatch.setattr(benchmark, "STUDIES", 40)
    monkeypatch.setattr(benchmark, "RESAMPLES", 200)
    found = benchmark.resampled(scores["class_event"], 11, rng)
    assert found["effect"] == 0.5
    assert found["power"] == 1.0
    assert found["false_positive_rate"] < 0.2
    with pytest.raises(InputError, match="run: dvc repro"):
        benchmark.read_answers(tmp_path / "absent")


def test_arms_of_the_trainer_differ_in_their_plans_only(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    rng = np.random.default_rng(0)
    splits = ["train", "test"] * 12
    clips = [Clip(str(n), split, "ab"[n // 2 % 2], 2, 5, 10, f"{n}", "0") for n, split in enumerate(splits)]
    write_table(tmp_path / "index.tsv", clips, Clip)
    for resolution in (160, 224, 352):
        write_array(tmp_path / f"res_{resolution}.npy", rng.normal(size=(24, 10, 6)).astype(np.float32))
    material = null_training.load_material(tmp_path, components=4)
    assert material.features.shape == (3, 24, 10, 4)
    monkeypatch.setattr(null_training, "AT_ONCE", 2)
    p = P0Params(head="mlp", hidden=8, seeds=2, epochs=2, batch_size=4)
    for apart in (False, True):
        pairs = [np.array(pair) for pair in null_training.trained_nulls(material, 2, apart=apart, p=p)]
        assert [pair.shape for pair in pairs] == [(2, 2, 12)] * 2
        assert not np.array_equal(pairs[0][0], pairs[0][1])
    runs = null_training.reruns(material, 3, p)
    assert runs.shape == (3, 2, 12)
    wandered = benchmark.wander(runs)
    assert wandered["lowest"] <= wandered["highest"]
