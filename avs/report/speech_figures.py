"""The figures of the speech study's page: word error rates by condition, and learning curves."""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from itertools import groupby
from textwrap import wrap
from typing import Any

from matplotlib.axes import Axes
from matplotlib.figure import Figure

from avs.report.speech_results import Tree
from avs.report.speech_words import condition_lines, conditions_in_order, family, model_text, models_in_order
from avs.report.svg import ACCENT, INK, MUTED, SMALL, WIDTH, style, to_svg

_LOOKS: Mapping[str, tuple[str, str, bool]] = {  # colour, mark, whether SEANet takes part
    "audio": (INK, "o", False),
    "video": (MUTED, "s", False),
    "av": (ACCENT, "D", False),
    "audio_seanet": (INK, "^", True),
    "av_seanet": (ACCENT, "v", True),
    "audio_separate": (INK, "P", True),
    "av_separate": (ACCENT, "X", True),
    "audio_wrong": (MUTED, "<", True),
    "av_wrong": (MUTED, ">", True),
}
_OTHER = (MUTED, "X", False)
_STEP = 0.09  # by which a model's marks stand beside the next one's
_POINTS = 400  # of a learning curve, at most


def word_errors(wer: Mapping[str, Mapping[str, Tree]]) -> str:
    """WER with its interval by condition, a line a model through the conditions that differ in their level only."""
    models = models_in_order(wer)
    conditions = conditions_in_order(name for rows in wer.values() for name in rows)
    with style():
        figure = Figure(figsize=(max(WIDTH, 0.7 * len(conditions) + 0.6), 3.9), layout="constrained")
        axes = figure.subplots()
        for place, model in enumerate(models):
            _model(axes, model, wer[model], conditions, _STEP * (place - (len(models) - 1) / 2))
        labels = ["\n".join(line for part in condition_lines(n) for line in wrap(part, 11)) for n in conditions]
        axes.set_xticks(range(len(conditions)), labels, fontsize=SMALL - 0.6)
        axes.set(ylabel="words wrong in %, 95 % interval", xlim=(-0.5, len(conditions) - 0.5))
        axes.set_ylim(bottom=0)
        axes.grid(axis="y")
        axes.set_axisbelow(True)
        figure.legend(loc="outside upper left", ncols=2, frameon=False, fontsize=SMALL, handlelength=2.6)
    return to_svg(figure, "wer", "Word error rates by condition and model, as in the table")


def _model(axes: Axes, model: str, rows: Mapping[str, Tree], conditions: Sequence[str], shift: float) -> None:
    colour, mark, seanet = _LOOKS.get(model, _OTHER)
    face = "none" if seanet else colour
    look: dict[str, Any] = {"color": colour, "marker": mark, "markersize": 5, "markerfacecolor": face}
    look |= {"linestyle": "--" if seanet else "-", "linewidth": 1.3, "label": model_text(model)}
    there = [(place, name) for place, name in enumerate(conditions) if name in rows]
    for _, together in groupby(there, key=lambda item: family(item[1])):
        line = list(together)
        xs = [place + shift for place, _ in line]
        for x, (_, name) in zip(xs, line, strict=True):
            if "low" in rows[name]:
                axes.plot([x, x], [100 * rows[name]["low"], 100 * rows[name]["high"]], color=colour, linewidth=1)
        axes.plot(xs, [100 * rows[name]["wer"] for _, name in line], **look)
        look["label"] = "_"  # once in the legend


def learning_curve(name: str, points: Sequence[tuple[float, float]], number: int) -> str:
    """One number over the steps of a training; long ones are thinned, what is not finite is left out."""
    finite = [(step, value) for step, value in points if math.isfinite(step) and math.isfinite(value)]
    every = max(1, math.ceil(len(finite) / _POINTS))
    kept = finite[:-1:every] + finite[-1:]
    with style():
        figure = Figure(figsize=(3.1, 2.1), layout="constrained")
        axes = figure.subplots()
        axes.plot(*zip(*kept, strict=True) if kept else ([], []), color=ACCENT, linewidth=1.3)
        if len(kept) == 1:
            axes.plot(*kept[0], "o", color=ACCENT, markersize=4)
        axes.set(title=name, xlabel="step")
        axes.grid(axis="y")
    said = f"{name} over {len(finite)} steps" + (f", {finite[0][1]:.4g} to {finite[-1][1]:.4g}" if finite else "")
    return to_svg(figure, f"curve-{number}", said)
