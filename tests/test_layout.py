import numpy as np
import pytest

from avs.core.clips import Clip
from avs.localization.arms import ARMS, check_budgets, clip_costs, propose
from avs.localization.layout import Material, _derangement, curve_plans, lay_out
from avs.sampling.anchors import AnchorParams
from avs.sampling.tokens import BudgetParams

BUDGET = BudgetParams()
LINEAR = {160: 1.0, 224: 1.96, 352: 4.84}  # as many GFLOPs as tokens
STEEP = {160: 1.0, 224: 2.0, 352: 6.0}


def material(gflops: dict[int, float] = LINEAR, budget: BudgetParams = BUDGET, clips: int = 30, k: int = 2) -> Material:
    """Clips with an event of two to five seconds that a sound gives away, but for every third one, which is flat."""
    rng = np.random.default_rng(0)
    rows, proposals = [], []
    for n in range(clips):
        start, length = int(rng.integers(0, 6)), int(rng.integers(2, 6))
        split = ("train", "train", "test")[n % 3]
        rows.append(Clip(f"{n}-v", split, "a", start, min(10, start + length), 10, f"{n}.mp4", "0"))
        scores = rng.random(10) / 100 + (9.0 * rows[-1].event() if n % 4 else 0.0)
        proposals.append(propose(scores, k=k, std_threshold=1.0, p=AnchorParams()))
    return Material(rows, proposals, rng.random((clips, 10)), gflops, budget, k)


def plan(name: str, m: Material, seeds: int = 2) -> np.ndarray:
    return lay_out(ARMS[name].evaluated, m, seeds)


def test_shuffled_plans_are_those_of_other_clips_of_the_split() -> None:
    m = material()
    anchored, shuffled = plan("anchored_topk", m)[0], plan("anchored_shuffled", m)
    for split in ("train", "test"):
        rows = m.of_split(split)
        for seed in range(2):
            assert sorted(map(tuple, shuffled[seed, rows])) == sorted(map(tuple, anchored[rows]))
    assert (shuffled[0] != shuffled[1]).any()
    np.testing.assert_array_equal(shuffled, plan("anchored_shuffled", m))


@pytest.mark.parametrize("size", [0, 1, 2, 3, 20])
def test_nothing_stays_in_its_place(size: int) -> None:
    for seed in range(20):
        drawn = _derangement(size, np.random.default_rng(seed))
        assert sorted(drawn) == list(range(size))
        assert size == 1 or not (drawn == np.arange(size)).any()


def test_permuted_plans_keep_their_seconds_but_not_their_order() -> None:
    m = material()
    anchored, permuted = plan("anchored_topk", m)[0], plan("anchored_permuted", m)
    np.testing.assert_array_equal(np.sort(permuted[0]), np.sort(anchored))
    assert (permuted[0] != anchored).any()
    assert (permuted[0] != permuted[1]).any()


def test_constant_anchors_are_learnt_from_the_training_clips_alone() -> None:
    m = material()
    often = m.events[m.of_split("train")].sum(axis=0)
    high = np.flatnonzero(plan("constant_topk", m)[0, 0] == 352)
    assert often[high].sum() == np.sort(often)[-2:].sum()
    assert len(np.unique(plan("constant_topk", m).reshape(-1, 10), axis=0)) == 1
    changed = [Clip(**vars(c) | {"start": 0.0, "end": 1.0}) if c.split == "test" else c for c in m.clips]
    other = Material(changed, m.proposals, m.motion, m.gflops, m.budget, m.k)
    np.testing.assert_array_equal(plan("constant_topk", other), plan("constant_topk", m))


def test_the_constant_plan_hears_nothing_even_where_scores_say_who_gets_base_resolution() -> None:
    m = material(budget=BudgetParams(base_alloc="score"))
    assert len(np.unique(plan("constant_topk", m).reshape(-1, 10), axis=0)) == 1


def test_visual_anchors_are_where_most_moves() -> None:
    m = material()
    high = [set(np.flatnonzero(row == 352)) for row in plan("visual_topk", m)[0]]
    assert high == [set(np.argsort(row)[-2:]) for row in m.motion]


def test_no_plan_spends_more_on_the_event_than_the_best_oracle() -> None:
    m = material()
    cost = np.vectorize(BUDGET.costs.get)
    best = (cost(plan("oracle_best", m)[0]) * m.events).sum(axis=1)
    for name, arm in ARMS.items():
        if arm.budget_matched:
            assert ((cost(plan(name, m)) * m.events).sum(axis=-1) <= best).all(), name
    assert (best > (cost(plan("oracle_first", m)[0]) * m.events).sum(axis=1)).any()
    np.testing.assert_array_equal(plan("oracle_first", m), plan("oracle_topk", m))


