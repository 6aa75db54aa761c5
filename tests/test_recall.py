"""avs.localization.recall: 1e-12 against enumeration, half the last digit against figures measured on AVE."""

from __future__ import annotations

import json
from itertools import combinations, pairwise
from pathlib import Path

import numpy as np
import pytest

from avs.core.errors import InputError
from avs.localization.recall import recall_at_k, recall_table

CASES = json.loads((Path(__file__).parent / "golden/avs_vectors.json").read_text())["cases"]
AVE = Path(__file__).resolve().parents[2] / "shared" / "ave"


@pytest.mark.parametrize("case", [c for c in CASES if c["op"] == "recall"], ids=lambda c: c["id"])
def test_recall_golden(case: dict) -> None:
    i = case["input"]
    recall = recall_at_k(i["event_segments"], i["anchors"], num_seconds=i["num_segments"], delta=i["delta"])
    assert recall == pytest.approx(case["expected"]["recall"], abs=1e-12)


@pytest.mark.parametrize(("num_seconds", "k"), [(10, 1), (10, 2), (10, 3), (7, 3), (6, 3), (3, 2), (1, 1)])
def test_controls_equal_enumeration(num_seconds: int, k: int) -> None:
    rng = np.random.default_rng(num_seconds * 10 + k)
    events = rng.random((6, num_seconds)) < rng.random((6, 1))
    events[0] = True
    table = recall_table(events, [[0]] * 6, k=k)
    kept = events[events.any(axis=1)]
    subsets = list(combinations(range(num_seconds), k))
    widest = max(min((b - a for a, b in pairwise(s)), default=3) for s in subsets)
    spaced = [all(b - a >= min(3, widest) for a, b in pairwise(s)) for s in subsets]
    for delta in 0, 1, 2:
        recalls = np.array(
            [[recall_at_k(np.flatnonzero(e), s, num_seconds=num_seconds, delta=delta) for s in subsets] for e in kept]
        )
        key = f"recall_d{delta}"
        assert table["random"][key] == pytest.approx(recalls.mean(), abs=1e-12)
        assert table["constant"][key] == pytest.approx(recalls.mean(axis=0).max(), abs=1e-12)
        assert table["best"][key] == pytest.approx(recalls.max(axis=1).mean(), abs=1e-12)
        assert table["random_spaced"][key] == pytest.approx(recalls[:, spaced].mean(), abs=1e-12)
    precision = np.array([[e[list(s)].mean() for s in subsets] for e in kept])
    assert table["random"]["precision_d0"] == pytest.approx(kept.mean(), abs=1e-12)
    assert table["constant"]["precision_d0"] == pytest.approx(precision.mean(axis=0).max(), abs=1e-12)
    assert table["best"]["precision_d0"] == pytest.approx(precision.max(axis=1).mean(), abs=1e-12)


def test_anchors_row_leaves_out_clips_without_events() -> None:
    events = np.array([[1, 1, 0, 0], [0, 0, 0, 0], [0, 0, 0, 1], [1, 0, 0, 0]], dtype=bool)
    row = recall_table(events, [[0, 3], [1], [2], []], k=2)["anchors"]
    assert row == pytest.approx(
        {"recall_d0": 0.5 / 3, "recall_d1": 2 / 3, "recall_d2": 2 / 3, "precision_d0": 0.25}, abs=1e-12
    )


def test_degenerate_k() -> None:
    events = np.array([[True, False, False]])
    nothing = recall_table(events, [[]], k=0)
    assert all(value == 0 for row in nothing.values() for value in row.values())
    assert {frozenset(row) for row in nothing.values()} == {frozenset(nothing["anchors"])}
    assert recall_table(events, [[0]], k=9)["random"]["recall_d0"] == 1.0


def test_long_clips_stay_exact_and_quick() -> None:
    events = np.zeros((2, 120), dtype=bool)
    events[:, 40:60] = True
    table = recall_table(events, [[40], [0]], k=10)
    assert table["random"]["precision_d0"] == pytest.approx(20 / 120, abs=1e-12)
    assert table["best"] == pytest.approx({"recall_d0": 0.5, "recall_d1": 1, "recall_d2": 1, "precision_d0": 1})


def test_refusals() -> None:
    with pytest.raises(InputError, match=r"delta \(-1\) must be >= 0"):
        recall_at_k([1], [1], num_seconds=10, delta=-1)
    with pytest.raises(InputError, match=r"k \(-1\) must be >= 0"):
        recall_table(np.ones((1, 3), dtype=bool), [[0]], k=-1)
    with pytest.raises(InputError, match="at least one clip with an event"):
        recall_table(np.zeros((1, 3), dtype=bool), [[0]], k=1)
    with pytest.raises(InputError, match=r"anchors \(2 clips\).*events \(1 clips\)"):
        recall_table(np.ones((1, 3), dtype=bool), [[0], [1]], k=1)


MEASURED = {
    "test": {
        "random": (0.2000, 0.5035, 0.7081),
        "random_spaced": (0.1996, 0.5513, 0.7876),
        "constant": (0.2120, 0.6120, 1.0),
        "best": (0.3058, 0.7188, 1.0),
    },
    "val": {"random": (0.2000, 0.5024, 0.7057), "best": (0.3097, 0.7230, 1.0)},
}


@pytest.mark.skipif(not AVE.exists(), reason="the AVE annotation files are not beside this repository")
@pytest.mark.parametrize("split", MEASURED)
def test_controls_on_ave(split: str) -> None:
    rows = [line.split("&") for line in (AVE / f"{split}Set.txt").read_text(encoding="utf-8").split("\n") if line]
    spans = np.array([[int(row[3]), int(row[4])] for row in rows])
    seconds = np.arange(10)
    events = (seconds >= spans[:, :1]) & (seconds < spans[:, 1:])
    assert len(events) == 402
    table = recall_table(events, [[7, 8]] * 402, k=2)
    for name, figures in MEASURED[split].items():
        assert [table[name][f"recall_d{d}"] for d in (0, 1, 2)] == pytest.approx(figures, abs=5.1e-5)
    if split == "test":
        assert table["anchors"]["recall_d0"] == pytest.approx(table["constant"]["recall_d0"], abs=1e-12)
        assert table["random"]["precision_d0"] == pytest.approx(0.822, abs=5e-4)
