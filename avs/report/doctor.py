"""What the data doctor found, for people: tables on the screen, a TSV and a picture."""

from __future__ import annotations

from collections import Counter
from pathlib import Path

import numpy as np
from matplotlib.axes import Axes
from matplotlib.figure import Figure
from matplotlib.ticker import MaxNLocator
from rich import box
from rich.console import Console
from rich.markup import escape
from rich.table import Table

from avs.core.clips import SPLITS, write_table
from avs.datasets.annotations import Annotation
from avs.doctor import PROBLEMS, Diagnosis, Finding
from avs.report.figure import save_figure

COLOURS = {"stop": "#7f1d1d", "lost": "#dc2626", "warning": "#d97706", "note": "#64748b"}
_STYLES = {"stop": "bold red", "lost": "red", "warning": "yellow", "note": "dim"}
_MOST = 6  # findings of each problem on the screen; the TSV has all


def write_findings(path: Path, diagnosis: Diagnosis) -> None:
    write_table(path, diagnosis.findings, Finding)


def print_diagnosis(diagnosis: Diagnosis, console: Console | None = None) -> None:
    """Print how many rows have which problem, and the worst of the findings."""
    console = console or Console(width=max(140, Console().width))
    rows = diagnosis.rows
    videos, classes = len({row.video for row in rows}), len({row.label for row in rows})
    splits = Counter(row.split or "no split" for row in rows)
    parts = ", ".join(f"{count} {split}" for split, count in splits.items())
    console.print(f"{len(rows)} rows ({parts}), {videos} videos, {classes} classes", highlight=False)
    if diagnosis.looked_at:
        console.print(
            f"looked at {diagnosis.looked_at} videos, {1000 * diagnosis.seconds:.1f} ms each", highlight=False
        )
    if not diagnosis.findings:
        console.print("nothing was found to be wrong")
        return
    console.print(_counts(diagnosis))
    console.print(_findings(diagnosis))


def draw_diagnosis(path: Path, diagnosis: Diagnosis) -> None:
    """A PNG: rows by problem, and how the classes are spread over the splits."""
    classes = len({row.label for row in diagnosis.rows})
    figure = Figure(figsize=(13, max(4.0, 1.6 + 0.24 * classes)), layout="constrained")
    left, right = figure.subplots(1, 2, width_ratios=(3, 2))
    _draw_counts(left, diagnosis)
    _draw_balance(right, diagnosis.rows)
    save_figure(path, figure)


def _counts(diagnosis: Diagnosis) -> Table:
    table = _table("problem", "severity", "rows", "what to do")
    table.columns[2].justify = "right"
    for problem, known in PROBLEMS.items():
        if count := diagnosis.count(problem):
            table.add_row(problem, known.severity, str(count), known.remedy, style=_STYLES[known.severity])
    return table


def _findings(diagnosis: Diagnosis) -> Table:
    table = _table("row", "problem", "severity", "detail")
    for problem, known in PROBLEMS.items():
        found = [f for f in diagnosis.findings if f.problem == problem]
        for f in found[:_MOST]:
            table.add_row(escape(f.key), problem, f.severity, escape(f.detail), style=_STYLES[known.severity])
        if len(found) > _MOST:
            table.add_row(f"… {len(found) - _MOST} more", problem, "", "", style="dim")
    return table


def _table(*columns: str) -> Table:
    table = Table(box=box.SIMPLE_HEAD, pad_edge=False)
    for column in columns:
        table.add_column(column, overflow="fold")
    return table


def _draw_counts(axes: Axes, diagnosis: Diagnosis) -> None:
    counts = {problem: diagnosis.count(problem) for problem in PROBLEMS}
    found = [problem for problem, count in counts.items() if count]
    axes.set_title("Rows by problem")
    if not found:
        axes.text(0.5, 0.5, "nothing was found to be wrong", ha="center", va="center", transform=axes.transAxes)
        axes.set_axis_off()
        return
    colours = [COLOURS[PROBLEMS[problem].severity] for problem in found]
    bars = axes.barh(found, [counts[problem] for problem in found], color=colours, height=0.7)
    axes.bar_label(bars, padding=3)
    axes.margins(x=0.12)
    axes.set_ylim(max(len(found), 10) - 0.4, -0.6)  # worst on top, few bars as thin as many
    axes.xaxis.set_major_locator(MaxNLocator(integer=True))
    axes.set_xlabel("rows, or classes where it is about classes")
    axes.spines[["top", "right"]].set_visible(False)
    for severity, colour in COLOURS.items():
        if colour in colours:
            axes.barh(found[:1], [0], color=colour, label=severity)
    axes.legend(loc="lower right", frameon=False)


def _draw_balance(axes: Axes, rows: list[Annotation]) -> None:
    """Rows of each class in each split; the shade is the class's share of the split."""
    classes = sorted({row.label for row in rows})
    splits = [*SPLITS, *sorted({row.split for row in rows} - set(SPLITS))]
    counted = Counter((row.label, row.split) for row in rows)
    table = np.array([[counted[label, split] for split in splits] for label in classes])
    share = table / np.maximum(table.sum(axis=0), 1)
    axes.imshow(share, aspect="auto", cmap="Blues", vmin=0, vmax=2 * max(share.max(), 1e-9))
    for (row, column), count in np.ndenumerate(table):
        axes.text(column, row, str(count), ha="center", va="center", fontsize=8, color="black" if count else "#dc2626")
    totals = table.sum(axis=0)
    names = [f"{split or 'no split'}\n{total} rows" for split, total in zip(splits, totals, strict=True)]
    axes.set_xticks(range(len(splits)), names)
    axes.set_yticks(range(len(classes)), [name or "(empty)" for name in classes], fontsize=8, parse_math=False)
    axes.tick_params(length=0)
    axes.set_title("Rows by class and split")
    axes.spines[:].set_visible(False)
