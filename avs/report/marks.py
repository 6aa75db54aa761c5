"""Marks in Markdown, invisible to readers, that tie each figure to its source.

- `0.46<!--NAME:KEY-->`: the number before the mark is the rounded value of KEY (`a.b.c`) in NAME's JSON file;
- `<!-- from: FILE by MODULE.FUNCTION -->` … `<!-- end -->`: what stands between is what the function makes of the
  file; a line that is only `…` stands for lines left out;
- `![…](FILE.png)<!-- drawn: FILE by MODULE.FUNCTION -->`: the image is what the function draws of the file;
- `<!-- given: WHY -->` at the end of a paragraph, list item, table, or right after a code block: its other numbers
  are not measured here, and why (a setting, a definition, published by others).

A *figure* is a number that looks measured: a decimal, one with a unit of time, memory or work, a percentage, a count
of clips, rows, runs and the like, or one with a comma for thousands. No figures are: numbers in code spans, after
`=`, in versions and licences (`Python 3.11`), in names and sizes (`160/224/352`, `320×320`).
"""

from __future__ import annotations

import re
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from itertools import zip_longest

_FENCE = r"^ *```.*?^ *```[^\n]*$"
_CODE = r"(?P<tick>`+)(?:(?!\n\s*\n).)+?(?P=tick)"
_COMMENT = r"<!--.*?-->"
_TARGET = r"(?<=\])\([^)\n]*\)"
_FLAGS = re.MULTILINE | re.DOTALL

_MARK = re.compile(r"<!--[ ]*(?P<name>[\w/-]+):[ ]*(?P<rest>[^\n]*?)[ ]*-->|<!--[ ]*(?P<end>end)[ ]*-->")
_IMAGE = re.compile(r"!\[[^\]]*\]\((?P<path>[^)\s:]+)\)")
_BY = re.compile(r"(?P<source>\S+) by (?P<function>\S+)")
_BLOCK = re.compile(
    rf"{_FENCE}\n?(?:^ *{_COMMENT}[^\n]*\n?)*"
    r"|^(?! *```)[^\n]*\S[^\n]*\n?(?:^(?! *(?:```|[-*] |\d+\. ))[^\n]*\S[^\n]*\n?)*",
    _FLAGS,
)

_UNITS = (
    r"s|ms|µs|min|h|days?|hours?|minutes?|seconds?|bytes|[kKMGT]i?B|[MGTP]?FLOPs?(?:/s)?|points?|times|x|"
    r"clips?|rows?|videos?|files?|runs?|tests|nulls?|effects?|utterances?|words|parameters"
)
_SPACE = r" *\n? *"  # as long as a mark between number and unit, which is blanked
_NUMBER = re.compile(
    r"(?<![\w.,×/=-])(?P<number>[+−-]?(?:\d{1,3}(?:,\d{3})+|\d+)?(?:\.\d+)?)(?<=\d)"
    rf"(?![×/]?\d|\.\d|,\d|-\d)(?P<percent>{_SPACE}%)?(?:(?P<unit>(?:{_SPACE}|-)(?:{_UNITS})(?!\w))|(?!\w))"
)
_VERSIONED = re.compile(r"(?:Python|CUDA|PyTorch|Apache|BY|NC|driver|version) \**$")


@dataclass(frozen=True)
class Figure:
    """A number at [`start`, `end`) of the text; `source` is `NAME:KEY` or '', `given` why it needs none or ''."""

    line: int
    start: int
    end: int
    text: str
    scale: float  # 100 for percentages and points
    source: str
    given: str


@dataclass(frozen=True)
class Render:
    """Lines at [`start`, `end`) of the text that `function` made of `source`; for an image, its `path`."""

    line: int
    start: int
    end: int
    text: str
    source: str
    function: str
    path: str = ""


@dataclass(frozen=True)
class Page:
    """The figures and what is rendered in one text, and the lines and words of marks that mean nothing."""

    figures: list[Figure]
    renders: list[Render]
    faults: list[tuple[int, str]]


def read_marks(text: str) -> Page:
    """Find all marks, and all numbers that need one."""
    prose = _blanked(text, f"(?P<blank>{_FENCE}|{_CODE})")
    marks = list(_MARK.finditer(prose))
    renders, faults = _renders(text, prose, marks)
    inside = [(render.start, render.end) for render in renders]
    numbers = [n for n in _numbers(text) if not any(a <= n.start() < b for a, b in inside)]
    tags = {}
    for mark in marks:
        if mark["name"] and mark["name"] not in ("from", "drawn", "given"):
            number = _before(numbers, mark, prose)
            if number is None or number in tags:
                faults.append((_line(text, mark.start()), f"no number stands before {mark[0]}"))
            else:
                tags[number] = f"{mark['name']}:{mark['rest']}"
    given = _given(text, marks)
    figures = [_figure(text, n, tags.get(n, ""), given) for n in numbers if n in tags or _looks_measured(n, text)]
    return Page(figures, renders, faults)


def agrees(figure: Figure, value: float) -> bool:
    """Whether the figure as printed is the value, rounded to its decimals; a half may go either way."""
    printed = float(figure.text.replace(",", "").replace("−", "-"))
    return abs(printed - value * figure.scale) <= 0.5 * 10.0 ** -_decimals(figure.text) + 1e-9


