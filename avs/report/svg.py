"""Matplotlib figures as SVG that takes its colours from the page around it, or by itself from the reader's system."""

from __future__ import annotations

import io
import re
from collections.abc import Mapping, Sequence
from contextlib import AbstractContextManager
from html import escape
from typing import Any

import matplotlib as mpl
from matplotlib.figure import Figure

# Colours that no figure means as such: each stands for a variable of the style sheet.
INK, MUTED, LINE, ACCENT, GOOD, BAD, CARD = (f"#0{n}0{n}0{n}" for n in range(1, 8))
_VARIABLES = {
    INK: "ink",
    MUTED: "muted",
    LINE: "line",
    ACCENT: "accent",
    GOOD: "good",
    BAD: "bad",
    CARD: "card",
}
LIGHT = {
    "ink": "#1b2430",
    "muted": "#566273",
    "line": "#cfd6de",
    "accent": "#1d4ed8",
    "good": "#15703a",
    "bad": "#b42318",
    "anchor": "#b45309",
    "page": "#f6f7f9",
    "card": "#ffffff",
    "soft": "#e9edf2",
}
DARK = {
    "ink": "#e6eaf0",
    "muted": "#9daaba",
    "line": "#38434f",
    "accent": "#8ab4ff",
    "good": "#5ed58a",
    "bad": "#ff9a92",
    "anchor": "#f5b35c",
    "page": "#0f141a",
    "card": "#171e26",
    "soft": "#222b35",
}
WIDTH = 4.9  # inches: as wide as a phone, where a figure must not be scaled down
SMALL = 8.6  # points: names beside marks
_STYLE: Any = {
    "svg.hashsalt": "avs",
    "svg.fonttype": "none",
    "font.size": 9.5,
    "text.parse_math": False,  # names are no formulas, whatever is in them
    "axes.spines.top": False,
    "axes.spines.right": False,
    "axes.edgecolor": MUTED,
    "axes.labelcolor": INK,
    "axes.titlesize": 10.5,
    "axes.titleweight": "bold",
    "axes.titlelocation": "left",
    "text.color": INK,
    "xtick.color": MUTED,
    "ytick.color": MUTED,
    "xtick.labelcolor": INK,
    "ytick.labelcolor": INK,
    "grid.color": LINE,
    "grid.linewidth": 0.6,
}


def style() -> AbstractContextManager[None]:
    """Draw within `with style():`, so that equal figures have equal bytes."""
    return mpl.rc_context(_STYLE)


def to_svg(figure: Figure, name: str, description: str) -> str:
    """The `<svg>` element of a figure, to stand in a page beside others; `description` (plain words) is read aloud."""
    file = io.StringIO()
    with style():
        figure.savefig(file, format="svg", transparent=True, metadata={"Date": None, "Creator": None})
    text = file.getvalue()
    text = text[text.index("<svg") :]
    text = re.sub(r"<metadata>.*?</metadata>\s*", "", text, flags=re.DOTALL)
    text = _own_ids(text, name)
    for colour, variable in _VARIABLES.items():
        text = text.replace(colour, f"var(--{variable})")
    size = re.search(r'width="([\d.]+)pt" height="[\d.]+pt"', text)
    assert size is not None
    label = f'role="img" aria-label="{escape(description)}" style="max-width: {1.6 * float(size[1]):.0f}px"'
    return text.replace(size[0], label, 1)


def alone(svg: str) -> str:
    """The same as a file of its own, light or dark as the reader's system is."""
    light, dark = variables(LIGHT), variables(DARK)
    css = (
        f"<style>svg {{ {light} background: var(--card); }} @media (prefers-color-scheme: dark) {{ svg {{ {dark} }} }}"
    )
    head, _, rest = svg.partition(">")
    return f"{head}>{css}</style>{rest}"


def variables(theme: Mapping[str, str]) -> str:
    """A theme as declarations of a style sheet."""
    return " ".join(f"--{name}: {colour};" for name, colour in theme.items())


def spread_apart(values: Sequence[float], gap: float) -> list[float]:
    """Heights for labels, as near to `values` as can be with `gap` between each two, in the same order."""
    order = sorted(range(len(values)), key=lambda place: (values[place], place))
    blocks: list[list[float]] = []  # each [middle, count]: labels that push each other
    for place in order:
        blocks.append([values[place], 1])
        while len(blocks) > 1 and blocks[-1][0] - blocks[-2][0] < gap * (blocks[-1][1] + blocks[-2][1]) / 2:
            (upper, more), (lower, fewer) = blocks.pop(), blocks.pop()
            blocks.append([(upper * more + lower * fewer) / (more + fewer), more + fewer])
    heights = [middle + gap * (number - (count - 1) / 2) for middle, count in blocks for number in range(int(count))]
    return [height for _, height in sorted(zip(order, heights, strict=True))]


def _own_ids(text: str, name: str) -> str:
    """Ids that something refers to get the figure's name before them, so that two figures share a page; others go."""
    used = set(re.findall(r'(?:url\(|href=")#([^")]+)', text))

    def renamed(match: re.Match[str]) -> str:
        return f' id="{name}-{match[1]}"' if match[1] in used else ""

    text = re.sub(r' id="([^"]+)"', renamed, text)
    return re.sub(r'(url\(|href=")#([^")]+)', rf"\1#{name}-\2", text)
