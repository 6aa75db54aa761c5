import pytest

from avs.report.alignment import edits, errors


@pytest.mark.parametrize(
    ("reference", "hypothesis", "wanted"),
    [
        ("bin blue at", "bin blue at", [["=", "bin blue at"]]),
        ("bin blue at f", "bin blew at f", [["=", "bin"], ["s", "blue", "blew"], ["=", "at f"]]),
        ("set white at f two", "set at f two now", [["=", "set"], ["d", "white"], ["=", "at f two"], ["i", "now"]]),
        ("Yes, it's ME -", "yes its me -", [["=", "Yes,"], ["s", "it's", "its"], ["=", "ME -"]]),
        ("a b c", "x y c", [["s", "a", "x"], ["s", "b", "y"], ["=", "c"]]),
        ("two words", "", [["d", "two"], ["d", "words"]]),
        ("", "two words", [["i", "two"], ["i", "words"]]),
        ("", " ", []),
        ("<b>a</b>  now", "\u2028now", [["d", "<b>a</b>"], ["=", "now"]]),
    ],
)
def test_the_fewest_edits_are_found_word_by_word(reference: str, hypothesis: str, wanted: list[list[str]]) -> None:
    found = edits(reference, hypothesis)
    assert found == wanted
    assert errors(found) == sum(edit[0] != "=" for edit in wanted)
    assert " ".join(word for edit in found for word in edit[1:2] if edit[0] != "i") == " ".join(reference.split())
