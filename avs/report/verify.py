"""Holds README and docs against the committed figures, and those against the rows of single clips they came from."""

from __future__ import annotations

import json
import textwrap
from collections import Counter
from collections.abc import Callable, Iterator, Mapping
from contextlib import suppress
from dataclasses import dataclass, field
from importlib import import_module
from itertools import zip_longest
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Any

import numpy as np

from avs.core.errors import InputError
from avs.core.store import atomic
from avs.report.again import made_again
from avs.report.marks import Figure, Page, Render, agrees, body, read_marks, reprinted, woven
from avs.report.origin import RESULTS, Stage, maker, of_file, of_stage, read_lock, sources

_TRUSTED = ("avs", "benchmarks")  # packages whose functions may render
_MEND = "mend: python -m avs verify --write"
_NAME_IT = "name it: NUMBER<!--NAME:KEY-->, or say why it needs none: <!-- given: WHY --> at the paragraph's end"


@dataclass
class Report:
    """`pages`: a line on each text; `given`: why, and how many, figures of it have no source; `files`: what is known of
    each source; `problems`: one line each."""

    pages: dict[str, str] = field(default_factory=dict)
    given: dict[str, Counter[str]] = field(default_factory=dict)
    files: dict[str, dict[str, str]] = field(default_factory=dict)
    problems: list[str] = field(default_factory=list)


class Sources:
    """The files that figures come from, each read once.

    A `NAME` is docs/results/NAME.json, else results/NAME/metrics.json, else results/NAME.json.
    """

    def __init__(self, root: Path) -> None:
        self.root = root
        self._trees: dict[str, Any] = {}

    def path(self, name: str) -> str:
        """Raises InputError where no file has the name."""
        places = (f"{RESULTS}/{name}.json", f"results/{name}/metrics.json", f"results/{name}.json")
        for place in places:
            if (self.root / place).is_file():
                return place
        raise InputError(f"no source {name!r} (there is none of {', '.join(places)})")

    def tree(self, path: str) -> Any:
        """Raises InputError where the file is not there, or no JSON."""
        if path not in self._trees:
            try:
                self._trees[path] = json.loads((self.root / path).read_text(encoding="utf-8"))
            except FileNotFoundError:
                raise InputError(f"source {path} is not there") from None
            except (OSError, ValueError) as error:
                raise InputError(f"source {path} cannot be read: {error}") from None
        return self._trees[path]

    def value(self, source: str) -> tuple[str, float]:
        """The file of `NAME:KEY` and its number. Raises InputError where it has none there."""
        name, _, key = source.partition(":")
        path = self.path(name)
        tree = self.tree(path)
        for part in key.split("."):
            tree = tree.get(part) if isinstance(tree, dict) else None
        if isinstance(tree, bool) or not isinstance(tree, (int, float)):
            raise InputError(f"{path} has no number at {key!r}")
        return path, tree

    def text(self, render: Render) -> list[str]:
        """The lines that a mark's function makes of its file. Raises InputError where it cannot."""
        return [line.rstrip() for line in str(self.apply(render)).rstrip().split("\n")]

    def apply(self, render: Render, *arguments: Any) -> Any:
        """Call a mark's function with its file. Raises InputError where the two do not fit."""
        function, tree = _function(render.function), self.tree(render.source)
        try:
            return function(tree, *arguments)
        except (KeyError, IndexError, TypeError, ValueError) as error:
            raise InputError(f"{render.function} cannot read {render.source}: {error!r}") from error


def verify(root: Path = Path(), *, write: bool = False) -> Report:
    """Check all; `write` first renders anew what is marked, so that only what it cannot mend is left.

    Raises InputError where `root` is not the repository's.
    """
    if not (root / "README.md").is_file():
        raise InputError(f"no README.md in {root.absolute()} (run this in the repository's own folder)")
    lock, found, report = read_lock(root), Sources(root), Report()
    for path in _pages(root):
        if write:
            _mend(path, found)
        name = str(path.relative_to(root))
        page = read_marks(path.read_text(encoding="utf-8"))
        report.given[name] = Counter(figure.given for figure in page.figures if figure.given and not figure.source)
        report.pages[name] = _summary(page, report.given[name].total())
        report.problems += [f"{name}:{line}: {message}" for line, message in _disagreements(page, path, found)]
    for source in sources(root, lock):
        report.files[source], problems = _source(root, source, lock, found)
        report.problems += [f"{source}: {problem}" for problem in problems]
    return report


def print_report(report: Report, *, brief: bool = False) -> None:
    for source, facts in {} if brief else report.files.items():
        print(source)
        for title, text in facts.items():
            print(textwrap.fill(text, 118, initial_indent=f"  {title:<13} ", subsequent_indent=" " * 16))
    for name, line in report.pages.items():
        print(f"{name}: {line}")
        for why, count in {} if brief else report.given[name].items():
            print(textwrap.fill(f"{count:>4}: {why}", 118, subsequent_indent=" " * 6))
    print(*report.problems, sep="\n", end="\n" if report.problems else "")


