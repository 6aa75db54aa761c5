"""avs.sampling.tokens: exact integers."""

from __future__ import annotations

import json
from pathlib import Path

import pydantic
import pytest

from avs.core.errors import InputError
from avs.core.params import build
from avs.sampling.tokens import BudgetParams, budget_ratio, tokens

CASES = json.loads((Path(__file__).parent / "golden/avs_vectors.json").read_text())["cases"]


@pytest.mark.parametrize("case", [c for c in CASES if c["op"] == "tokens"], ids=lambda c: c["id"])
def test_tokens_golden(case: dict) -> None:
    if "error" in case:
        with pytest.raises(ValueError, match=r"225.*16"):
            tokens(**case["input"])
    else:
        assert tokens(**case["input"]) == case["expected"]


@pytest.mark.parametrize(("resolution", "patch_size"), [(0, 16), (-16, 16), (224, 0), (224, -16), (8, 16)])
def test_tokens_refuses(resolution: int, patch_size: int) -> None:
    with pytest.raises(InputError, match=rf"\({resolution}\).*\({patch_size}\)"):
        tokens(resolution, patch_size)


def test_ratio_of_the_studied_triads() -> None:
    assert budget_ratio(160, 224, 352) == 4
    assert budget_ratio(112, 224, 448) == 5


@pytest.mark.parametrize(
    ("triad", "nearest"),
    [
        ((112, 160, 224), "112/128/208"),
        ((224, 352, 448), "176/304/464"),
        ((224, 224, 352), "160/224/352"),
        ((160, 224, 350), "160/224/352"),
    ],
)
def test_inexact_triad_is_named_with_a_way_out(triad: tuple[int, int, int], nearest: str) -> None:
    with pytest.raises(InputError) as caught:
        budget_ratio(*triad)
    assert "/".join(map(str, triad)) in str(caught.value)
    suggested = str(caught.value).split("nearest that can: ")[1].split(", ")
    assert suggested[0] == nearest
    assert len(suggested) == 3
    assert all(budget_ratio(*map(int, one.split("/"))) for one in suggested)


def test_no_triad_close_by() -> None:
    with pytest.raises(InputError, match="none close by"):
        budget_ratio(-1600, -1600, -1600)


def test_budget_params() -> None:
    budget = BudgetParams()
    assert budget.resolutions == (160, 224, 352)
    assert budget.clip_tokens(10) == 1960
    with pytest.raises(pydantic.ValidationError, match="112/160/224"):
        BudgetParams(low_res=112, base_res=160, high_res=224)


def test_the_optimal_allocator_takes_triads_that_do_not_divide() -> None:
    budget = BudgetParams(low_res=112, base_res=160, high_res=224, allocator="optimal", slack=12)
    assert (budget.costs, budget.clip_tokens(10)) == ({112: 49, 160: 100, 224: 196}, 1000)
    assert budget.max_high_seconds(10) == 2  # 2 * 196 + 4 * 100 + 4 * 49 = 988
    budget.require_a_high_second(10)
    none = BudgetParams(low_res=112, base_res=160, high_res=224, allocator="optimal")
    with pytest.raises(InputError, match=r"clips of 10 s cannot have.*slack 0\): set slack to 6"):
        none.require_a_high_second(10)
    one = BudgetParams(low_res=112, base_res=160, high_res=224, allocator="optimal", slack=6)
    assert one.max_high_seconds(10) > 0
    with pytest.raises(InputError, match="choose resolutions closer together"):
        BudgetParams(high_res=1600, allocator="optimal").require_a_high_second(3)
    with pytest.raises(InputError, match="choose resolutions that are closer together"):
        BudgetParams().require_a_high_second(3)


def test_both_allocators_allow_as_many_high_seconds() -> None:
    for seconds in range(1, 25):
        triad, optimal = BudgetParams(), BudgetParams(allocator="optimal")
        assert triad.max_high_seconds(seconds) == optimal.max_high_seconds(seconds) == seconds // 4


@pytest.mark.parametrize(
    ("tree", "message"),
    [
        ({"slack": 5}, r"slack \(5\) must be >= 0, and 0 unless allocator is optimal"),
        ({"slack": -1, "allocator": "optimal"}, r"slack \(-1\)"),
        ({"base_res": 352, "allocator": "optimal"}, r"160/352/352\) must ascend"),
        ({"base_res": 225, "allocator": "optimal"}, "225"),
        ({"allocator": "best"}, "allocator"),
        ({"max_high": -1}, r"max_high \(-1\) must be >= 0"),
        ({"patch_size": 0}, r"patch_size \(0\) must be >= 1"),
        ({"base_alloc": "nearest"}, "base_alloc"),
        ({"hi_res": 352}, "hi_res: unknown key"),
    ],
)
def test_budget_params_refuse(tree: dict, message: str) -> None:
    with pytest.raises(InputError, match=message):
        build(BudgetParams, tree, "params.yaml")
