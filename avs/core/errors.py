"""The one error that is meant for the user's eyes."""

import re

_LONG = re.compile(r"\S{400,}")  # no path, key or number that a person gave on purpose
_WORD, _MESSAGE = 80, 3000  # characters that are told


class InputError(ValueError):
    """Something that the user gave is wrong; the message names it, its value and the way out.

    Of what a hostile table puts into it without end, only the beginning is told.
    """

    def __init__(self, message: str) -> None:
        short = _LONG.sub(lambda word: f"{word[0][:_WORD]}…", message)
        super().__init__(short if len(short) <= _MESSAGE else f"{short[:_MESSAGE]}…")
