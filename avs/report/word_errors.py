"""The tables of the speech study: word error rates with intervals, and the contrasts between models."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from rich.console import Console

from avs.avsr.scores import families
from avs.core.stats import ALPHA
from avs.report.numbers import FEW
from avs.report.speech_words import condition_text, conditions_in_order, models_in_order
from avs.report.table import WIDTH, plain_table

TITLES = {
    "planned": "Planned contrasts: WER of the first less that of the second, in points: below 0 is better",
    "explanatory": "What explains it: a second family, with a Holm of its own",
}


def print_speech(metrics: Mapping[str, Any], console: Console | None = None) -> None:
    """Print the metrics of `avsr_train`."""
    console = console or Console(width=max(WIDTH, Console().width))
    rates, contrasts = metrics["wer"], metrics.get("contrasts", {})
    of = f", {metrics['clips']} clips, {metrics['words']} words" if "clips" in metrics else ""
    conditions, rows = _rates(rates)
    table = plain_table(f"Word error rate in %{of} [95 % interval over clips]", "", *map(condition_text, conditions))
    for row in rows:
        table.add_row(*row)
    console.print(table)
    for family, rows in _families(rates, contrasts).items():
        table = plain_table(f"{TITLES[family]} (* below .05)", "contrast", "in", "difference [95 %]", "p after Holm")
        table.columns[1].justify = "left"
        for row in rows:
            table.add_row(*row)
        if rows:
            console.print(table)
    if metrics.get("clips", FEW) < FEW:
        console.print(f"Only {metrics['clips']} clips: intervals and p are worth little below {FEW}.")


def speech(metrics: Mapping[str, Any]) -> str:
    """What `print_speech` prints."""
    console = Console(width=WIDTH)
    with console.capture() as printed:
        print_speech(metrics, console)
    return printed.get()


def _rates(rates: Mapping[str, Any]) -> tuple[list[str], list[list[str]]]:
    """Conditions, and a row a model: its name and a cell a condition, empty where it was not decoded."""
    conditions = conditions_in_order(condition for rows in rates.values() for condition in rows)
    return conditions, [[name, *(_rate(rates[name].get(c)) for c in conditions)] for name in models_in_order(rates)]


def _rate(row: Mapping[str, float] | None) -> str:
    return "" if row is None else f"{100 * row['wer']:.1f} [{100 * row['low']:.1f}, {100 * row['high']:.1f}]"


def _families(rates: Mapping[str, Any], contrasts: Mapping[str, Any]) -> dict[str, list[list[str]]]:
    """Family → rows of contrast, condition, difference with interval, p."""
    conditions = conditions_in_order(contrasts)
    asked = families([(name, condition) for condition in conditions for name in rates])
    return {
        family: [_contrast(c, a, b, contrasts[c][f"{a}-{b}"]) for c, a, b in rows if f"{a}-{b}" in contrasts[c]]
        for family, rows in asked.items()
    }


def _contrast(condition: str, a: str, b: str, row: Mapping[str, float]) -> list[str]:
    diff, low, high = (f"{100 * row[name]:+.1f}".replace("-", "−") for name in ("diff", "ci_low", "ci_high"))
    star = "*" if row["p_holm"] < ALPHA else ""
    return [f"{a} − {b}", condition_text(condition), f"{diff} [{low}, {high}]", f"{row['p_holm']:.3f}{star}"]
