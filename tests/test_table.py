"""What `python -m avs table` prints under its tables."""

import io
import json
from pathlib import Path
from typing import Any

import pytest
from rich.console import Console

from avs.cli import main
from avs.localization.p0 import CONTRASTS, TESTED
from avs.report.table import print_study


def metrics(uncertainty: dict[str, float]) -> dict[str, Any]:
    score = {"mean": 0.5, "std": 0.1}
    arm = dict.fromkeys(("accuracy", "accuracy_event", "class_event"), score) | {"tokens": 1960.0, "gflops": 7.7}
    row = {"diff": 0.1, "ci_low": 0.05, "ci_high": 0.15, "p": 0.001, "p_holm": 0.02, "t_p": 0.5}
    return {
        "clips": 100,
        "seeds": 5,
        "arms": {"uniform": arm},
        "contrasts": {measure: {f"{a}-{b}": row for a, b in CONTRASTS} for measure in TESTED},
        "uncertainty": dict.fromkeys(TESTED, uncertainty),
    }


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
    text = printed(metrics(known))
    assert "accuracy: anchored_topk − uniform is found with power .8 from 0.042 (0.059 by Holm)" in text
    assert "uniform wanders by 0.005 between seeds, 0.002 between reruns" in text
    assert "+0.100 [+0.050, +0.150]" in text


def test_what_one_seed_cannot_say_is_unknown() -> None:
    text = printed(metrics({"minimum_detectable_effect": 0.04, "minimum_detectable_effect_holm": 0.06}))
    assert "wanders by unknown between seeds, unknown between reruns" in text


def test_the_verdict_comes_with_the_looks_also_where_git_cannot_tell(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    """And with results from before uncertainty was among them."""
    recall = {f"recall_d{delta}": 0.5 for delta in (0, 1, 2)}
    old = {name: value for name, value in metrics({}).items() if name != "uncertainty"} | {"clips": 10}
    for name, tree in ("anchor_eval", {"clips": 10, "anchors": recall}), ("p0", old):
        (tmp_path / "results" / name).mkdir(parents=True)
        (tmp_path / "results" / name / "metrics.json").write_text(json.dumps(tree))
    main(["table", "--results", str(tmp_path / "results")])
    said = capsys.readouterr().out
    assert "Only 10 clips" in said
    assert said.splitlines()[-1] == "Looks at the test split: unknown (dvc.lock is not there; run: dvc repro)."