def reprinted(figure: Figure, value: float) -> str:
    """The value in the figure's own style: decimals, sign, thousands, and whether a zero leads."""
    text = figure.text
    number = f"{abs(value * figure.scale):{',' if ',' in text else ''}.{_decimals(text)}f}"
    number = number.removeprefix("0") if text.lstrip("+-−").startswith(".") and number.startswith("0.") else number
    positive = "+" if text.startswith("+") else ""
    return f"{('-' if text.startswith('-') else '−') if value < 0 else positive}{number}"


def woven(printed: Sequence[str], made: Sequence[str]) -> list[str]:
    """The lines that were made, with the empty lines of what is printed, and less those that a `…` there leaves out.

    A line is known again by its words, whatever its numbers.
    """
    lines = [line for line in made if line.strip()]
    kept: list[str] = []
    place, cut = 0, False
    for line in printed:
        if line.strip() in ("", "…"):
            kept.append(line)
            cut = cut or bool(line.strip())
            continue
        found = next((i for i in range(place, len(lines)) if _words(lines[i]) == _words(line)), None)
        if found is not None:
            kept += lines[found if cut else place : found + 1]
            place, cut = found + 1, False
    return kept if cut else kept + lines[place:]


def body(text: str) -> tuple[str, list[str], str]:
    """What is rendered without the code fence that may surround it: (before, lines, after)."""
    fenced = re.fullmatch(r"(\s*```[^\n]*\n)(.*?)(^ *```\s*)", text, _FLAGS)
    before, inner, after = fenced.groups() if fenced else ("\n", text.strip("\n") + "\n", "")
    return before, [line.rstrip() for line in inner.removesuffix("\n").split("\n")], after


def _renders(text: str, prose: str, marks: Sequence[re.Match[str]]) -> tuple[list[Render], list[tuple[int, str]]]:
    found, faults, covered = [], [], set()
    for mark, following in zip_longest(marks, marks[1:]):
        line, by = _line(text, mark.start()), _BY.fullmatch(mark["rest"] or "")
        if mark["name"] in ("from", "drawn") and not by:
            faults.append((line, f"{mark[0]} is not 'FILE by MODULE.FUNCTION'"))
        elif mark["name"] == "from" and by:
            if not (following and following["end"]):
                faults.append((line, f"{mark[0]} has no <!-- end -->"))
                continue
            start, end = mark.end(), following.start()
            found.append(Render(line, start, end, text[start:end], by["source"], by["function"]))
        elif mark["name"] == "drawn" and by:
            images = [i for i in _IMAGE.finditer(prose, 0, mark.start()) if not prose[i.end() : mark.start()].strip()]
            covered |= {image.start() for image in images}
            paths = [image["path"] for image in images] or [""]
            found.append(Render(line, mark.start(), mark.start(), "", by["source"], by["function"], paths[0]))
    faults += [
        (_line(text, image.start()), f"{image['path']} has no source: add <!-- drawn: FILE by MODULE.FUNCTION -->")
        for image in _IMAGE.finditer(prose)
        if image.start() not in covered
    ]
    return found, faults


def _given(text: str, marks: Sequence[re.Match[str]]) -> list[tuple[int, int, str]]:
    """The blocks that end in a `given`, with what it says."""
    whys = [(mark.start(), mark["rest"]) for mark in marks if mark["name"] == "given"]
    blocks = [block.span() for block in _BLOCK.finditer(text)]
    return [(start, end, why) for start, end in blocks for place, why in whys if start <= place < end]


def _numbers(text: str) -> Iterator[re.Match[str]]:
    """All numbers that a reader sees, code spans and links' targets left out, code blocks not."""
    visible = _blanked(text, f"(?P<keep>{_FENCE})|(?P<blank>{_CODE}|{_COMMENT}|{_TARGET})")
    return _NUMBER.finditer(visible)


def _blanked(text: str, pattern: str) -> str:
    """The text with what the pattern's `blank` matches turned to spaces, so that places stay."""

    def blank(match: re.Match[str]) -> str:
        return re.sub(r"[^\n]", " ", match[0]) if match["blank"] is not None else match[0]

    return re.sub(pattern, blank, text, flags=_FLAGS)


def _before(numbers: Sequence[re.Match[str]], mark: re.Match[str], prose: str) -> re.Match[str] | None:
    """The last number on the mark's line before it."""
    line_start = prose.rfind("\n", 0, mark.start()) + 1
    return next((n for n in reversed(numbers) if line_start <= n.start() < mark.start()), None)


def _looks_measured(number: re.Match[str], text: str) -> bool:
    if number["unit"] or number["percent"]:
        return True
    versioned = _VERSIONED.search(text, max(0, number.start() - 20), number.start())
    return not versioned and bool(re.search("[.,]", number["number"]))


def _figure(text: str, number: re.Match[str], source: str, given: Sequence[tuple[int, int, str]]) -> Figure:
    start, end = number.span("number")
    why = next((why for first, last, why in given if first <= start < last), "")
    scale = 100.0 if number["percent"] or (number["unit"] or "").strip(" \n-") in ("point", "points") else 1.0
    return Figure(_line(text, start), start, end, number["number"], scale, source, why)


def _line(text: str, place: int) -> int:
    return text.count("\n", 0, place) + 1


def _decimals(text: str) -> int:
    return len(text.partition(".")[2])


def _words(line: str) -> str:
    """What tells the lines of a table apart when their numbers change."""
    return "".join(re.findall(r"[^\W\d]+|─", line))