def test_random_training_is_judged_by_the_anchored_plan() -> None:
    arm = ARMS["train_random_eval_anchored"]
    m = material()
    np.testing.assert_array_equal(lay_out(arm.plan, m, 2), plan("random_topk", m))
    np.testing.assert_array_equal(lay_out(arm.evaluated, m, 2), plan("anchored_topk", m))


@pytest.mark.parametrize(("gflops", "other"), [(STEEP, 352), ({160: 1.0, 224: 3.0, 352: 7.0}, 160)])
def test_flops_are_matched_by_seconds_that_know_nothing(gflops: dict[int, float], other: int) -> None:
    m = material(gflops)
    anchored, matched = plan("anchored_topk", m)[0], plan("flop_matched_uniform", m)[0]
    for split in ("train", "test"):
        rows = m.of_split(split)
        missed = clip_costs(anchored[rows], gflops).sum() - clip_costs(matched[rows], gflops).sum()
        assert abs(missed) <= abs(gflops[other] - gflops[224]) / 2
        counts = (matched[rows] == other).sum(axis=1)
        assert counts.sum() > 0
        assert np.ptp(counts) <= 1
    assert set(np.unique(matched)) == {224, other}


def test_where_flops_follow_tokens_the_matched_arm_is_the_uniform_one() -> None:
    np.testing.assert_array_equal(plan("flop_matched_uniform", material()), plan("uniform", material()))


def test_every_point_of_the_curve_meets_its_budget_exactly() -> None:
    m = material()
    curve = curve_plans(m, (0.125, 0.3, 0.625))
    assert list(curve) == [1000, 1480, 1960, 2152, 3400, 4840]
    for tokens, kinds in curve.items():
        for plans in kinds.values():
            assert (clip_costs(plans, BUDGET.costs) == tokens).all()
    for tokens in (1480, 3400):
        assert len(np.unique(curve[tokens]["even"], axis=0)) == 1
        cost = np.vectorize(BUDGET.costs.get)
        spent = [(cost(curve[tokens][kind]) * m.events).sum() for kind in ("even", "anchored", "oracle")]
        assert spent == sorted(spent)
    np.testing.assert_array_equal(curve[1960]["even"], plan("uniform", m)[0])
    np.testing.assert_array_equal(curve[1960]["anchored"], plan("anchored_topk", m)[0])
    np.testing.assert_array_equal(curve[1960]["oracle"], plan("oracle_best", m)[0])
    assert list(curve_plans(m, ())) == [1000, 1960, 4840]


def test_a_triad_that_does_not_divide_gives_every_arm_a_budget_within_the_slack() -> None:
    budget = BudgetParams(low_res=112, base_res=160, high_res=224, allocator="optimal", slack=12)
    m = material({112: 1.0, 160: 2.0, 224: 4.0}, budget)
    by_arm = {name: plan(name, m) for name in ARMS}
    assert check_budgets(by_arm, budget) == 1000
    assert (by_arm["anchored_topk"] == 224).any()
    for tokens, kinds in curve_plans(m, (0.5,)).items():
        for plans in kinds.values():
            spent = clip_costs(plans, budget.costs)
            assert ((tokens - 12 <= spent) & (spent <= tokens)).all()


def test_slack_is_left_only_where_the_event_gets_more_for_it() -> None:
    budget = BudgetParams(low_res=112, base_res=160, high_res=224, allocator="optimal", slack=200)
    m = material({112: 1.0, 160: 2.0, 224: 4.0}, budget)
    curve, uniform = curve_plans(m, ()), plan("uniform", m)[0]
    np.testing.assert_array_equal(curve[1000]["even"], uniform)
    assert (curve[1960]["even"] == 224).all()
    without = [Clip(**vars(clip) | {"end": clip.start}) for clip in m.clips]
    silent = Material(without, m.proposals, m.motion, m.gflops, budget, m.k)
    np.testing.assert_array_equal(plan("oracle_best", silent)[0], uniform)


@pytest.mark.parametrize("k", [0, 1, 5, 12])
def test_all_arms_can_be_laid_out_for_any_k(k: int) -> None:
    m = material(k=k)
    assert check_budgets({name: plan(name, m) for name in ARMS}, BUDGET) == 1960
