"""Word errors: counts, intervals, differences."""

import numpy as np
import pytest

from avs.avsr.wer import edits, errors_of, wer, wer_difference, word_errors
from avs.core.errors import InputError


def test_errors_of_a_clip() -> None:
    assert word_errors("bin blue at f two now", "bin red at two now please") == (3, 6)
    assert word_errors("a b", "a b") == (0, 2)
    assert word_errors("a b", "") == (2, 2)
    assert word_errors("", "a b") == (2, 0)
    assert word_errors("", "") == (0, 0)


@pytest.mark.parametrize(
    ("reference", "hypothesis", "wanted"),
    [
        ("bin blue at", "bin blue at", [("=", "bin blue at")]),
        ("bin blue at f", "bin blew at f", [("=", "bin"), ("s", "blue", "blew"), ("=", "at f")]),
        ("set white at f two", "set at f two now", [("=", "set"), ("d", "white"), ("=", "at f two"), ("i", "now")]),
        ("a b c", "x y c", [("s", "a", "x"), ("s", "b", "y"), ("=", "c")]),
        ("two words", "", [("d", "two"), ("d", "words")]),
        ("", "two words", [("i", "two"), ("i", "words")]),
        ("", " ", []),
        ("<b>a</b>  now", "\u2028now", [("d", "<b>a</b>"), ("=", "now")]),
    ],
)
def test_the_fewest_edits_are_found_word_by_word(
    reference: str, hypothesis: str, wanted: list[tuple[str, ...]]
) -> None:
    found = edits(reference, hypothesis)
    assert found == wanted
    assert errors_of(found) == sum(edit[0] != "=" for edit in wanted)
    assert " ".join(word for edit in found for word in edit[1:2] if edit[0] != "i") == " ".join(reference.split())


def test_words_may_be_alike_and_are_given_as_they_stand() -> None:
    assert edits("A b", "a c", str.lower) == [("=", "A"), ("s", "b", "c")]


def test_wer_is_errors_over_words_of_all_clips() -> None:
    """Not the mean of clips' WERs; an insertion where nothing was said counts."""
    assert wer([1, 0, 1], [2, 8, 0])["wer"] == pytest.approx(0.2, abs=1e-12)


def test_its_interval_holds_the_truth_about_as_often_as_it_says() -> None:
    """40 clips of uneven lengths, 300 draws: .95 has a standard error of .013; low error rates a little less."""
    rng = np.random.default_rng(0)
    for rate in (0.05, 0.3):
        held = 0
        for seed in range(300):
            words = rng.integers(3, 12, 40)
            found = wer(rng.binomial(words, rng.beta(4 * rate, 4 - 4 * rate, 40)), words, resamples=400, seed=seed)
            held += found["low"] <= rate <= found["high"]
        assert 0.88 <= held / 300 <= 0.985


def test_no_error_in_some_clips_is_no_proof_of_none_in_others() -> None:
    """Of 20 clips without one: 1 - .025^(1/20) of clips may have one, of 6 words."""
    found = wer([0] * 20, [6] * 20)
    assert (found["wer"], found["low"]) == (0, 0)
    assert found["high"] == pytest.approx((1 - 0.025 ** (1 / 20)) / 6, rel=1e-9)
    assert wer([0], [6]) == {"wer": 0, "low": 0, "high": 0}  # one clip has no interval


def test_a_wer_may_be_above_1_and_its_interval_ends_at_0() -> None:
    assert wer([4, 4], [2, 2])["high"] == 2
    assert wer([0, 0, 5], [6, 6, 6])["low"] == 0


def test_a_difference_is_paired() -> None:
    """A wrong word less in every other clip, whatever else is hard about them."""
    hard = np.arange(40) % 7
    a, b, words = hard, hard + np.arange(40) % 2, np.full(40, 8)
    found = wer_difference(a, b, words)
    assert found["diff"] == pytest.approx(-0.5 / 8)
    assert -0.09 < found["ci_low"] < found["diff"] < found["ci_high"] < -0.03
    assert found["p"] < 0.001
    other = wer_difference(b, a, words)
    assert (other["diff"], other["p"]) == pytest.approx((-found["diff"], found["p"]), rel=1e-6)


def test_few_clips_that_differ_prove_little() -> None:
    """Three of 60, all one way: the signs of three clips give 2 / 2^3 at least."""
    a = [1] * 3 + [0] * 57
    assert wer_difference(a, [0] * 60, [6] * 60)["p"] >= 0.25
    assert wer_difference(a, a, [6] * 60) == {"diff": 0, "ci_low": 0, "ci_high": 0, "p": 1}


@pytest.mark.parametrize(
    ("call", "message"),
    [
        (lambda: wer([0, 1], [0, 0]), "not all 0"),
        (lambda: wer([0, 1], [1]), r"\(2,\) and wholes \(1,\)"),
        (lambda: wer_difference([0], [0, 1], [2, 2]), "1 and of 2 clips"),
    ],
)
def test_refused(call, message: str) -> None:  # type: ignore[no-untyped-def]
    with pytest.raises(InputError, match=message):
        call()
