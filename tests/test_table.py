"""What `python -m avs table` prints under its tables."""

import io
from typing import Any

from rich.console import Console

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
