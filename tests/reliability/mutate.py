"""A seed and some good files to one damaged or hostile file: bytes, numbers in them, and words of text."""

from __future__ import annotations

import random
import struct
from collections.abc import Callable, Sequence

_NUMBERS = (0, 1, 0x7F, 0xFF, 0x7FFF, 0xFFFF, 0x7FFFFFFF, 0x80000000, 0xFFFFFFFF, 0x7FFFFFFFFFFFFFFF)
# What texts must not do harm with: paths out, formulas, control characters, numbers that are none, very long cells.
WORDS = (
    "",
    "../../outside",
    "/outside",
    "..",
    "-",
    "NaN",
    "inf",
    "-1",
    "1e309",
    "9" * 400,
    "\0",
    "\x1b[2J",
    "\t",
    "\n",
    "\r\n",
    '"',
    "&",
    "=1+1",
    "$(touch outside)",
    "!!python/object/apply:os.system ['touch outside']",
    "&a [*a, *a]",
    "{" * 3000,
    "x" * 100_000,
    "é\u202e\U0001f600",
    "\ud800",
    "true",
    "null",
    "0x10",
    "1_000",
)


def mutated(seed: int, good: Sequence[bytes], *, text: bool) -> bytes:
    """One to four changes of one of the files, drawn by the seed alone."""
    draw = random.Random(seed)
    data = bytearray(draw.choice(good))
    ways = _TEXT if text and draw.random() < 0.8 else _BYTES
    for _ in range(draw.choice((1, 1, 1, 2, 3, 4))):
        draw.choice(ways)(draw, data, good)
    return bytes(data)


def _place(draw: random.Random, data: bytearray) -> int:
    """Anywhere, half of the time among the first bytes, where headers are."""
    return draw.randrange(min(len(data), 512) if draw.random() < 0.5 else len(data)) if data else 0


def _flip(draw: random.Random, data: bytearray, _: Sequence[bytes]) -> None:
    for _ in range(draw.choice((1, 4, 64))):
        if data:
            data[_place(draw, data)] ^= 1 << draw.randrange(8)


def _number(draw: random.Random, data: bytearray, _: Sequence[bytes]) -> None:
    size, order = draw.choice((1, 2, 4, 8)), draw.choice("<>")
    place = _place(draw, data)
    value = draw.choice(_NUMBERS) & ((1 << 8 * size) - 1)
    data[place : place + size] = struct.pack(order + {1: "B", 2: "H", 4: "I", 8: "Q"}[size], value)


def _cut(draw: random.Random, data: bytearray, _: Sequence[bytes]) -> None:
    del data[_place(draw, data) :]


def _remove(draw: random.Random, data: bytearray, _: Sequence[bytes]) -> None:
    place = _place(draw, data)
    del data[place : place + draw.choice((1, 16, 512, 4096))]


def _repeat(draw: random.Random, data: bytearray, _: Sequence[bytes]) -> None:
    place = _place(draw, data)
    part = data[place : place + draw.choice((1, 16, 512, 4096))]
    data[place:place] = bytes(part) * draw.choice((1, 2, 100))


def _noise(draw: random.Random, data: bytearray, _: Sequence[bytes]) -> None:
    place = _place(draw, data)
    noise = draw.randbytes(draw.choice((1, 16, 512, 4096)))
    data[place : place + (len(noise) if draw.random() < 0.5 else 0)] = noise


def _splice(draw: random.Random, data: bytearray, good: Sequence[bytes]) -> None:
    other = draw.choice(good)
    place, start = _place(draw, data), draw.randrange(len(other))
    data[place:] = other[start:]


def _word(draw: random.Random, data: bytearray, _: Sequence[bytes]) -> None:
    """Another word in the place of one, between separators."""
    words = [0, *(place + 1 for place, byte in enumerate(data) if byte in b"\t\n &:,[]{}")]
    start = draw.choice(words)
    end = next((place for place in words if place > start), len(data) + 1) - 1
    data[start:end] = draw.choice(WORDS).encode(errors="surrogatepass")


def _line(draw: random.Random, data: bytearray, _: Sequence[bytes]) -> None:
    """A line more, or one twice, or one less."""
    lines = bytes(data).split(b"\n")
    place = draw.randrange(len(lines))
    lines[place : place + draw.randrange(2)] = [lines[draw.randrange(len(lines))]] * draw.choice((0, 1, 2, 1000))
    data[:] = b"\n".join(lines)


Way = Callable[[random.Random, bytearray, Sequence[bytes]], None]
_BYTES: tuple[Way, ...] = (_flip, _flip, _number, _number, _cut, _remove, _repeat, _noise, _splice)
_TEXT: tuple[Way, ...] = (_word, _word, _word, _line, _flip, _cut)
