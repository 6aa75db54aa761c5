"""avs.sampling.anchors: exact integers."""

from __future__ import annotations

import json
from pathlib import Path

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from avs.core.errors import InputError
from avs.core.params import build
from avs.sampling.anchors import AnchorParams, max_high_anchors, select_anchors

CASES = json.loads((Path(__file__).parent / "golden/avs_vectors.json").read_text())["cases"]
SCORES = [0.0, 0.0, 5.0, 4.9, 0.0, 0.0, 0.0, 4.6, 0.0, 0.0]


@pytest.mark.parametrize("case", [c for c in CASES if c["op"] == "anchors_from_scores"], ids=lambda c: c["id"])
def test_select_golden(case: dict) -> None:
    if "error" in case:
        with pytest.raises(ValueError, match="must be"):
            select_anchors(**case["input"])
    else:
        assert select_anchors(**case["input"]) == case["expected"]


@pytest.mark.parametrize("case", [c for c in CASES if c["op"] == "max_high_anchors"], ids=lambda c: c["id"])
def test_max_high_golden(case: dict) -> None:
    knobs = {("cap" if key == "max_high_anchors" else key): value for key, value in case["input"].items()}
    if "error" in case:
        with pytest.raises(ValueError, match="policy"):
            max_high_anchors(**knobs)
    elif case.get("reference_bug"):
        # dev-0170: the reference raises a cap of 0 to 1; a cap is a cap.
        assert max_high_anchors(**knobs) == knobs["cap"] == 0
    else:
        assert max_high_anchors(**knobs) == case["expected"]


def test_refusals_name_the_value() -> None:
    with pytest.raises(InputError, match=r"k \(-1\) must be >= 0"):
        select_anchors(SCORES, k=-1)
    with pytest.raises(InputError, match=r"select \('best'\) must be one of topk, nms, nms_strong"):
        select_anchors(SCORES, k=1, select="best")  # type: ignore[arg-type]
    with pytest.raises(InputError, match=r"score of second 1 \(nan\) must be finite"):
        select_anchors([0.0, float("nan")], k=1)


def test_gate_is_strict_in_float32() -> None:
    std = float(np.std(np.asarray(SCORES, dtype=np.float32)))
    assert select_anchors(SCORES, k=1, std_threshold=std) == [2]
    assert select_anchors(SCORES, k=1, std_threshold=float(np.nextafter(std, 9))) == []


def test_arrays_are_taken_and_plain_integers_returned() -> None:
    anchors = select_anchors(np.array(SCORES, dtype=np.float32), k=2)
    assert anchors == [2, 3]
    assert all(type(anchor) is int for anchor in anchors)


@pytest.mark.parametrize(("scores", "expected"), [([1.0], [0]), ([1.0, 2.0], [1, 0]), ([3.0, 1.0, 2.0], [0, 2])])
def test_strong_nms_where_nothing_is_far(scores: list[float], expected: list[int]) -> None:
    assert select_anchors(scores, k=3, select="nms_strong", nms_radius=5) == expected


@given(
    st.lists(st.integers(-3, 3).map(float), max_size=12),
    st.integers(0, 5),
    st.integers(0, 3),
    st.integers(-4, 4),
    st.sampled_from(["topk", "nms", "nms_strong"]),
)
def test_anchors_are_distinct_inside_and_best_first(
    scores: list[float], k: int, radius: int, shift: int, select: str
) -> None:
    anchors = select_anchors(scores, k=k, select=select, nms_radius=radius, shift=shift)  # type: ignore[arg-type]
    assert len(set(anchors)) == len(anchors) <= k
    assert all(0 <= anchor < len(scores) for anchor in anchors)
    ranks = [(-scores[anchor - shift], anchor - shift) for anchor in anchors]
    assert ranks == sorted(ranks)
    if select == "nms":
        assert all(abs(a - b) > radius for a in anchors for b in anchors if a != b)


def test_params() -> None:
    assert build(AnchorParams, {}, "params.yaml").std_threshold == "auto"
    assert build(AnchorParams, {"std_threshold": 1, "shift": -1}, "params.yaml").std_threshold == 1.0


@pytest.mark.parametrize(
    "tree",
    [
        {"nms_radius": -1},
        {"nms_strong_gap": -0.1},
        {"high_adjacent_dist": -1},
        {"high_gap_threshold": -1.0},
        {"std_threshold": -1.0},
        {"std_threshold": "none"},
        {"select": "best"},
        {"high_policy": "other"},
    ],
    ids=str,
)
def test_params_refuse(tree: dict) -> None:
    with pytest.raises(InputError, match=next(iter(tree))):
        build(AnchorParams, tree, "params.yaml")
