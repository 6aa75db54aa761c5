"""Text as numbers of word pieces, and back."""

from __future__ import annotations

import base64
from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path
from typing import Any

from avs.core.errors import InputError

SPACE = "\N{LOWER ONE EIGHTH BLOCK}"  # how sentencepiece writes the beginning of a word
FAIRSEQ_SPECIAL = ("<s>", "<pad>", "</s>", "<unk>")
MAX_SYMBOLS = 1 << 17


@dataclass(frozen=True)
class Tokenizer:
    """The symbol of each number, and sentencepiece's model, which is needed only to encode.

    upper: the case of the text that the model was trained on; special: symbols that are no text. Without a model,
    `whole` says that symbols are whole words, each after SPACE.
    """

    symbols: tuple[str, ...]
    model: bytes | None = None
    upper: bool = False
    special: tuple[str, ...] = FAIRSEQ_SPECIAL
    whole: bool = False

    def __post_init__(self) -> None:
        if not 0 < len(self.symbols) <= MAX_SYMBOLS or not all(isinstance(symbol, str) for symbol in self.symbols):
            raise InputError(f"a vocabulary of {len(self.symbols)} symbols must be 1 to {MAX_SYMBOLS} strings")

    def pieces(self, tokens: Iterable[int]) -> list[str]:
        """The symbols of tokens, special ones left out."""
        return [symbol for symbol in (self.symbols[token] for token in tokens) if symbol not in self.special]

    def decode(self, tokens: Iterable[int]) -> str:
        """Tokens as text."""
        return "".join(self.pieces(tokens)).replace(SPACE, " ").strip()

    def encode(self, text: str) -> list[int]:
        """Text as tokens, without start and end; pieces that are no symbol become `<unk>`.

        Raises InputError where there is no sentencepiece model, or it cannot be read.
        """
        text = text.upper() if self.upper else text.lower()
        pieces = [SPACE + word for word in text.split()] if self.whole else self._processor.encode_as_pieces(text)
        numbers = self._numbers
        return [numbers.get(piece, numbers.get("<unk>", 0)) for piece in pieces]

    @cached_property
    def _numbers(self) -> dict[str, int]:
        return {symbol: number for number, symbol in enumerate(self.symbols)}

    @cached_property
    def _processor(self) -> Any:
        if self.model is None:
            raise InputError("this checkpoint has no sentencepiece model, so that it can turn no text into tokens")
        from sentencepiece import SentencePieceProcessor  # not needed to decode

        try:
            return SentencePieceProcessor(model_proto=self.model)
        except RuntimeError as error:
            raise InputError(f"the checkpoint's sentencepiece model cannot be read: {error}") from None

    def described(self) -> dict[str, Any]:
        """As JSON holds it."""
        model = None if self.model is None else base64.b64encode(self.model).decode()
        return {
            "symbols": self.symbols,
            "model": model,
            "upper": self.upper,
            "special": self.special,
            "whole": self.whole,
        }


def described_tokenizer(tree: Mapping[str, Any]) -> Tokenizer:
    """The reverse of `Tokenizer.described`."""
    model = None if tree["model"] is None else base64.b64decode(tree["model"])
    whole = bool(tree.get("whole", False))
    return Tokenizer(tuple(tree["symbols"]), model, bool(tree["upper"]), tuple(tree["special"]), whole)


def word_tokenizer(transcripts: Iterable[str]) -> Tokenizer:
    """Whole words, as many as are said: for sets of few words. Blank 0, `<unk>` 1, the last token is start and end."""
    words = sorted({word for text in transcripts for word in text.lower().split()})
    special = ("<blank>", "<unk>", "<eos>")
    return Tokenizer((*special[:2], *(SPACE + word for word in words), special[2]), special=special, whole=True)


def unigram_folder(folder: Path) -> Tokenizer:
    """The tokenizer of MCoRec's recipe: `*_units.txt`, a piece and its number a line, and sentencepiece's `*.model`.

    Number 0 is CTC's blank, then the units follow, then start and end, which are one. Text is upper case.
    Raises InputError where a file is missing, is there twice, or is none.
    """
    units, model = _only(folder, "*units.txt"), _only(folder, "*.model")
    try:
        lines = [line.split() for line in units.read_text(encoding="utf-8").splitlines()]
    except UnicodeDecodeError as error:
        raise InputError(f"{units}: is no text: {error}") from None
    if any(len(line) != 2 or line[1] != str(number) for number, line in enumerate(lines, start=1)):
        raise InputError(f"{units}: each line must be a piece and its number, from 1 on")
    symbols = ("<blank>", *(piece for piece, _ in lines), "<eos>")
    return Tokenizer(symbols, model.read_bytes(), upper=True, special=("<blank>", "<unk>", "<eos>"))


def _only(folder: Path, pattern: str) -> Path:
    found = sorted(folder.glob(pattern))
    if len(found) != 1:
        raise InputError(f"{folder}: holds {len(found)} files {pattern}, and must hold one")
    return found[0]
