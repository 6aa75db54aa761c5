import json
from pathlib import Path

import numpy as np
import pytest

from avs.core.clips import Clip, read_table, write_table
from avs.core.errors import InputError
from avs.core.stats import holm
from avs.core.store import write_array, write_json, write_metrics
from avs.localization.anchor_eval import evaluate_anchors, recall_curves
from avs.localization.arms import ARMS
from avs.localization.p0 import CONTRASTS, EXPLANATORY, Result, contrasts, run_study
from avs.localization.rederive import anchors_again, p0_again
from avs.localization.train import P0Params
from avs.sampling.anchors import AnchorParams
from avs.sampling.tokens import BudgetParams

CLIPS, SECONDS, DIM = 60, 10, 6
P0 = P0Params(head="mlp", hidden=16, seeds=2, epochs=25, batch_size=4, lr=0.01, resamples=500)


@pytest.fixture
def stages(tmp_path: Path) -> Path:
    return lay_down(tmp_path)


@pytest.fixture(scope="module")
def result(tmp_path_factory: pytest.TempPathFactory) -> Result:
    """The study as it is, run once for the tests that only look at it."""
    return study(lay_down(tmp_path_factory.mktemp("stages")))


def lay_down(folder: Path) -> Path:
    """What `cache` and `eventness` would leave: the class shows at 352 px only, and sounds where it shows."""
    rng = np.random.default_rng(0)
    clips, scores, features = [], [], {r: [] for r in (160, 224, 352)}
    for n in range(CLIPS):
        start, label = int(rng.integers(0, 8)), n % 3
        event = np.isin(np.arange(SECONDS), [start, start + 1])
        split = ("train", "train", "val", "test")[n // 3 % 4]
        clips.append(Clip(f"{n}-v", split, "abc"[label], start, start + 2, SECONDS, f"{n}.mp4", "0"))
        scores.append(5.0 * event)
        for resolution, table in features.items():
            frame = 0.1 * rng.normal(size=(SECONDS, DIM))
            frame[:, 0] += event
            if resolution == 352:
                frame[:, 1 + label] += 2 * event
            table.append(frame)
    for part in ("cache", "eventness"):
        write_table(folder / part / "index.tsv", clips, Clip)
    for resolution, table in features.items():
        write_array(folder / f"cache/res_{resolution}.npy", np.array(table, dtype=np.float32))
    write_array(folder / "cache/motion.npy", rng.random((CLIPS, SECONDS), np.float32))
    write_json(folder / "cache/meta.json", {"patch_size": 16, "gflops": {"160": 1.0, "224": 2.0, "352": 5.0}})
    write_array(folder / "eventness/scores.npy", np.array(scores, dtype=np.float32))
    write_array(folder / "eventness/features.npy", rng.normal(size=(CLIPS, SECONDS, 10)).astype(np.float32))
    write_json(folder / "eventness/meta.json", {"scale": {"unit": "nat", "std_threshold": 1.0}, "failed_clips": 2})
    return folder


def study(stages: Path, p: P0Params = P0, **change):
    options = {"k": 2, "anchors": AnchorParams(), "budget": BudgetParams(), "p": p} | change
    return run_study(stages / "cache", stages / "eventness", **options)


def test_the_planted_effect_is_found_and_priced(result: Result) -> None:
    metrics = result.metrics
    assert (metrics["clips"], metrics["seeds"], metrics["tokens_per_clip"]) == (15, 2, 1960)
    assert metrics["failed_clips"] == 2
    assert set(metrics["arms"]) == set(ARMS)
    row = metrics["contrasts"]["class_event"]["anchored_topk-uniform"]
    assert row["diff"] > 0.3
    assert row["ci_low"] > 0
    assert row["p"] < 0.01
    assert metrics["arms"]["anchored_topk"]["class_event"]["mean"] > 0.95
    assert metrics["arms"]["uniform_low"]["tokens"] == 1000
    assert metrics["arms"]["uniform"]["gflops"] == 20
    assert metrics["arms"]["anchored_topk"]["gflops"] == 2 * 5 + 2 * 2 + 6 * 1


def test_differences_equal_the_differences_of_the_means(result: Result) -> None:
    metrics = result.metrics
    for measure, rows in metrics["contrasts"].items():
        assert len(rows) == len(CONTRASTS) + len(EXPLANATORY)
        for name, row in rows.items():
            a, b = name.split("-")
            means = [metrics["arms"][arm][measure]["mean"] for arm in (a, b)]
            assert row["diff"] == pytest.approx(means[0] - means[1], abs=1e-9)
            assert row["p_holm"] >= row["p"]


def test_the_metrics_can_be_recomputed_from_the_clip_rows(result: Result) -> None:
    rows = [json.loads(json.dumps(row)) for row in result.rows]
    target = np.array([row["target"] for row in rows])
    for arm in ARMS:
        answers = np.array([row["answers"][arm] for row in rows])
        accuracy = (answers == target[:, None]).mean()
        assert result.metrics["arms"][arm]["accuracy"]["mean"] == pytest.approx(accuracy)
    assert np.array(rows[0]["plans"]["random_topk"]).shape == (2, SECONDS)
    assert np.array(rows[0]["plans"]["uniform"]).shape == (SECONDS,)
    assert (np.array([row["answers_foreground"]["uniform"] for row in rows]) > 0).all()


def test_the_metrics_are_made_again_from_the_clip_rows(stages: Path) -> None:
    p = P0Params(**vars(P0) | {"eval_splits": ("test", "val"), "epochs": 1, "resamples": 50})
    result = study(stages, p)
    rows = [json.loads(json.dumps(row)) for row in result.rows]
    cost = {160: 1.0, 224: 2.0, 352: 5.0}
    again = p0_again(rows, splits=p.eval_splits, resamples=p.resamples, patch_size=16, gflops=cost)
    for tree, expected in ((again, result.metrics), (again["splits"]["val"], result.metrics["splits"]["val"])):
        assert tree["arms"] == expected["arms"]
        assert json.dumps(tree["contrasts"]) == json.dumps(expected["contrasts"])  # NaN is equal there
        assert (tree["clips"], tree["seeds"]) == (expected["clips"], expected["seeds"])
    assert "gflops" not in p0_again(rows, splits=["val"], resamples=9, patch_size=16)["arms"]["uniform"]


def test_the_recall_is_made_again_from_the_clip_rows(stages: Path) -> None:
    splits = ("test", "val")
    metrics, rows = evaluate_anchors(stages / "eventness", k=3, anchors=AnchorParams(select="nms"), splits=splits)
    again = anchors_again([json.loads(json.dumps(row)) for row in rows], splits=splits, k=3)
    for tree, expected in ((again, metrics), (again["splits"]["val"], metrics["splits"]["val"])):
        known = {name: value for name, value in expected.items() if name not in ("failed_clips", "splits")}
        assert {name: tree[name] for name in known} == known


def test_the_controls_explain_the_planted_effect(result: Result) -> None:
    """High resolution on the event is all there is: the plan alone, or in another order, is worth nothing."""
    found = result.metrics["contrasts"]["class_event"]
    assert found["plan_concat_uniform-uniform"]["diff"] < 0.15
    for control in ("plan_concat_uniform", "anchored_shuffled", "anchored_permuted", "constant_topk", "visual_topk"):
        assert found[f"anchored_topk-{control}"]["ci_low"] > 0, control
    arms = result.metrics["arms"]
    assert arms["oracle_first"] == arms["oracle_topk"]
    assert arms["uniform_high"]["tokens"] == 4840
    assert arms["train_random_eval_anchored"]["tokens"] == 1960
    row = result.rows[0]
    assert row["plans"]["train_random_eval_anchored"] == row["plans"]["anchored_topk"]
    assert len(row["motion"]) == SECONDS
    assert set(row["answers"]) == set(row["plans"]) == set(ARMS)


def test_each_family_has_a_holm_of_its_own(result: Result) -> None:
    for family in (CONTRASTS, EXPLANATORY):
        rows = [row[f"{a}-{b}"] for row in result.metrics["contrasts"].values() for a, b in family]
        adjusted = holm([row["p"] for row in rows])
        assert [row["p_holm"] for row in rows] == pytest.approx(adjusted)


def test_the_curve_runs_from_all_low_to_all_high(result: Result) -> None:
    metrics = result.metrics
    assert list(metrics["curve"]) == ["1000", "1480", "1960", "3400", "4840"]
    for tokens, kinds in metrics["curve"].items():
        assert set(kinds) == {"even", "anchored", "oracle"}
        assert {row["tokens"] for row in kinds.values()} == {float(tokens)}
    for measure in ("accuracy", "class_event"):  # the ends and the usual budget are arms already
        curve, arms = metrics["curve"], metrics["arms"]
        assert curve["1000"]["oracle"][measure] == arms["uniform_low"][measure]
        assert curve["1960"]["anchored"][measure] == arms["anchored_topk"][measure]
        assert curve["4840"]["even"][measure] == arms["uniform_high"][measure]
    assert [row["tokens"] for row in result.curve_plot] == [1000, 1480, 1960, 3400, 4840]


def test_the_diagnosis_counts_every_clip(result: Result) -> None:
    found = result.diagnosis["anchored_topk"]["class_event"]
    for kind in ("by_class", "by_event_length", "by_anchor_distance", "by_fallback"):
        assert sum(group["clips"] for group in found[kind].values()) == 15
    assert set(found["by_anchor_distance"]) == {"all_on_event"}
    assert found["by_fallback"]["anchored"]["ci_low"] > 0


def test_a_triad_that_does_not_divide_runs_within_its_slack(stages: Path) -> None:
    (stages / "cache/res_144.npy").write_bytes((stages / "cache/res_160.npy").read_bytes())
    write_json(stages / "cache/meta.json", {"patch_size": 16, "gflops": {"144": 1.0, "224": 2.0, "352": 5.0}})
    with pytest.raises(InputError, match="set slack to"):
        study(stages, budget=BudgetParams(low_res=144, allocator="optimal"))
    arms = study(stages, budget=BudgetParams(low_res=144, allocator="optimal", slack=60)).metrics["arms"]
    assert 1900 <= arms["anchored_topk"]["tokens"] < arms["uniform"]["tokens"] == 1960
    assert arms["anchored_topk"]["class_event"]["mean"] > arms["uniform"]["class_event"]["mean"] + 0.3


def test_the_same_run_twice_gives_the_same_bytes(stages: Path, result: Result) -> None:
    write_metrics(stages / "a", result.metrics)
    write_metrics(stages / "b", study(stages).metrics)
    assert (stages / "a").read_bytes() == (stages / "b").read_bytes()


def test_more_splits_come_beside_the_verdict(stages: Path, result: Result) -> None:
    both = study(stages, P0Params(**vars(P0) | {"eval_splits": ("test", "val"), "curve": ()})).metrics
    assert both["arms"] == result.metrics["arms"]
    assert set(both["splits"]) == {"val"}
    assert both["splits"]["val"]["clips"] == 15
    assert list(both["curve"]) == ["1000", "1960", "4840"]


@pytest.mark.parametrize("standardize", [False, True])
@pytest.mark.parametrize("head", ["mlp", "temporal_conv"])
def test_every_head_and_scaling_learns(stages: Path, standardize: bool, head: str) -> None:
    p = P0Params(**vars(P0) | {"standardize": standardize, "head": head})
    assert study(stages, p).metrics["arms"]["oracle_topk"]["class_event"]["mean"] > 0.8


def test_clips_without_event_count_for_accuracy_only(stages: Path) -> None:
    clips = read_table(stages / "cache/index.tsv", Clip)
    silent = [Clip(**vars(clip) | {"start": 0.0, "end": 0.0}) if n == 9 else clip for n, clip in enumerate(clips)]
    for folder in ("cache", "eventness"):
        write_table(stages / folder / "index.tsv", silent, Clip)
    metrics = study(stages).metrics
    assert metrics["clips"] == 15
    assert 0 <= metrics["arms"]["uniform"]["class_event"]["mean"] <= 1


def test_tables_that_do_not_fit_are_refused(stages: Path) -> None:
    clips = read_table(stages / "cache/index.tsv", Clip)
    write_table(stages / "cache/index.tsv", clips[1:], Clip)
    with pytest.raises(InputError, match="hold different clips"):
        study(stages)
    for folder in ("cache", "eventness"):
        only_training = [Clip(**vars(clip) | {"split": "train"}) for clip in clips]
        write_table(stages / folder / "index.tsv", only_training, Clip)
    with pytest.raises(InputError, match="no clip in split 'test'"):
        study(stages)


def test_equal_arms_differ_nowhere() -> None:
    scores = np.random.default_rng(0).random((3, 20))
    same = {measure: dict.fromkeys(ARMS, scores) for measure in ("accuracy", "class_event")}
    for rows in contrasts(same, resamples=200).values():
        for row in rows.values():
            assert (row["diff"], row["ci_low"], row["ci_high"], row["p"], row["p_holm"]) == (0, 0, 0, 1, 1)


def test_anchors_are_judged_beside_their_controls(stages: Path) -> None:
    metrics, rows = evaluate_anchors(stages / "eventness", k=2, anchors=AnchorParams(), splits=("test",))
    assert (metrics["clips"], len(rows), metrics["fallback"]) == (15, 15, 0.0)
    assert metrics["anchors"]["recall_d0"] == 1.0 == metrics["best"]["recall_d0"]
    assert metrics["random"]["recall_d0"] == pytest.approx(0.2)
    curves = recall_curves(metrics)
    assert [row["delta"] for row in curves] == [0, 1, 2]
    assert set(curves[0]) == {"delta", "anchors", "random", "random_spaced", "constant", "best"}
    with pytest.raises(InputError, match="no clip with an event"):
        evaluate_anchors(stages / "eventness", k=2, anchors=AnchorParams(), splits=("dev",))


def test_the_verdict_says_what_it_could_have_found(stages: Path) -> None:
    metrics = study(stages).metrics
    assert set(metrics["uncertainty"]) == set(metrics["contrasts"])
    for measure, row in metrics["uncertainty"].items():
        assert 0 < row["minimum_detectable_effect"] < row["minimum_detectable_effect_holm"]
        assert row["baseline_seed_sd"] == pytest.approx(metrics["arms"]["uniform"][measure]["std"], abs=1e-9)


def test_a_split_without_events_is_refused_before_training(stages: Path) -> None:
    clips = read_table(stages / "cache/index.tsv", Clip)
    silent = [Clip(**vars(clip) | {"end": clip.start}) if clip.split == "test" else clip for clip in clips]
    for folder in ("cache", "eventness"):
        write_table(stages / folder / "index.tsv", silent, Clip)
    with pytest.raises(InputError, match=r"no clip with an event in split 'test' \(see p0\.eval_splits\)"):
        study(stages)
