"""avs.sampling.allocate against brute force: exact integers."""

from itertools import product

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from avs.core.errors import InputError
from avs.sampling.allocate import allocate, reachable, spread

COSTS = (100, 196, 484)


def brute_force(utility: np.ndarray, costs: tuple[int, ...], budget: int, slack: int) -> list[int] | None:
    """Every plan tried, by the documented order: worth, cost, then the earlier second's cost, then the first level."""
    seconds = range(len(utility))
    plans = [
        plan
        for plan in product(range(len(costs)), repeat=len(utility))
        if budget - slack <= sum(costs[r] for r in plan) <= budget and all(utility[t, plan[t]] > -1e9 for t in seconds)
    ]
    if not plans:
        return None
    key = lambda plan: (  # noqa: E731
        sum(utility[t, plan[t]] for t in seconds),
        sum(costs[r] for r in plan),
        [(costs[r], -r) for r in plan],
    )
    return list(max(plans, key=key))


@settings(max_examples=150, deadline=None)
@given(st.data())
def test_the_best_plan_is_the_one_that_trying_all_finds(data: st.DataObject) -> None:
    seconds, levels = data.draw(st.integers(1, 5)), data.draw(st.integers(1, 4))
    costs = tuple(data.draw(st.lists(st.integers(1, 9), min_size=levels, max_size=levels)))
    worth = st.lists(st.integers(-3, 3), min_size=levels, max_size=levels)
    utility = np.array(data.draw(st.lists(worth, min_size=seconds, max_size=seconds)))
    forbidden = np.array(data.draw(st.lists(st.booleans(), min_size=utility.size, max_size=utility.size)))
    exact = np.where(forbidden.reshape(utility.shape) & data.draw(st.booleans()), -np.inf, utility)
    budget, slack = data.draw(st.integers(0, 40)), data.draw(st.integers(0, 5))
    expected = brute_force(exact, costs, budget, slack)
    if expected is None:
        with pytest.raises(InputError, match=rf"budget \({budget} tokens, slack {slack}\) cannot be met"):
            allocate(exact, costs, budget, slack=slack)
    else:
        assert allocate(exact, costs, budget, slack=slack) == expected
        if np.isfinite(exact).all():
            assert allocate(utility, costs, budget, slack=slack) == expected  # whole numbers as they are


def test_the_studied_budget_is_met_exactly_at_any_share() -> None:
    scores = np.random.default_rng(0).random(10)
    for budget in (1000, 1480, 1960, 3400, 4840):
        plan = allocate(scores[:, None] * np.array(COSTS), COSTS, budget)
        assert sum(COSTS[r] for r in plan) == budget


def test_float_sums_that_are_equal_count_as_equal() -> None:
    """0.1 + 0.2 and 0.3 differ in their last bit: the earlier second must still get more."""
    utility = np.array([[0.0, 0.3], [0.1, 0.2], [0.2, 0.4]])
    assert allocate(utility, (1, 2), 4) == [1, 0, 0]


def test_whole_worths_are_exact_where_some_are_forbidden() -> None:
    """-inf makes them floats; in steps of a third of the largest, 2 + 2 would be more than 1 + 3."""
    utility = np.array([[-np.inf, 2, 1], [-np.inf, 3, 2]])
    assert allocate(utility, (1, 1, 7), 8) == [2, 1]


def test_what_cannot_be_met_names_what_can() -> None:
    with pytest.raises(InputError, match="nearest totals that can: 1864, 1960"):
        allocate(np.zeros((10, 3)), COSTS, 1900)
    assert sum(COSTS[r] for r in allocate(np.zeros((10, 3)), COSTS, 1900, slack=36)) == 1864
    with pytest.raises(InputError, match="nearest totals that can: 1000"):
        allocate(np.zeros((10, 3)), COSTS, 999)
    only_low = np.array([[0, -np.inf]] * 3)
    with pytest.raises(InputError, match=r"nearest totals that can: 3$"):
        allocate(only_low, (1, 2), 4)


@pytest.mark.parametrize(
    ("utility", "costs", "budget", "message"),
    [
        (np.zeros((2, 2)), (1,), 2, "must be"),
        (np.zeros((2, 1)), (0,), 2, "must be"),
        (np.zeros((2, 1)), (1,), -1, "budget"),
        (np.full((2, 1), np.nan), (1,), 2, "numbers"),
        (np.full((2, 1), np.inf), (1,), 2, "numbers"),
        (np.full((9, 1), 2**58), (1,), 9, "too large"),
    ],
)
def test_what_makes_no_sense_is_refused(utility: np.ndarray, costs: tuple, budget: int, message: str) -> None:
    with pytest.raises(InputError, match=message):
        allocate(utility, costs, budget)


def test_a_long_clip_with_many_resolutions() -> None:
    rng = np.random.default_rng(1)
    costs = (49, 100, 196, 324, 484, 784)
    plan = allocate(rng.random((60, 6)), costs, 60 * 196)
    assert sum(costs[r] for r in plan) == 60 * 196


@given(st.lists(st.lists(st.integers(1, 9), min_size=1, max_size=3), max_size=5))
def test_reachable_totals_are_all_sums(choices: list[list[int]]) -> None:
    assert reachable(choices) == sorted({sum(one) for one in product(*choices)})


@given(st.dictionaries(st.integers(0, 5), st.integers(0, 12), min_size=1, max_size=4))
def test_levels_are_spread_evenly(counts: dict[int, int]) -> None:
    placed = spread(counts)
    assert {level: placed.count(level) for level in counts} == counts
    for level, count in counts.items():
        for length in range(len(placed) + 1):  # with several levels none runs ahead or behind by two
            assert abs(placed[:length].count(level) - count * length / max(1, len(placed))) < 2
