from dataclasses import replace
from pathlib import Path

import pytest

from avs.report.numbers import bounds, points, sign
from avs.report.results import MEASURES, Results, load_results
from avs.report.verdict import judge


@pytest.fixture(scope="module")
def results(page_study: Path) -> Results:
    return load_results(page_study / "results", page_study / "media")


def found(results: Results, diffs: dict[str, float], p_holm: float = 0.01, **metrics: object) -> Results:
    """The study with other differences between anchored_topk and uniform."""
    contrasts = {measure: dict(rows) for measure, rows in results.metrics["contrasts"].items()}
    for measure, diff in diffs.items():
        row = {"diff": diff, "ci_low": diff - 0.01, "ci_high": diff + 0.01, "p": 0.001}
        contrasts[measure]["anchored_topk-uniform"] = row | {"p_holm": p_holm if diff else 1.0}
    return replace(results, metrics={**results.metrics, "contrasts": contrasts, **metrics})


@pytest.mark.parametrize(
    ("accuracy", "class_event", "words"),
    [
        (0.05, 0.2, "Audio anchors beat uniform sampling, at the same 676 visual tokens"),
        (0.05, 0, "resolution may merely tell the head where the event is"),
        (0, 0.2, "over all seconds no difference can be told"),
        (0, 0, "No difference between audio anchors and uniform sampling can be told"),
        (-0.05, 0, "do worse than uniform sampling in accuracy, at"),
        (-0.05, -0.2, "do worse than uniform sampling in accuracy and the class of event seconds, at"),
        (-0.05, 0.2, "do worse than uniform sampling in accuracy, better in class of event seconds"),
    ],
)
def test_the_sentence_follows_what_is_significant(
    results: Results, accuracy: float, class_event: float, words: str
) -> None:
    verdict = judge(found(results, {"accuracy": accuracy, "class_event": class_event}), dataset="local", effect="none")
    assert words in verdict.sentence
    assert [finding.sign for finding in verdict.results] == [(x > 0) - (x < 0) for x in (accuracy, class_event)]


def test_an_interval_without_zero_is_no_verdict_before_correction(results: Results) -> None:
    verdict = judge(found(results, {"accuracy": 0.05}, p_holm=0.06), dataset="local", effect="none")
    assert verdict.results[0].sign == 0
    assert "though by itself it would be (p 0.001)" in verdict.results[0].remark
    assert (verdict.results[0].points, verdict.results[0].interval) == ("+5.0", "[+4.0, +6.0]")


def test_cautions_say_what_the_data_cannot(results: Results) -> None:
    said = " ".join(judge(results, dataset="local", effect="none").cautions)
    assert "Only 12 clips: below 20" in said
    assert results.recall["fallback"] > 0
    assert f"{results.recall['fallback']:.0%} of the clips fell back" in said
    assert "synthetic" not in said
    other = found(results, {}, clips=400, seeds=1, failed_clips=3)
    said = " ".join(judge(other, dataset="local", effect="none").cautions)
    assert "Only" not in said
    assert "One seed only" in said
    assert "3 clips of the data set could not be used" in said


def test_controls_that_are_not_beaten_are_named_beside_a_gain(results: Results) -> None:
    won = found(results, {"accuracy": 0.05, "class_event": 0.0})
    rows = won.metrics["contrasts"]["accuracy"]
    for name in [name for name in rows if name.startswith("anchored_topk-")]:
        rows[name] = {**rows[name], "diff": 0.05, "p_holm": 0.01}
    assert not any("Something else" in text for text in judge(won, dataset="local", effect="none").cautions)
    rows["anchored_topk-anchored_shuffled"]["p_holm"] = 0.2
    rows["anchored_topk-visual_topk"]["diff"] = -0.05
    (said,) = [text for text in judge(won, dataset="local", effect="none").cautions if "Something else" in text]
    assert said.startswith("Something else may explain the gain in accuracy: ")
    assert "anchored_topk does not beat anchored_shuffled, visual_topk for certain" in said


def test_the_demo_is_called_synthetic(results: Results) -> None:
    for effect, words in (("none", "no effect between plans must"), ("resolution", "an effect must")):
        first = judge(results, dataset="demo", effect=effect).cautions[0]
        assert "synthetic" in first
        assert words in first


def test_what_could_have_been_seen_is_said_where_p0_says_it(results: Results) -> None:
    row = {"minimum_detectable_effect_holm": 0.031, "minimum_detectable_effect": 0.02}
    row |= {"baseline_seed_sd": 0.012, "baseline_rerun_sd": 0.005}
    other = found(results, {}, uncertainty={"accuracy": row})
    said = judge(other, dataset="local", effect="none").results[0].seen
    assert said.startswith("A true difference of 3.1 points would be found four times in five")
    assert "(2.0 by itself)" in said
    assert "varies by 1.2 points" in said
    assert "by 0.5" in said


def test_questions_quote_their_contrasts(results: Results) -> None:
    verdict = judge(results, dataset="local", effect="none")
    rows = [results.metrics["contrasts"][measure]["oracle_topk-uniform"] for measure in MEASURES]
    assert verdict.points[0].cells == rows
    assert verdict.points[0].contrast == "oracle_topk − uniform"


def test_numbers_are_in_points_with_a_real_minus() -> None:
    row = {"diff": -0.0123, "ci_low": -0.05, "ci_high": 0.0449, "p_holm": 0.2}
    assert (points(row["diff"]), bounds(row), sign(row)) == ("−1.2", "[−5.0, +4.5]", 0)
    assert sign(row | {"p_holm": 0.01}) == -1
