"""The figures of the AVS page: contrasts, efficiency, recall. `plot_data` has the same points for `dvc plots`."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np
from matplotlib.axes import Axes
from matplotlib.figure import Figure
from matplotlib.transforms import offset_copy

from avs.report.numbers import sign
from avs.report.results import BASELINE, MAIN, MEASURES, Results, Tree, families, ordered
from avs.report.svg import ACCENT, BAD, CARD, GOOD, INK, LINE, MUTED, SMALL, WIDTH, spread_apart, style, to_svg

AXES = {"tokens": "visual tokens a clip", "gflops": "GFLOP a clip", "seconds": "seconds to encode a clip, here"}
KINDS = {
    "anchors": "audio anchors",
    "random": "random",
    "random_spaced": "random, spaced",
    "constant": "best constant",
    "best": "best possible",
}
_COLOURS = {"even": INK, "anchored": ACCENT, "oracle": GOOD}
_NAMED = (BASELINE, "uniform_low", "uniform_high", "flop_matched_uniform", "random_topk", MAIN, "oracle_topk")
_MARKS = {BASELINE: INK, MAIN: ACCENT, "oracle_topk": GOOD}
_ROW = 0.4  # inches a contrast


def forest(measure: str, rows: Mapping[str, Tree], name: str) -> str:
    """Each contrast's difference with its 95 % interval; filled where it is significant after Holm."""
    names = list(rows)
    with style():
        figure = Figure(figsize=(WIDTH, 0.75 + _ROW * len(names)), layout="constrained")
        axes = figure.subplots()
        for place, contrast in enumerate(names):
            _interval(axes, place, contrast, rows[contrast])
        axes.axvline(0, color=MUTED, linewidth=1, zorder=0)
        axes.set_ylim(len(names) - 0.3, -0.75)
        axes.set_yticks([])
        axes.spines["left"].set_visible(False)
        axes.grid(axis="x")
        axes.set_axisbelow(True)
        axes.set(title=MEASURES.get(measure, measure), xlabel="difference in percentage points, 95 % interval")
    return to_svg(figure, name, f"Contrasts in {MEASURES.get(measure, measure)}, as in the table beside")


def efficiency(x: str, arms: Mapping[str, Tree], bounds: Mapping[str, Tree]) -> str:
    """Accuracy of the arms with its interval, against their cost, `arms[NAME][x]`."""
    with style():
        figure = Figure(figsize=(WIDTH, 3.1), layout="constrained")
        axes = figure.subplots()
        for name in ordered(arms):
            _arm(axes, name, arms[name][x], bounds[name])
        _name_arms(axes, {name: (arms[name][x], bounds[name]["accuracy"]) for name in _NAMED if name in arms})
        axes.set(xlabel=AXES[x], ylabel="accuracy", title=f"Accuracy against {AXES[x]}")
        axes.margins(x=0.08)
        left, right = axes.get_xlim()
        axes.set_xlim(max(0, left), right + 0.42 * (right - left))
        axes.grid(axis="y")
    return to_svg(figure, x, f"Accuracy of each arm against {AXES[x]}, as in the table of arms")


def budgets(x: str, curve: Tree) -> str:
    """Accuracy over budgets, a line a kind of plan: `curve` is budget → kind → accuracy and cost."""
    with style():
        figure = Figure(figsize=(WIDTH, 3.1), layout="constrained")
        axes = figure.subplots()
        for kind, (costs, accuracies) in _lines(curve, x).items():
            axes.plot(costs, accuracies, "-o", color=_COLOURS.get(kind, MUTED), markersize=4, linewidth=1.6, label=kind)
        axes.set(xlabel=AXES[x], ylabel="accuracy", title="Accuracy over budgets")
        axes.grid(axis="y")
        axes.legend(loc="lower right", frameon=False)
    return to_svg(figure, f"budgets-{x}", f"Accuracy over budgets, against {AXES[x]}")


def recall(curves: Sequence[Tree]) -> str:
    """Share of event seconds within Δ seconds of an anchor, beside what other anchors would reach."""
    deltas = [row["delta"] for row in curves]
    kinds = ordered([kind for kind in curves[0] if kind != "delta"], KINDS)
    with style():
        figure = Figure(figsize=(WIDTH, 3.1), layout="constrained")
        axes = figure.subplots()
        for kind in kinds:
            main = kind == "anchors"
            colour = {"anchors": ACCENT, "best": GOOD}.get(kind, MUTED)
            values = [row[kind] for row in curves]
            axes.plot(deltas, values, "-o" if main else "--o", color=colour, markersize=4, linewidth=2 if main else 1)
        ends = [curves[0][kind] for kind in kinds]
        for kind, end, height in zip(kinds, ends, spread_apart(ends, 0.065), strict=True):
            _label(axes, (deltas[0], end), (deltas[0], height), KINDS.get(kind, kind), side=-1)
        axes.set_xlim(deltas[0] - 0.75 * max(1, deltas[-1] - deltas[0]) / 1.6, deltas[-1] + 0.1)
        axes.set_xticks(deltas)
        axes.set(title="Recall of event seconds", xlabel="tolerance Δ in seconds", ylabel="recall", ylim=(0, 1.03))
        axes.grid(axis="y")
    return to_svg(figure, "recall", "Recall of event seconds against the tolerance, as in the table beside")


