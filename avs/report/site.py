"""What the pages of the studies share: templates, style, scripts of data, and a folder that keeps nothing old."""

from __future__ import annotations

import hashlib
import json
import re
from collections.abc import Iterable, Mapping
from pathlib import Path
from typing import Any

from jinja2 import Environment, FileSystemLoader, StrictUndefined
from markupsafe import Markup

from avs.core.store import atomic
from avs.report.numbers import bounds, p_value, points
from avs.report.svg import DARK, LIGHT, variables

TEMPLATES = Path(__file__).parent / "templates"
_SHORT = 80  # characters of a name that are shown


def render(template: str, **values: Any) -> str:
    """A template of `templates/`: all text in it is escaped."""
    environment = Environment(
        loader=FileSystemLoader(TEMPLATES),
        autoescape=True,
        undefined=StrictUndefined,
        trim_blocks=True,
        lstrip_blocks=True,
        keep_trailing_newline=True,
    )
    environment.filters |= {"breakable": breakable, "points": points, "bounds": bounds, "p": p_value}
    return environment.get_template(template).render(**values)


def style_sheet() -> str:
    """The style sheet, after the colours of both themes: by the reader's system, or as the page's button says."""
    light, dark = variables(LIGHT), variables(DARK)
    themes = (
        f":root {{ color-scheme: light; {light} }}\n"
        f"@media (prefers-color-scheme: dark) {{ :root {{ color-scheme: dark; {dark} }} }}\n"
        f':root[data-theme="light"] {{ color-scheme: light; {light} }}\n'
        f':root[data-theme="dark"] {{ color-scheme: dark; {dark} }}\n'
    )
    return themes + template_text("page.css")


def template_text(name: str) -> str:
    """A file of `templates/` as it is."""
    return (TEMPLATES / name).read_text(encoding="utf-8")


def breakable(name: str) -> Markup:
    """A name that may be broken after an underscore, and is cut where it is very long."""
    return Markup("<wbr>").join(re.split("(?<=_)", name if len(name) <= _SHORT else f"{name[: _SHORT - 1]}…"))


def script(variable: str, tree: Any) -> str:
    """A script that sets a variable to JSON, since a page from disk may not fetch it.

    Names come from files of anyone's: no character of them can end the string, the script or its line.
    """
    text = json.dumps(tree, sort_keys=True, separators=(",", ":"), allow_nan=False)  # ASCII only
    for character in "<>&":
        text = text.replace(character, f"\\u{ord(character):04x}")
    return f"window.{variable} = {text};\n"


def folder_name(key: str) -> str:
    """A clip's folder: keys hold names of videos, which need not suit a file system or an address."""
    return hashlib.sha256(key.encode()).hexdigest()[:16]


def write_texts(out: Path, files: Mapping[str, str]) -> None:
    """Write files by their names below `out`."""
    for name, text in files.items():
        with atomic(out / name) as file:
            file.write(text.encode())


def prune(out: Path, kept: Iterable[str]) -> None:
    """Remove the files of an earlier page, and folders left empty."""
    names = set(kept)
    for path in sorted(out.rglob("*"), reverse=True):
        if path.is_dir():
            if not any(path.iterdir()):
                path.rmdir()
        elif path.relative_to(out).as_posix() not in names:
            path.unlink()
