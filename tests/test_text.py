"""Text as word pieces: through a file and back, special symbols, damaged folders."""

from __future__ import annotations

import io
import json
from pathlib import Path
from typing import Any

import pytest
from sentencepiece import SentencePieceTrainer

from avs.avsr.text import SPACE, Tokenizer, described_tokenizer, unigram_folder, word_tokenizer
from avs.core.errors import InputError

SENTENCES = ["bin blue at f two now", "set white in z nine again", "lay green by k zero please"]


def spm() -> bytes:
    written = io.BytesIO()
    options: dict[str, Any] = {"vocab_size": 40, "hard_vocab_limit": False, "minloglevel": 2}
    SentencePieceTrainer.train(
        sentence_iterator=iter(line.upper() for line in SENTENCES), model_writer=written, **options
    )
    return written.getvalue()


def folder(path: Path) -> Path:
    from sentencepiece import SentencePieceProcessor

    processor = SentencePieceProcessor(model_proto=spm())
    pieces = ["<unk>", *(processor.id_to_piece(number) for number in range(3, processor.get_piece_size()))]
    (path / "unigram5000.model").write_bytes(spm())
    (path / "unigram5000_units.txt").write_text("".join(f"{piece} {n}\n" for n, piece in enumerate(pieces, start=1)))
    return path


def test_text_comes_back(tmp_path: Path) -> None:
    tokenizer = unigram_folder(folder(tmp_path))
    tokens = tokenizer.encode("set blue NOW")
    assert tokenizer.decode([0, *tokens, len(tokenizer.symbols) - 1]) == "SET BLUE NOW"
    assert described_tokenizer(json.loads(json.dumps(tokenizer.described()))) == tokenizer


def test_pieces_make_words_and_unknown_ones_are_marked() -> None:
    tokenizer = Tokenizer(("<s>", "<pad>", "</s>", "<unk>", f"{SPACE}a", "b", f"{SPACE}c"), spm())
    assert tokenizer.decode([0, 4, 5, 1, 3, 6, 2]) == "ab c"
    assert set(tokenizer.encode("zz")) == {3}


def test_no_model_means_no_encoding() -> None:
    with pytest.raises(InputError, match="has no sentencepiece model"):
        Tokenizer(("a",)).encode("a")
    with pytest.raises(InputError, match="model cannot be read"):
        Tokenizer(("a",), b"nonsense").encode("a")


def test_refuses_an_odd_vocabulary() -> None:
    with pytest.raises(InputError, match="0 symbols must be 1 to"):
        Tokenizer(())
    with pytest.raises(InputError, match=r"must be 1 to .* strings"):
        Tokenizer((1,))  # type: ignore[arg-type]


@pytest.mark.parametrize(
    ("change", "message"),
    [
        (lambda path: (path / "unigram5000.model").unlink(), r"0 files \*\.model"),
        (lambda path: (path / "b_units.txt").write_text("a 1\n"), r"2 files \*units\.txt"),
        (lambda path: (path / "unigram5000_units.txt").write_text("a 2\n"), "a piece and its number, from 1 on"),
        (lambda path: (path / "unigram5000_units.txt").write_bytes(b"\xff 1\n"), "is no text"),
    ],
)
def test_refuses_a_damaged_folder(change: Any, message: str, tmp_path: Path) -> None:
    change(folder(tmp_path))
    with pytest.raises(InputError, match=message):
        unigram_folder(tmp_path)


def test_whole_words_are_as_many_as_are_said() -> None:
    tokenizer = word_tokenizer(["set White", "white now", ""])
    assert tokenizer.symbols == ("<blank>", "<unk>", f"{SPACE}now", f"{SPACE}set", f"{SPACE}white", "<eos>")
    assert tokenizer.encode(" SET  now again") == [3, 2, 1]
    assert tokenizer.encode("") == []
    assert tokenizer.decode([0, 3, 2, 1, 5]) == "set now"
    assert described_tokenizer(json.loads(json.dumps(tokenizer.described()))) == tokenizer


def test_a_description_without_whole_is_of_pieces() -> None:
    """Files that were converted before there were tokenizers of whole words."""
    tree = word_tokenizer(["a"]).described()
    del tree["whole"]
    assert not described_tokenizer(tree).whole
