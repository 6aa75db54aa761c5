from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest

from avs.report.speech_results import SpeechResults, load_speech, marks
from avs.report.speech_verdict import gain, judge, questions


@pytest.fixture(scope="module")
def results(speech_study: Path) -> SpeechResults:
    return load_speech(speech_study / "results", speech_study / "media")


def row(diff: float, p_holm: float = 0.01) -> dict[str, float]:
    return {"diff": diff, "ci_low": diff - 0.01, "ci_high": diff + 0.02, "p": 0.001, "p_holm": p_holm}


def found(results: SpeechResults, contrasts: dict[str, Any] | None = None, **metrics: Any) -> SpeechResults:
    """The study with other contrasts (none: not tested) and metrics."""
    tree = {name: part for name, part in results.metrics.items() if name != "contrasts"} | metrics
    return replace(results, metrics=tree if contrasts is None else tree | {"contrasts": contrasts})


@pytest.mark.parametrize(
    ("diffs", "words"),
    [
        ({"clean": -0.1, "snr_0": -0.3}, "Lips lower word errors in all 2 conditions."),
        ({"clean": 0, "snr_0": -0.3}, "Lips lower word errors in 1 of 2 conditions; elsewhere no difference can be"),
        ({"clean": 0.1, "snr_0": -0.3}, "Lips lower word errors in 1 of 2 conditions and raise them in 1."),
        ({"clean": 0.1, "snr_0": 0.3}, "Lips raise word errors in all 2 conditions."),
        ({"clean": 0, "snr_0": 0}, "Lips make no difference that can be told, in any of 2 conditions."),
        ({"snr_0": -0.3}, "Lips lower word errors in the one condition tested."),
    ],
)
def test_the_sentence_follows_what_is_significant(results: SpeechResults, diffs: dict[str, float], words: str) -> None:
    contrasts = {c: {"av-audio": row(diff, 0.01 if diff else 0.5)} for c, diff in diffs.items()}
    verdict = judge(found(results, contrasts))
    assert verdict.sentence.startswith(words)
    assert verdict.more == []


def test_an_interval_without_zero_is_no_verdict_before_correction(results: SpeechResults) -> None:
    verdict = judge(found(results, {"clean": {"av-audio": row(-0.2, p_holm=0.06)}}))
    assert verdict.sentence == "Lips make no difference that can be told, in the one condition tested."
    (card,) = verdict.cards
    assert (card.answer, card.sign) == ("no difference told", 0)
    assert card.largest == "Largest difference: −20.0 points [−21.0, −18.0], clean, p 0.060 after Holm"


def test_a_contrast_is_read_either_way_round_and_unknown_ones_come_last(results: SpeechResults) -> None:
    asked = questions({"snr_0": {"x-y": row(0.1), "audio-av": row(0.3), "av_seanet-av": row(-0.1)}})
    assert [(q.a, q.b) for q in asked] == [("av", "audio"), ("av_seanet", "av"), ("x", "y")]
    assert asked[0].rows["snr_0"] == row(0.3) | {"diff": -0.3, "ci_low": -0.32, "ci_high": -0.29}
    assert (asked[0].lower, asked[0].higher, asked[2].higher) == (["snr_0"], [], ["snr_0"])
    assert asked[2].text == ""


def test_without_tests_nothing_is_called_different(results: SpeechResults) -> None:
    verdict = judge(found(results))
    assert "no difference between models was tested" in verdict.sentence
    assert verdict.cards == verdict.questions == []
    assert any("No difference between models was tested" in text for text in verdict.cautions)


def test_a_study_that_learnt_nothing_concludes_nothing(results: SpeechResults) -> None:
    poor = {"audio": {"clean": {"wer": 0.97}}, "av": {"clean": {"wer": 0.9}}}
    verdict = judge(found(results, {"clean": {"av-audio": row(-0.07)}}, wer=poor))
    assert verdict.sentence.startswith("Nothing can be concluded: every model gets 90% or more")
    assert any(text.startswith("The model audio (sound alone) gets at least 90%") for text in verdict.cautions)


