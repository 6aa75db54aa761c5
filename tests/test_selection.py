import pytest

from avs.core.errors import InputError
from avs.core.params import build
from avs.report.selection import ReportParams, choose_clips

ROWS = [{"clip": str(number)} for number in range(30)]
GAINS = [(-1) ** number * number / 30 for number in range(30)]  # even rows gain, odd rows lose, the last most


def test_all_are_shown_where_they_fit() -> None:
    chosen, rule = choose_clips(ROWS, GAINS, 30)
    assert chosen == list(range(30))
    assert rule == "All 30 judged clips are shown."


def test_else_the_extremes_and_an_even_spread() -> None:
    chosen, rule = choose_clips(ROWS, GAINS, 12)
    assert len(chosen) == 12
    assert {28, 26, 24, 22} <= set(chosen)  # the largest gains
    assert {29, 27, 25, 23} <= set(chosen)  # the largest losses
    assert [place for place in chosen if place < 22] == [0, 5, 11, 16]
    assert rule.startswith("12 of 30 judged clips are shown: the 4 with the largest gain")
    assert "is not the mean of the study" in rule


def test_clips_that_neither_gain_nor_lose_are_no_extremes() -> None:
    chosen, rule = choose_clips(ROWS, [0.5, -0.5] + [0.0] * 28, 9)
    assert chosen[:2] == [0, 1]
    assert "the 1 with the largest gain" in rule
    assert "the 1 with the largest loss, and 7 spread evenly" in rule


@pytest.mark.parametrize("limit", range(31))
def test_never_more_than_the_limit(limit: int) -> None:
    assert len(choose_clips(ROWS, GAINS, limit)[0]) == limit


@pytest.mark.parametrize("clips", [-1, 301])
def test_a_limit_that_makes_no_page_is_refused(clips: int) -> None:
    with pytest.raises(InputError, match=rf"clips \({clips}\) must be from 0 to 300"):
        build(ReportParams, {"clips": clips}, "report")
