import io

from rich.console import Console

from avs.localization.arms import ARMS, CONTROLS, PRIMARY
from avs.localization.p0 import CONTRASTS, EXPLANATORY, TESTED
from avs.report.table import print_study


def metrics(**change) -> dict:
    share = {"mean": 0.5, "std": 0.01}
    arm = dict.fromkeys(("accuracy", "accuracy_event", "class_event"), share) | {"tokens": 1960.0, "gflops": 7.7}
    row = {"diff": 0.1, "ci_low": 0.0, "ci_high": 0.2, "p_holm": 0.04}
    contrasts = {measure: {f"{a}-{b}": row for a, b in (*CONTRASTS, *EXPLANATORY)} for measure in TESTED}
    curve = {total: dict.fromkeys(("even", "anchored", "oracle"), arm) for total in ("1960", "1000", "20000")}
    return {"clips": 100, "seeds": 2, "arms": dict.fromkeys(ARMS, arm), "contrasts": contrasts, "curve": curve} | change


def printed(tree: dict) -> list[str]:
    out = io.StringIO()
    print_study(tree, Console(file=out, width=140))
    return out.getvalue().splitlines()


def test_the_controls_and_their_contrasts_come_after_the_verdict() -> None:
    lines = printed(metrics())
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
    lines = printed(metrics())
    start = next(n for n, line in enumerate(lines) if line.startswith("At other budgets"))
    assert [line.split()[0] for line in lines[start:] if line.split() and line.split()[0].isdigit()] == [
        "1000",
        "1960",
        "20000",
    ]
    assert not any(line.startswith("At other budgets") for line in printed(metrics(curve={})))


def test_few_clips_are_warned_of() -> None:
    assert any("Only 5 clips" in line for line in printed(metrics(clips=5)))
