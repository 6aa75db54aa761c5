import os

import pytest

from avs.core.clips import Clip
from avs.core.errors import InputError
from avs.core.execute import ExecutionParams
from avs.localization.arms import ARMS
from avs.localization.p0 import Result
from avs.smoke import BUDGET, _check_planted, _check_study, smoke

CLIP = Clip("0-v", "test", "Dog", 1, 2, 10, "v.mp4", "0")


def result(*, share: float = 0.5, low: float = 0.1, **plans: list[int]) -> Result:
    """One clip, seen uniformly by every arm but those of `plans`."""
    shares = {"accuracy": {"mean": share}, "class_event": {"mean": share}}
    row = {"diff": low, "ci_low": low}
    metrics = {"arms": dict.fromkeys(ARMS, shares), "contrasts": {"class_event": {"anchored_topk-uniform": row}}}
    uniform = dict.fromkeys(ARMS, [BUDGET.base_res] * CLIP.seconds)
    return Result(metrics, {}, [{"plans": uniform | plans, "target": [0] * 9 + [1]}], [])


def test_everything_holds_and_leaves_nothing_behind(capsys: pytest.CaptureFixture[str]) -> None:
    before = {name: os.environ.get(name) for name in ("AVS_STORE", "AVS_DATA_DIR")}
    smoke(execution=ExecutionParams(backend="inline", workers=2))
    said = capsys.readouterr().out
    assert said.count("  ok  ") == 13
    assert "exactly 160 tokens a clip in each of 16 arms" in said
    assert "all is well" in said
    assert {name: os.environ.get(name) for name in before} == before


def test_arms_that_spend_differently_are_found() -> None:
    _check_study(result(), [CLIP])
    _check_study(result(uniform_low=[BUDGET.low_res] * 10), [CLIP])
    with pytest.raises(InputError, match="smoke check failed: plans: exactly 160 tokens"):
        _check_study(result(oracle_topk=[BUDGET.high_res] * 10), [CLIP])


def test_shares_that_are_none_are_found() -> None:
    with pytest.raises(InputError, match="smoke check failed: p0"):
        _check_study(result(share=1.5), [CLIP])


def test_a_planted_answer_that_is_not_found_is_told() -> None:
    with pytest.raises(InputError, match="smoke check failed: planted: class right in"):
        _check_planted(result())
