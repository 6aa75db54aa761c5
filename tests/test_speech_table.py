import re
from pathlib import Path

import pytest

from avs.core.errors import InputError
from avs.core.execute import ExecutionParams
from avs.core.speech import Utterance, Word
from avs.speech import SpeechDataParams, install_speech, open_speech
from avs.speech.manifest import ManifestParams
from avs.speech.table import COLUMNS, read_utterances, read_words

HEADER = "\t".join(COLUMNS)
INLINE = ExecutionParams(backend="inline")


def table(folder: Path, *rows: str, header: str = HEADER) -> Path:
    path = folder / "rows.tsv"
    path.write_text("\n".join([header, *(row.replace(" | ", "\t") for row in rows)]) + "\n")
    return path


def test_rows_become_utterances(tmp_path: Path) -> None:
    path = table(
        tmp_path,
        "a | lrs2 | train | sub/a.mp4 | 0.5 | 2 | it's “so” |  | ",
        "b | mcorec | val | b.mp4 |  | 0.0 | two words | s2 | b.npy",
        header=HEADER + "\tspeaker\tlandmarks",
    )
    assert read_utterances(path, tmp_path) == [
        Utterance("a", "lrs2", "train", "sub/a.mp4", 0.5, 2, "it's “so”", "", ""),
        Utterance("b", "mcorec", "val", "b.mp4", 0, 0, "two words", "s2", "", "b.npy"),
    ]


def test_0_and_0_and_none_are_one_clip(tmp_path: Path) -> None:
    rows = [f"a{n} | d | train | a.mp4 | {start} | {end} | x" for n, (start, end) in enumerate([("", ""), (0, "0.0")])]
    first, second = read_utterances(table(tmp_path, *rows), tmp_path)
    assert (first.start, first.end) == (second.start, second.end) == (0, 0)


@pytest.mark.parametrize(
    ("row", "message"),
    [
        ("a |  | train | a.mp4 |  |  | x", "line 3: clip 'a': no dataset_name: it must be a word such as grid, lrs2"),
        ("a | d d | train | a.mp4 |  |  | x", "line 3: clip 'a': dataset_name ('d d'): it must be a word"),
        ("a | d |  | a.mp4 |  |  | x", "line 3: clip 'a': no split: it must be a word such as train, val or test"),
        ("a | d | train | a.mp4 |  |  | ", "line 3: clip 'a': no transcript"),
        ("a | MCoRec | train | a.mp4 |  |  | x", "line 3: clip 'a': dataset_name ('MCoRec'): it must be a word"),
        ("a | d | train | ../a.mp4 |  |  | x", "line 3: clip 'a': video: its name ('../a.mp4') must be a path below"),
        ("a | d | train | /etc/a.mp4 |  |  | x", "line 3: clip 'a': video: its name ('/etc/a.mp4') must be a path"),
        ("a | d | train |  |  |  | x", "line 3: clip 'a': video: its name ('') must be a path below"),
        ("../a | d | train | a.mp4 |  |  | x", "line 3: clip '../a': must be a name without spaces or slashes"),
        ("a | d | train | a.mp4 | x |  | x", "line 3: clip 'a': start ('x') must be seconds, 0 or more, or empty"),
        ("a | d | train | a.mp4 | -1 |  | x", "line 3: clip 'a': start ('-1') must be seconds"),
        ("a | d | train | a.mp4 | nan |  | x", "line 3: clip 'a': start ('nan') must be seconds"),
        ("a | d | train | a.mp4 | 3 | 2 | x", "line 3: clip 'a': end (2) must be after start (3)"),
        ("ok | d | train | a.mp4 |  |  | x", "line 3: clip 'ok': also in line 2, but a clip has one row"),
        ("a | d | train", "line 3: must have 7 cells"),
        ("a | d | train | a.mp4 |  |  | x | y", "line 3: must have 7 cells"),
    ],
)
def test_wrong_rows_are_named(tmp_path: Path, row: str, message: str) -> None:
    path = table(tmp_path, "ok | d | train | a.mp4 |  |  | x", row)
    with pytest.raises(InputError, match=re.escape(f"rows.tsv, {message}")):
        read_utterances(path, tmp_path)


@pytest.mark.parametrize(
    ("header", "message"),
    [
        (
            HEADER.replace("dataset_name\t", ""),
            "no column dataset_name (columns, separated by tabs: clip, dataset_name",
        ),
        (HEADER + "\tage", "unknown or double column age"),
        (HEADER + "\tclip", "unknown or double column clip"),
    ],
)
def test_wrong_columns_are_named(tmp_path: Path, header: str, message: str) -> None:
    with pytest.raises(InputError, match=re.escape(message)):
        read_utterances(table(tmp_path, header=header), tmp_path)


def test_a_table_without_rows_and_one_that_is_no_text_are_refused(tmp_path: Path) -> None:
    with pytest.raises(InputError, match="no row"):
        read_utterances(table(tmp_path), tmp_path)
    (tmp_path / "b.tsv").write_bytes(b"\xff\xfe\x00")
    with pytest.raises(InputError, match="cannot be read as a UTF-8 table"):
        read_utterances(tmp_path / "b.tsv", tmp_path)


def test_words_have_times_and_clips(tmp_path: Path) -> None:
    path = tmp_path / "words.tsv"
    path.write_text("clip\tword\tstart\tend\na\tbin\t0.5\t0.75\n")
    assert read_words(path, ["a"]) == [Word("a", "bin", 0.5, 0.75)]
    with pytest.raises(InputError, match=re.escape("words.tsv, line 2: clip 'a': no such clip")):
        read_words(path, ["b"])
    path.write_text("clip\tword\tstart\tend\na\tbin\t0.8\t0.75\n")
    with pytest.raises(InputError, match=re.escape("word ('bin') needs start (0.8) <= end (0.75)")):
        read_words(path, ["a"])


def test_what_is_not_there_is_a_failure_row(tmp_path: Path) -> None:
    videos = tmp_path / "videos"
    videos.mkdir()
    (videos / "a.mp4").write_bytes(b"a")
    (videos / "a.npy").write_bytes(b"p")
    rows = table(
        tmp_path,
        "a | d | train | a.mp4 |  |  | x | a.npy",
        "b | d | train | b.mp4 |  |  | x | ",
        "c | d | train | a.mp4 |  |  | x | c.npy",
        header=HEADER + "\tlandmarks",
    )
    (tmp_path / "words.tsv").write_text("clip\tword\tstart\tend\na\tx\t0\t1\nb\tx\t0\t1\n")
    manifest = ManifestParams(str(videos), str(rows), str(tmp_path / "words.tsv"))
    clips, words, failed = install_speech(open_speech("manifest", SpeechDataParams(manifest=manifest)), INLINE)
    assert [clip.key for clip in clips] == ["a"]
    assert all((clips[0].sha256, clips[0].landmarks_sha256))
    assert [word.clip for word in words] == ["a"]
    assert [(row.key, row.reason) for row in failed] == [("b", "b.mp4 not found"), ("c", "c.npy not found")]


def test_a_missing_folder_is_named(tmp_path: Path) -> None:
    dataset = open_speech("manifest", SpeechDataParams(manifest=ManifestParams(videos=str(tmp_path / "none"))))
    with pytest.raises(InputError, match=r"speech_data\.manifest\.videos \(.*none\) is not a folder"):
        install_speech(dataset, INLINE)
