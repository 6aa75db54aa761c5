"""What `python -m avs table` prints."""

import io
import json
from pathlib import Path
from typing import Any

import pytest
from rich.console import Console

from avs.cli import main
from avs.localization.arms import ARMS, CONTROLS, PRIMARY
from avs.localization.p0 import CONTRASTS, EXPLANATORY, TESTED
from avs.report.table import print_study


def metrics(**change: Any) -> dict[str, Any]:
    score = {"mean": 0.5, "std": 0.1}
    arm = dict.fromkeys(("accuracy", "accuracy_event", "class_event"), score) | {"tokens": 1960.0, "gflops": 7.7}
    row = {"diff": 0.1, "ci_low": 0.05, "ci_high": 0.15, "p": 0.001, "p_holm": 0.02, "t_p": 0.5}
    contrasts = {measure: {f"{a}-{b}": row for a, b in (*CONTRASTS, *EXPLANATORY)} for measure in TESTED}
    curve = {total: dict.fromkeys(("even", "anchored", "oracle"), arm) for total in ("1960", "1000", "20000")}
    tree = {"clips": 100, "seeds": 5, "arms": dict.fromkeys(ARMS, arm), "contrasts": contrasts, "curve": curve}
    return tree | change


def uncertain(values: dict[str, float]) -> dict[str, Any]:
    return metrics(uncertainty=dict.fromkeys(TESTED, values))


def printed(tree: dict[str, Any]) -> str:
    out = io.StringIO()
    print_study(tree, Console(file=out, width=140))
    return out.getvalue()


def test_the_tables_end_with_what_could_have_been_found() -> None:
    known = {
        "minimum_detectable_effect": 0.0421,
        "minimum_detectable_effect_holm": 0.0592,
        "baseline_seed_sd": 0.0051,
        "baseline_rerun_sd": 0.0023,
    }
    text = printed(uncertain(known))
    assert "accuracy: anchored_topk − uniform is found with power .8 from 0.042 (0.059 by Holm)" in text
    assert "uniform wanders by 0.005 between seeds, 0.002 between reruns" in text
    assert "+0.100 [+0.050, +0.150]" in text


def test_what_one_seed_cannot_say_is_unknown() -> None:
    text = printed(uncertain({"minimum_detectable_effect": 0.04, "minimum_detectable_effect_holm": 0.06}))
    assert "wanders by unknown between seeds, unknown between reruns" in text


def test_the_verdict_comes_with_the_looks_also_where_git_cannot_tell(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    """And with results from before uncertainty was among them."""
    recall = {f"recall_d{delta}": 0.5 for delta in (0, 1, 2)}
    for name, tree in ("anchor_eval", {"clips": 10, "anchors": recall}), ("p0", metrics(clips=10)):
        (tmp_path / "results" / name).mkdir(parents=True)
        (tmp_path / "results" / name / "metrics.json").write_text(json.dumps(tree))
    main(["table", "--results", str(tmp_path / "results")])
    said = capsys.readouterr().out
    assert "Only 10 clips" in said
    assert said.splitlines()[-1] == "Looks at the test split: unknown (dvc.lock is not there; run: dvc repro)."


def test_the_controls_and_their_contrasts_come_after_the_verdict() -> None:
    lines = printed(metrics()).splitlines()
    where = {name: [n for n, line in enumerate(lines) if line.strip().startswith(f"{name} ")] for name in ARMS}
    controls = next(n for n, line in enumerate(lines) if line.startswith("Controls"))
    family = next(n for n, line in enumerate(lines) if line.startswith("What explains it"))
    planned = next(n for n, line in enumerate(lines) if line.startswith("Planned contrasts"))
    assert planned < controls < family
    assert max(min(where[name]) for name in PRIMARY) < planned
    assert all(controls < min(where[name]) < family for name in CONTROLS)
    rows = [line.partition("+")[0].strip() for line in lines if " − " in line]
    assert rows == [f"{a} − {b}" for a, b in (*CONTRASTS, *EXPLANATORY)]


def test_budgets_are_in_the_order_of_numbers_and_may_be_missing() -> None:
    lines = printed(metrics()).splitlines()
    start = next(n for n, line in enumerate(lines) if line.startswith("At other budgets"))
    assert [line.split()[0] for line in lines[start:] if line.split() and line.split()[0].isdigit()] == [
        "1000",
        "1960",
        "20000",
    ]
    assert not any(line.startswith("At other budgets") for line in printed(metrics(curve={})).splitlines())


def test_few_clips_are_warned_of() -> None:
    assert any("Only 5 clips" in line for line in printed(metrics(clips=5)).splitlines())