def _pages(root: Path) -> list[Path]:
    return [root / "README.md", *sorted((root / "docs").rglob("*.md"))]


def _summary(page: Page, given: int) -> str:
    sourced = sum(bool(figure.source) for figure in page.figures)
    return f"{sourced} figures and {len(page.renders)} blocks from a source, {given} figures given, with the reason"


def _disagreements(page: Page, path: Path, found: Sources) -> Iterator[tuple[int, str]]:
    yield from page.faults
    bare: dict[int, list[str]] = {}
    for figure in page.figures:
        if figure.source and (message := _judged(figure, found)):
            yield figure.line, message
        elif not figure.source and not figure.given:
            bare.setdefault(figure.line, []).append(figure.text)
    for line, numbers in bare.items():
        yield line, f"{', '.join(numbers)} without a source ({_NAME_IT})"
    for render in page.renders:
        yield from _image(render, path, found) if render.path else _lines(render, found)


def _judged(figure: Figure, found: Sources) -> str:
    """What is wrong with a figure that names its source, or ''."""
    try:
        path, value = found.value(figure.source)
    except InputError as error:
        return f"{figure.text}: {error}"
    key = figure.source.partition(":")[2]
    return "" if agrees(figure, value) else f"prints {figure.text}, but {path} has {value:g} at {key} ({_MEND})"


def _lines(render: Render, found: Sources) -> Iterator[tuple[int, str]]:
    """Where the lines between marks are not what their function makes."""
    before, printed, _ = body(render.text)
    first = render.line + before.count("\n")
    try:
        wanted = woven(printed, found.text(render))
    except InputError as error:
        yield render.line, str(error)
        return
    differ = [
        (number, line, new)
        for number, (line, new) in enumerate(zip_longest(printed, wanted, fillvalue="nothing"))
        if line != new
    ]
    for number, line, new in differ if len(printed) == len(wanted) else differ[:1]:
        yield first + number, f"prints {line.strip()!r}, but {render.source} gives {new.strip()!r} ({_MEND})"


def _image(render: Render, path: Path, found: Sources) -> Iterator[tuple[int, str]]:
    try:
        if not _drawn_so(render, path.parent / render.path, found):
            yield render.line, f"{render.path} is not what {render.source} gives ({_MEND})"
    except InputError as error:
        yield render.line, str(error)


def _drawn_so(render: Render, target: Path, found: Sources, *, write: bool = False) -> bool:
    """Whether an image is what its function draws now: the pixels of a PNG, the bytes of others."""
    from matplotlib.image import imread

    read: Callable[[Path], Any] = imread if target.suffix == ".png" else Path.read_bytes
    with TemporaryDirectory() as folder:
        drawn = Path(folder) / target.name
        found.apply(render, drawn)
        same = target.is_file() and np.array_equal(read(drawn), read(target))
        if write and not same:
            _replace(target, drawn.read_bytes())
    return same


def _mend(path: Path, found: Sources) -> None:
    """Render anew what is marked in a text, from its end, so that places stay."""
    text = before = path.read_text(encoding="utf-8")
    page = read_marks(text)
    parts: list[Figure | Render] = [*page.figures, *page.renders]
    for part in sorted(parts, key=lambda part: part.start, reverse=True):
        with suppress(InputError):
            if isinstance(part, Render) and part.path:
                _drawn_so(part, path.parent / part.path, found, write=True)
            else:
                new = _reprinted(part, found) if isinstance(part, Figure) else _rewritten(part, found)
                text = text[: part.start] + new + text[part.end :]
    if text != before:
        _replace(path, text.encode())


def _reprinted(figure: Figure, found: Sources) -> str:
    value = found.value(figure.source)[1] if figure.source else None
    return figure.text if value is None or agrees(figure, value) else reprinted(figure, value)


def _rewritten(render: Render, found: Sources) -> str:
    before, printed, after = body(render.text)
    return before + "\n".join(woven(printed, found.text(render))) + "\n" + after


def _replace(path: Path, content: bytes) -> None:
    with atomic(path) as file:
        file.write(content)


def _function(name: str) -> Callable[..., Any]:
    """Raises InputError where it is none of this repository's."""
    module, _, attribute = name.rpartition(".")
    if module.partition(".")[0] not in _TRUSTED:
        raise InputError(f"{name} must be a function of {' or '.join(_TRUSTED)}")
    try:
        return getattr(import_module(module), attribute)
    except (ImportError, AttributeError) as error:
        raise InputError(f"no function {name}: {error}") from None


def _source(root: Path, path: str, lock: Mapping[str, Stage], found: Sources) -> tuple[dict[str, str], list[str]]:
    """What is known of a source, whether its own rows still give it, and what is wrong."""
    try:
        tree, stage = found.tree(path), maker(lock, path)
    except InputError as error:
        return {}, [str(error)]
    known = of_stage(root, path, stage, lock) if stage else of_file(root, path, tree)
    if stage is None:
        return known.facts, known.problems
    told, wrong = made_again(root, path, stage, tree)
    return known.facts | {"made again": told}, known.problems + wrong
