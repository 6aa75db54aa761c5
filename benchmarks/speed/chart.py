"""The committed figures as README's chart and as the table of docs/scaling.md."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import Any

from matplotlib.figure import Figure

from avs.core.store import atomic
from avs.report.svg import ACCENT, INK, LINE, MUTED, SMALL, style, to_svg
from avs.report.svg import alone as by_itself
from benchmarks.speed.__main__ import STEPS

NAMES = {
    "preprocess": "preprocess",
    "cache_cpu": "feature cache, CPU",
    "packing": "mixed resolutions",
    "cache_gpu": "feature cache, GPU",
    "eventness": "eventness, anchors",
    "p0": "p0: all arms, seeds",
    "noop": "nothing to do",
    "one_clip": "one clip added",
    "seanet": "SEANet, both ways",
    "avsr_step": "step of AVSR",
    "muse_precompute": "MuSE features",
}
_DESCRIPTION = "How many times as fast as the alternative each step is; the table beside it has the numbers"


def draw(figures: Mapping[str, Any], path: Path) -> None:
    """Write the chart as an SVG: a bar a step, its goal, and what this machine allows at most."""
    rows = [name for name in STEPS if name in figures]
    with style():
        figure = Figure(figsize=(6.4, 0.34 * len(rows) + 0.9), layout="constrained")
        axes = figure.subplots()
        axes.set_xscale("log")
        for place, name in enumerate(rows):
            _bar(axes, place, figures[name])
        axes.axvline(1, color=INK, linewidth=0.8)
        axes.set_yticks(range(len(rows)), [NAMES[name] for name in rows], fontsize=SMALL)
        axes.set_ylim(len(rows) - 0.4, -0.6)
        ticks = (0.5, 1, 2, 5, 10, 20, 50, 100, 200, 500, 1000, 2000, 5000)
        largest = max(figures[name][key] or 1 for name in rows for key in ("ratio", "limit"))
        axes.set_xlim(0.45, 1.4 * largest)
        shown = [tick for tick in ticks if tick <= 1.4 * largest]
        axes.set_xticks(shown, [f"{tick:g}" for tick in shown])
        axes.minorticks_off()
        axes.grid(axis="x")
        axes.set_axisbelow(True)
        axes.set_xlabel("times as fast as the alternative   ( | goal,  ◇ what the machine allows )", fontsize=SMALL)
    with atomic(path) as file:
        file.write(by_itself(to_svg(figure, "speed", _DESCRIPTION)).encode())


def _bar(axes: Any, place: int, row: Mapping[str, Any]) -> None:
    if row["ratio"] is None:
        axes.text(1.05, place, "open", va="center", fontsize=SMALL, color=MUTED)
        return
    axes.barh(place, row["ratio"] - 1, left=1, height=0.62, color=ACCENT, linewidth=0)
    if row["goal"]:
        axes.plot([row["goal"]] * 2, [place - 0.4, place + 0.4], color=INK, linewidth=1.6)
    if limit := row["limit"]:
        axes.plot([limit], [place], marker="D", markersize=5, color=INK, markerfacecolor="none")
    text, beside = f"{row['ratio']:.3g}×", axes.get_yaxis_transform()
    axes.text(1.015, place, text, va="center", fontsize=SMALL, color=INK, weight="bold", transform=beside)
    axes.axhline(place + 0.5, color=LINE, linewidth=0.4)


def table(figures: Mapping[str, Any]) -> str:
    """What was timed, both medians, the ratio beside its goal, and the limit."""
    lines = ["| step | ours | alternative | ratio | goal | limit |", "|---|---|---|---|---|---|"]
    for name in STEPS:
        if name not in figures:
            continue
        row = figures[name]
        if row["ratio"] is None:
            lines.append(f"| {NAMES[name]} | open | | | {row['goal'] or ''} | |")
            continue
        met = "" if row["goal"] is None else f"{row['goal']:g} {'✓' if row['ratio'] >= row['goal'] else 'not met'}"
        cells = [_seconds(row["ours"]), _seconds(row["alternative"]), f"{row['ratio']:.3g}", met]
        lines.append(f"| {NAMES[name]} | {' | '.join(cells)} | {row['limit'] or ''} |")
    return "\n".join(lines)


def _seconds(value: float) -> str:
    return f"{value:.3g} s" if value < 100 else f"{value:,.0f} s"


def words(figures: Mapping[str, Any]) -> str:
    """What each step's row compares, as a list."""
    lines = []
    for name in STEPS:
        if name in figures:
            row = figures[name]
            limit = f" Limit: {row['limit_is']}." if row.get("limit_is") else ""
            left = f" **Open**: {row['open']}." if "open" in row else ""
            lines.append(f"- **{NAMES[name]}**: {row['what']}. Alternative: {row['alternative_is']}.{limit}{left}")
    return "\n".join(lines)