@pytest.mark.parametrize(
    ("right", "wrong", "words"),
    [
        ((5.0, 4.0, 6.0), (1.0, 0.0, 2.0), "it follows the lips."),
        ((5.0, 4.0, 6.0), (4.5, 3.5, 5.5), "cannot be told; it may know the voice."),
        ((0.5, -1.0, 2.0), (0.0, -1.0, 1.0), "that it follows the lips cannot be told."),
    ],
)
def test_seanet_follows_the_lips_where_wrong_ones_gain_less(
    results: SpeechResults, right: tuple[float, ...], wrong: tuple[float, ...], words: str
) -> None:
    own, others = (dict(zip(("mean", "low", "high"), values, strict=True)) for values in (right, wrong))
    tree = {"talker_0": {"improvement": own, "wrong_lips": {"improvement": others}}}
    (said,) = judge(found(results, si_sdr=tree)).controls
    assert said.startswith(f"Another talker, 0\N{NO-BREAK SPACE}dB: SEANet changes SI-SDR by {right[0]:+.1f} dB [")
    assert said.endswith(words)
    assert judge(found(results, si_sdr={"talker_0": {"improvement": own}})).controls == []


def test_fewer_errors_with_the_right_lips_are_told(results: SpeechResults) -> None:
    contrasts = {
        c: {"audio_seanet-audio_wrong": row(-0.2), "av_seanet-av_wrong": row(0, 1.0)} for c in ("snr_0", "snr_5")
    }
    said = judge(found(results, contrasts, si_sdr={})).controls
    assert said == [
        "The right lips for SEANet lower word errors in all 2 conditions: audio_seanet − audio_wrong.",
        "The right lips for SEANet make no difference that can be told, in any of 2 conditions: av_seanet − av_wrong.",
    ]


def test_gains_are_read_as_numbers_as_means_and_as_rows() -> None:
    assert gain(2.5) == {"mean": 2.5}
    assert gain({"mean": 1, "low": 0, "high": 2, "clips": 3}) == {"mean": 1, "low": 0, "high": 2}
    assert gain({"seanet": 5, "improvement": {"mean": 1}}) == {"mean": 1}
    assert gain(None) == {}


def test_cautions_say_what_the_data_cannot(results: SpeechResults) -> None:
    said = " ".join(judge(results).cautions)
    words = sum({answer.clip: answer.words for answer in results.answers}.values())
    assert f"Only 9 clips of {words} words: below 20" in said
    assert "The clips are of 1 speaker" in said
    assert "how far one training differs" in said
    assert "synthetic" not in said
    assert "marks" not in said
    assert "before joint training" not in said
    rates = {name: {"clean": {"wer": 0.1}} for name in ("av", "av_separate", "av_seanet")}
    assert any("av_separate − av." in text for text in judge(found(results, wer=rates)).cautions)


def test_synthetic_speech_is_called_so_first(results: SpeechResults) -> None:
    every = [replace(answer, dataset_name="synthetic") for answer in results.answers]
    for answers, words in ((every, "The clips are synthetic"), ([*results.answers, every[0]], "Some of the clips are")):
        assert judge(replace(results, answers=answers)).cautions[0].startswith(words)


def test_marks_leave_case_and_punctuation_out(results: SpeechResults) -> None:
    answer = replace(results.answers[0], reference="Yes, it's ME - x-ray", hypothesis="yes its me - X ray")
    assert marks(answer) == [("=", "Yes,"), ("s", "it's", "its"), ("=", "ME -"), ("i", "X"), ("s", "x-ray", "ray")]


def test_marks_that_are_not_what_was_counted_are_told(results: SpeechResults) -> None:
    first, *others = results.answers
    other = replace(results, answers=[replace(first, errors=first.errors + 1), *others])
    assert f"In 1 of {len(results.answers)} answers the marks below differ" in " ".join(judge(other).cautions)
