"""The tables of the speech study: word error rates with intervals, and the contrasts between models."""

from __future__ import annotations

import re
from collections.abc import Iterable, Mapping, Sequence
from typing import Any

from rich.console import Console

from avs.avsr.scores import CONTROLS, MODELS, SEPARATE, families
from avs.localization.uncertainty import ALPHA
from avs.report.table import FEW, WIDTH, plain_table

ALL = (*MODELS[:3], *SEPARATE.values(), *MODELS[3:], *CONTROLS)
KINDS = {"clean": "clean", "snr": "babble", "noise": "noise", "talker": "a talker"}
_CONDITION = re.compile(r"(?P<kind>[a-z]+)(_(?P<db>-?\d+(\.\d+)?))?(_(?P<who>\w+))?")
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
    table = plain_table(f"Word error rate in %{of} [95 % interval over clips]", "", *map(described, conditions))
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


def wer_table(figures: Mapping[str, Any]) -> str:
    """As Markdown, from a file with `wer`: a row a model, a column a condition."""
    conditions, rows = _rates(figures["wer"])
    return _markdown(["WER in %", *map(described, conditions)], rows)


def contrast_table(figures: Mapping[str, Any]) -> str:
    """As Markdown, from a file with `wer` and `contrasts`: the planned contrasts."""
    rows = _families(figures["wer"], figures["contrasts"])["planned"]
    return _markdown(["contrast", "in", "points of WER", "p after Holm"], rows)


def ordered(conditions: Iterable[str]) -> list[str]:
    """From clean to hard: by kind, whose voices, and falling dB; unknown ones last."""

    def place(name: str) -> tuple[Any, ...]:
        found = _CONDITION.fullmatch(name)
        if found is None or found["kind"] not in KINDS:
            return len(KINDS), "", 0.0, name
        return list(KINDS).index(found["kind"]), found["who"] or "", -float(found["db"] or 0), name

    return sorted(conditions, key=place)


def described(condition: str) -> str:
    """A condition in words: `talker_-5_same` is `a talker, −5 dB, same`."""
    found = _CONDITION.fullmatch(condition)
    if found is None or found["kind"] not in KINDS:
        return condition
    level = f"{found['db']} dB".replace("-", "−") if found["db"] else None
    return ", ".join(part for part in (KINDS[found["kind"]], level, found["who"]) if part)


def _rates(rates: Mapping[str, Any]) -> tuple[list[str], list[list[str]]]:
    """Conditions, and a row a model: its name and a cell a condition, empty where it was not decoded."""
    conditions = ordered({condition for rows in rates.values() for condition in rows})
    names = [name for name in ALL if name in rates]
    return conditions, [[name, *(_rate(rates[name].get(c)) for c in conditions)] for name in names]


def _rate(row: Mapping[str, float] | None) -> str:
    return "" if row is None else f"{100 * row['wer']:.1f} [{100 * row['low']:.1f}, {100 * row['high']:.1f}]"


def _families(rates: Mapping[str, Any], contrasts: Mapping[str, Any]) -> dict[str, list[list[str]]]:
    """Family → rows of contrast, condition, difference with interval, p."""
    conditions = ordered(contrasts)
    asked = families([(name, condition) for condition in conditions for name in rates])
    return {
        family: [_contrast(c, a, b, contrasts[c][f"{a}-{b}"]) for c, a, b in rows if f"{a}-{b}" in contrasts[c]]
        for family, rows in asked.items()
    }


def _contrast(condition: str, a: str, b: str, row: Mapping[str, float]) -> list[str]:
    diff, low, high = (f"{100 * row[name]:+.1f}".replace("-", "−") for name in ("diff", "ci_low", "ci_high"))
    star = "*" if row["p_holm"] < ALPHA else ""
    return [f"{a} − {b}", described(condition), f"{diff} [{low}, {high}]", f"{row['p_holm']:.3f}{star}"]


def _markdown(head: Sequence[str], rows: Iterable[Sequence[str]]) -> str:
    lines = [head, ["---"] * len(head), *rows]
    return "\n".join(f"| {' | '.join(line)} |" for line in lines)
