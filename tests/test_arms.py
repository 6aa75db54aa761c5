import numpy as np
import pytest

from avs.core.clips import Clip
from avs.core.errors import InputError
from avs.localization.arms import ARMS, check_budgets, mean_cost, propose
from avs.localization.layout import Material, lay_out
from avs.sampling.anchors import AnchorParams
from avs.sampling.tokens import BudgetParams

BUDGET = BudgetParams()
PEAKED = np.array([0.0, 0, 9, 0, 0, 0, 0, 0, 0, 0])


def clip(number: int, start: float = 2, end: float = 5) -> Clip:
    return Clip(f"{number}-x", "test", "Dog", start, end, 10, "x.mp4", "0")


def material(
    *, k: int = 2, scores: np.ndarray = PEAKED, budget: BudgetParams = BUDGET, clips: list[Clip] | None = None
) -> Material:
    clips = clips or [clip(n) for n in range(20)]
    proposals = [propose(scores, k=k, std_threshold=1.0, p=AnchorParams()) for _ in clips]
    gflops = {160: 1.0, 224: 2.0, 352: 6.0}
    motion = np.tile(np.arange(10.0), (len(clips), 1))
    return Material(clips, proposals, motion, gflops, budget, k)


def table(name: str, *, seeds: int = 2, **change) -> np.ndarray:
    return lay_out(ARMS[name].evaluated, material(**change), seeds)


def high(plan: np.ndarray) -> list[int]:
    return np.flatnonzero(plan == BUDGET.high_res).tolist()


def test_each_arm_looks_where_its_name_says() -> None:
    assert (table("uniform") == 224).all()
    assert (table("uniform_low") == 160).all()
    assert high(table("anchored_topk")[0, 0]) == [0, 2]
    assert high(table("oracle_topk")[0, 0]) == [2, 3]
    np.testing.assert_array_equal(table("audio_concat_anchored_topk"), table("anchored_topk"))


def test_random_anchors_differ_between_seeds_and_clips_but_not_between_runs() -> None:
    first = table("random_topk")
    assert not np.array_equal(first[0], first[1])
    assert len({tuple(row) for row in first[0]}) > 5
    np.testing.assert_array_equal(first, table("random_topk"))


@pytest.mark.parametrize("alloc", ["distance", "score", "farthest", "mixed"])
@pytest.mark.parametrize("k", [0, 1, 2, 3, 12])
def test_every_matched_arm_spends_the_uniform_budget(alloc: str, k: int) -> None:
    budget = BudgetParams(base_alloc=alloc)  # type: ignore[arg-type]
    by_arm = {name: table(name, k=k, budget=budget) for name in ARMS}
    assert check_budgets(by_arm, budget) == 1960
    assert mean_cost(by_arm["uniform_low"], {160: 100, 224: 196, 352: 484}) == 1000


def test_one_differing_clip_fails_the_run() -> None:
    by_arm = {name: np.array(table(name)) for name in ARMS}
    by_arm["anchored_topk"][1, 3, 0] = 160
    by_arm["anchored_topk"][1, 3, 2] = 160
    with pytest.raises(InputError, match=r"different numbers of tokens.*anchored_topk"):
        check_budgets(by_arm, BUDGET)


def test_flat_scores_fall_back_to_uniform() -> None:
    proposal = propose(PEAKED / 100, k=2, std_threshold=1.0, p=AnchorParams())
    assert (proposal.fallback, proposal.anchors, proposal.ungated) == (True, [], [2, 0])
    assert (table("anchored_topk", scores=PEAKED / 100) == 224).all()


def test_anchors_that_are_all_shifted_out_are_a_fallback() -> None:
    proposal = propose(PEAKED, k=1, std_threshold=1.0, p=AnchorParams(shift=8))
    assert (proposal.anchors, proposal.fallback) == ([], True)
    assert not propose(PEAKED, k=0, std_threshold=1.0, p=AnchorParams()).fallback


def test_the_cap_and_the_adaptive_policy_bound_the_high_seconds() -> None:
    adjacent = np.array([0.0, 0, 9, 8, 0, 0, 0, 0, 0, 0])
    adaptive = AnchorParams(high_policy="adaptive_v1")
    assert propose(adjacent, k=2, std_threshold=1.0, p=adaptive).max_high == 1
    assert propose(adjacent, k=2, std_threshold=1.0, p=AnchorParams(), cap=1).max_high == 1
    assert propose(adjacent, k=2, std_threshold=1.0, p=AnchorParams()).max_high is None
