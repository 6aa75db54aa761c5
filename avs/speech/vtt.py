"""WebVTT, as far as it says who says what when: cues with their times and their text, without marks."""

from __future__ import annotations

import html
import re
from dataclasses import dataclass
from pathlib import Path

from avs.core.errors import InputError
from avs.speech.subset import one_line

_MAX_BYTES = 8 << 20
_TOLD = 80  # characters of a line in a message
_TIME = r"(?:(\d{1,4}):)?([0-5]\d):([0-5]\d)[.,](\d{3})"
_TIMES = re.compile(rf"\s*{_TIME}\s+-->\s+{_TIME}(?:\s.*)?")
_MARK = re.compile(r"<[^<>]*>")


@dataclass(frozen=True)
class Cue:
    """`text` is said from `start` to `end`, in seconds."""

    start: float
    end: float
    text: str


def read_cues(path: Path) -> list[Cue]:
    """The cues of a file that say something, by time. Raises InputError naming the line that is wrong."""
    lines = _lines(path)
    found: list[tuple[float, float, list[str]]] = []
    text: list[str] | None = None
    for number, line in enumerate(lines, start=1):
        if "-->" in line:
            text = []
            found.append((*_times(path, number, line), text))
        elif not line.strip():
            text = None
        elif text is not None:
            text.append(line)
    cues = [Cue(start, end, one_line(html.unescape(_MARK.sub("", " ".join(said))))) for start, end, said in found]
    return sorted((cue for cue in cues if cue.text), key=lambda cue: (cue.start, cue.end))


def _lines(path: Path) -> list[str]:
    if not path.is_file():
        raise InputError(f"{path}: not there, or not a regular file")
    if path.stat().st_size > _MAX_BYTES:
        raise InputError(f"{path}: larger than {_MAX_BYTES} bytes")
    try:
        lines = path.read_text(encoding="utf-8-sig").splitlines()
    except (OSError, UnicodeDecodeError) as error:
        raise InputError(f"{path}: cannot be read as UTF-8 text: {error}") from error
    if not lines or not lines[0].startswith("WEBVTT"):
        raise InputError(f"{path}, line 1: must be WEBVTT")
    return lines


def _times(path: Path, number: int, line: str) -> tuple[float, float]:
    match = _TIMES.fullmatch(line)
    if not match:
        raise InputError(f"{path}, line {number}: must be HH:MM:SS.mmm --> HH:MM:SS.mmm: {line[:_TOLD]!r}")
    start, end = _seconds(match.groups()[:4]), _seconds(match.groups()[4:])
    if end <= start:
        raise InputError(f"{path}, line {number}: must end ({end:g} s) after it starts ({start:g} s)")
    return start, end


def _seconds(groups: tuple[str | None, ...]) -> float:
    hours, minutes, seconds, thousandths = (int(group or 0) for group in groups)
    return (hours * 3_600_000 + minutes * 60_000 + seconds * 1000 + thousandths) / 1000
