"""What a user reads stays short, whatever a hostile file puts into it."""

from avs.core.errors import InputError


def test_a_word_without_end_is_cut() -> None:
    path = "/a/path/" + "folder/" * 40
    assert str(InputError(f"{path}: k ({'9' * 1000}) must be small")) == f"{path}: k ({'9' * 79}… must be small"


def test_a_message_without_end_is_cut() -> None:
    assert len(str(InputError("row " * 10_000))) == 3001
