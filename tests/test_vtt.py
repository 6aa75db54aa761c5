import re
from pathlib import Path

import pytest

from avs.core.errors import InputError
from avs.speech.vtt import Cue, read_cues

TEXT = """\ufeffWEBVTT - a title

NOTE what is said here is no cue

00:03.500 --> 00:05.200 align:start position:0%
<v Ann>Hello &amp; welcome,</v>
<c.loud>all</c>

2
01:00:06,000 --> 01:00:08.300
late

00:00:01.000 --> 00:00:02.000
<b></b>
"""


def test_cues_have_times_and_text(tmp_path: Path) -> None:
    path = tmp_path / "a.vtt"
    for text in (TEXT, TEXT.replace("\n", "\r\n")):
        path.write_bytes(text.encode())
        assert read_cues(path) == [Cue(3.5, 5.2, "Hello & welcome, all"), Cue(3606, 3608.3, "late")]


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("", "line 1: must be WEBVTT"),
        ("1\n00:00:01,000 --> 00:00:02,000\nx", "line 1: must be WEBVTT"),
        ("WEBVTT\n\n1 --> 2\nx", "line 3: must be HH:MM:SS.mmm --> HH:MM:SS.mmm: '1 --> 2'"),
        ("WEBVTT\n\n00:00:02.000 --> 00:00:01.000\nx", "line 3: must end (1 s) after it starts (2 s)"),
        ("WEBVTT\n\n00:61:00.000 --> 00:62:00.000\nx", "line 3: must be HH:MM:SS.mmm"),
    ],
)
def test_mistakes_are_named(tmp_path: Path, text: str, message: str) -> None:
    path = tmp_path / "a.vtt"
    path.write_text(text)
    with pytest.raises(InputError, match=re.escape(f"{path}, {message}")):
        read_cues(path)


def test_a_long_line_is_not_printed_whole(tmp_path: Path) -> None:
    (tmp_path / "a.vtt").write_text("WEBVTT\n\n" + 100_000 * "x" + " --> 2")
    with pytest.raises(InputError) as told:
        read_cues(tmp_path / "a.vtt")
    assert len(str(told.value)) < 500


def test_what_is_no_text_is_refused(tmp_path: Path) -> None:
    (tmp_path / "a.vtt").write_bytes(b"WEBVTT\n\n\xff")
    with pytest.raises(InputError, match="cannot be read as UTF-8 text"):
        read_cues(tmp_path / "a.vtt")
    with pytest.raises(InputError, match="not there, or not a regular file"):
        read_cues(tmp_path)