def plot_data(results: Results) -> dict[str, list[dict[str, Any]]]:
    """The figures' points by file name, a row each, for the templates of `dvc plots`."""
    found = {
        f"{family}_{measure}": [_point(name, row) for name, row in rows.items()]
        for family, tested in families(results.metrics).items()
        for measure, rows in tested.items()
    }
    curve = results.metrics.get("curve", {})
    budgets = [
        {"kind": kind, "accuracy": row["accuracy"]["mean"], "tokens": row["tokens"], "gflops": row["gflops"]}
        for budget in sorted(curve, key=float)
        for kind, row in curve[budget].items()
    ]
    columns = ("arm", "accuracy", "tokens", "gflops")
    arms = [{"kind": "arms"} | {name: row[name] for name in columns} for row in results.arms_plot]
    return found | {"efficiency": arms + budgets}


def _point(contrast: str, row: Tree) -> dict[str, Any]:
    return {"contrast": contrast, "difference": row["diff"], "low": row["ci_low"], "high": row["ci_high"]}


def _interval(axes: Axes, place: int, contrast: str, row: Tree) -> None:
    low, diff, high = (100 * row[key] for key in ("ci_low", "diff", "ci_high"))
    found = sign(row)
    colour = {1: GOOD, -1: BAD, 0: MUTED}[found]
    axes.plot([low, high], [place, place], color=colour, linewidth=1.6, solid_capstyle="butt")
    axes.plot([diff], [place], "o", color=colour, markersize=5.5, markerfacecolor=colour if found else "none")
    text = contrast.replace("-", " − ")
    behind = {"facecolor": CARD, "edgecolor": "none", "pad": 0.6}
    at = axes.get_yaxis_transform()
    axes.text(0, place - 0.34, text, transform=at, fontsize=SMALL, va="center", bbox=behind)


def _arm(axes: Axes, name: str, cost: float, bound: Tree) -> None:
    colour, strong = _MARKS.get(name, MUTED), name in _MARKS
    axes.plot([cost, cost], [bound["low"], bound["high"]], color=colour, linewidth=1.4 if strong else 0.8)
    axes.plot([cost], [bound["accuracy"]], "o", color=colour, markersize=5 if strong else 3.2)


def _name_arms(axes: Axes, points: Mapping[str, tuple[float, float]]) -> None:
    low, high = axes.get_ylim()
    for here in _columns(points, near=0.3 * np.ptp([cost for cost, _ in points.values()])):
        heights = spread_apart([accuracy for _, accuracy in here.values()], 0.08 * (high - low))
        edge = max(cost for cost, _ in here.values())
        for (name, (cost, accuracy)), height in zip(here.items(), heights, strict=True):
            _label(axes, (cost, accuracy), (edge, height), name)


def _columns(points: Mapping[str, tuple[float, float]], near: float) -> list[dict[str, tuple[float, float]]]:
    """Points by their cost, those together whose names would meet."""
    columns: list[dict[str, tuple[float, float]]] = []
    last = -np.inf
    for name, (cost, accuracy) in sorted(points.items(), key=lambda item: item[1]):
        if cost - last > near:
            columns.append({})
        columns[-1][name] = (cost, accuracy)
        last = cost
    return columns


def _label(axes: Axes, point: tuple[float, float], beside: tuple[float, float], text: str, side: int = 1) -> None:
    """A name to the right of `beside`, or to the left where `side` is -1, with a thin line to its point."""
    line = {"arrowstyle": "-", "color": LINE, "linewidth": 0.8, "shrinkA": 0, "shrinkB": 2}
    far = offset_copy(axes.transData, axes.get_figure(root=True), 9 * side, 0, units="points")
    across = "left" if side > 0 else "right"
    axes.annotate(text, point, beside, textcoords=far, fontsize=SMALL, arrowprops=line, va="center", ha=across)


def _lines(curve: Tree, x: str) -> dict[str, tuple[list[float], list[float]]]:
    """Each kind of the budget curve: costs, and accuracies."""
    lines: dict[str, tuple[list[float], list[float]]] = {}
    for budget in sorted(curve, key=float):
        for kind, row in curve[budget].items():
            if x in row:
                costs, accuracies = lines.setdefault(kind, ([], []))
                costs.append(row[x])
                accuracies.append(row["accuracy"]["mean"])
    return lines
