"""The tables that a run prints: arms at their cost, the contrasts between them with intervals, and the controls."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from typing import Any

from rich import box
from rich.console import Console
from rich.table import Table

from avs.localization.arms import CONTROLS, PRIMARY
from avs.localization.p0 import CONTRASTS, EXPLANATORY, TESTED
from avs.localization.uncertainty import ALPHA, MAIN
from avs.report.numbers import FEW

WIDTH = 136
UNCERTAIN = ("minimum_detectable_effect", "minimum_detectable_effect_holm", "baseline_seed_sd", "baseline_rerun_sd")
NAMES = {"accuracy": "accuracy", "class_event": "class of event seconds"}


def print_study(metrics: Mapping[str, Any], console: Console | None = None) -> None:
    """Print the metrics of `p0`."""
    console = console or _console()
    title = f"{metrics['clips']} clips, {metrics['seeds']} seeds: mean (standard deviation between seeds)"
    console.print(_arms(metrics, title, PRIMARY))
    console.print(
        _contrasts(metrics, "Planned contrasts: difference [95 % interval over clips], p after Holm", CONTRASTS)
    )
    for measure, row in _ordered(metrics.get("uncertainty", {}), TESTED):
        console.print(_uncertainty(measure, row), soft_wrap=True)
    console.print(_arms(metrics, "Controls", CONTROLS))
    console.print(_contrasts(metrics, "What explains it: a second family, with a Holm of its own", EXPLANATORY))
    if metrics.get("curve"):
        console.print(_curve(metrics["curve"]))
    if metrics["clips"] < FEW:
        console.print(f"Only {metrics['clips']} clips: nobody has measured what intervals and p are worth below {FEW}.")


def study(metrics: Mapping[str, Any]) -> str:
    """What `print_study` prints."""
    console = Console(width=WIDTH)
    with console.capture() as printed:
        print_study(metrics, console)
    return printed.get()


def print_recall(metrics: Mapping[str, Any], console: Console | None = None) -> None:
    """Print the metrics of `anchor_eval`."""
    table = plain_table(f"Recall of event seconds, {metrics['clips']} clips", "anchors", "Δ 0", "Δ 1", "Δ 2")
    for kind, row in _ordered(metrics, ("anchors", "random", "random_spaced", "constant", "best")):
        table.add_row(kind, *(f"{row[f'recall_d{delta}']:.3f}" for delta in (0, 1, 2)))
    (console or _console()).print(table)


def _uncertainty(measure: str, row: Mapping[str, float]) -> str:
    """What is not defined (with one clip, or one seed) is not among the metrics."""
    least, holm, seeds, reruns = (f"{row[name]:.3f}" if name in row else "unknown" for name in UNCERTAIN)
    return (
        f"{NAMES[measure]}: {' − '.join(MAIN)} is found with power .8 from {least} ({holm} by Holm); "
        f"{MAIN[1]} wanders by {seeds} between seeds, {reruns} between reruns"
    )


def _console() -> Console:
    """Wide enough for every number, also where the terminal is narrower and will wrap the lines."""
    return Console(width=max(WIDTH, Console().width))


def _arms(metrics: Mapping[str, Any], title: str, names: Iterable[str]) -> Table:
    columns = ("arm", "accuracy", "on event seconds", "class of event seconds", "tokens", "GFLOP")
    table = plain_table(title, *columns)
    for arm, row in _ordered(metrics["arms"], names):
        cells = (_mean_std(row[name]) for name in ("accuracy", "accuracy_event", "class_event"))
        table.add_row(arm, *cells, f"{row['tokens']:.0f}", f"{row['gflops']:.1f}")
    return table


def _contrasts(metrics: Mapping[str, Any], title: str, family: Iterable[tuple[str, str]]) -> Table:
    table = plain_table(f"{title} (* below .05)", "contrast", "accuracy", "p", "class of event seconds", "p")
    tested = metrics["contrasts"]
    for name, _ in _ordered(tested["accuracy"], [f"{a}-{b}" for a, b in family]):
        cells = (cell for measure in TESTED for cell in _verdict(tested[measure][name]))
        table.add_row(name.replace("-", " − "), *cells)
    return table


def _curve(curve: Mapping[str, Any]) -> Table:
    columns = [f"{measure}, {kind}" for measure in ("accuracy", "class") for kind in ("even", "anchored", "oracle")]
    table = plain_table("At other budgets", "tokens", *columns)
    for total, kinds in sorted(curve.items(), key=lambda item: int(item[0])):
        cells = (f"{kinds[kind][measure]['mean']:.3f}" for measure in TESTED for kind in ("even", "anchored", "oracle"))
        table.add_row(total, *cells)
    return table


def plain_table(title: str, *columns: str) -> Table:
    table = Table(title=title, title_justify="left", title_style="bold", box=box.SIMPLE_HEAD, pad_edge=False)
    for number, column in enumerate(columns):
        table.add_column(column, justify="right" if number else "left", no_wrap=True)
    return table


def _ordered(rows: Mapping[str, Any], order: Iterable[str]) -> list[tuple[str, Any]]:
    """JSON files are sorted by name; people read in an order that means something."""
    return [(name, rows[name]) for name in order if name in rows]


def _mean_std(row: Mapping[str, float]) -> str:
    return f"{row['mean']:.3f} ({row['std']:.3f})"


def _verdict(row: Mapping[str, float]) -> tuple[str, str]:
    star = "*" if row["p_holm"] < ALPHA else " "
    return f"{row['diff']:+.3f} [{row['ci_low']:+.3f}, {row['ci_high']:+.3f}]", f"{row['p_holm']:.3f}{star}"
