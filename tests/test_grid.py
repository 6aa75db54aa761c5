import hashlib
import re
import zipfile
from collections import Counter
from pathlib import Path

import pytest

from avs.core.errors import InputError
from avs.core.execute import ExecutionParams
from avs.core.speech import Word
from avs.speech import SpeechDataParams, grid, install_speech, open_speech
from avs.speech.grid import GridParams, spelt, split_of

SHARED = Path(__file__).resolve().parents[2] / "shared/grid"
INLINE = ExecutionParams(backend="inline")
ALIGNMENT = "0 15250 sil\n15250 21000 bin\n21000 25750 blue\n25750 74500 sil\n"


def opened(folder: Path, **options: object) -> grid.Grid:
    return open_speech("grid", SpeechDataParams(grid=GridParams(folder=str(folder), **options)))


def corpus(folder: Path, aligned: str) -> Path:
    """One clip each of two speakers, whose file has the same name, and one alignment."""
    for who in ("s1", "s12"):
        (folder / who / "video").mkdir(parents=True)
        (folder / who / "video/bbaf2n.mpg").write_bytes(who.encode())
    (folder / aligned).parent.mkdir(parents=True, exist_ok=True)
    (folder / aligned).write_text(ALIGNMENT)
    return folder


@pytest.mark.parametrize("aligned", ["alignments/s1/bbaf2n.align", "s1/align/bbaf2n.align", "align/s1/bbaf2n.align"])
def test_the_public_layout_is_read(tmp_path: Path, aligned: str) -> None:
    clips, words, failed = install_speech(opened(corpus(tmp_path, aligned)), INLINE)
    assert not failed
    assert [(c.key, c.dataset_name, c.speaker, c.video, c.transcript) for c in clips] == [
        ("s1_bbaf2n", "grid", "s1", "s1/video/bbaf2n.mpg", "bin blue"),
        ("s12_bbaf2n", "grid", "s12", "s12/video/bbaf2n.mpg", "bin blue at f two now"),
    ]
    assert words == [Word("s1_bbaf2n", "bin", 0.61, 0.84), Word("s1_bbaf2n", "blue", 0.84, 1.03)]


def test_names_spell_sentences() -> None:
    assert spelt("bbaf2n") == "bin blue at f two now"
    assert spelt("swwzzp") == "set white with z zero please"
    assert spelt("bbaw2n") == spelt("bbaf2") == spelt("id2") == ""


def test_a_sentence_is_in_one_split_whoever_says_it() -> None:
    splits = Counter(split_of(f"bin blue at {a} {b} {c}") for a in "abcdefghij" for b in range(10) for c in range(10))
    # a tenth off the wanted 833, 83 and 83
    assert abs(splits["train"] - 833) < 30
    assert abs(splits["val"] - 83) < 30
    assert abs(splits["test"] - 83) < 30
    assert split_of("bin blue") == split_of("bin blue")


def test_mistakes_are_named(tmp_path: Path) -> None:
    with pytest.raises(InputError, match=re.escape(f"speech_data.grid.folder ({tmp_path}) holds neither lips.tsv nor")):
        install_speech(opened(tmp_path), INLINE)
    (tmp_path / "s1").mkdir()
    (tmp_path / "s1/odd.mpg").write_bytes(b"")
    with pytest.raises(InputError, match=r"odd\.mpg: no alignment of it, and its name spells no sentence"):
        opened(tmp_path).utterances()
    for line in ("100 word", f"0 {'9' * 400} word"):
        (tmp_path / "s1/odd.align").write_text(f"0 100 sil\n{line}\n")
        with pytest.raises(InputError, match=r"odd\.align, line 2: must be start, end and word"):
            opened(tmp_path).utterances()
    (tmp_path / "s1/odd.mpg").rename(tmp_path / "odd.mpg")
    with pytest.raises(InputError, match=r"in no folder of a speaker"):
        opened(tmp_path).utterances()


def test_zips_of_the_user_are_unpacked_once(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    given = tmp_path / "given"
    given.mkdir()
    with zipfile.ZipFile(given / "s1.zip", "w") as archive:
        archive.writestr("s1/bbaf2n.mpg", "s1")
    with zipfile.ZipFile(given / "alignments.zip", "w") as archive:
        archive.writestr("alignments/s1/bbaf2n.align", ALIGNMENT)
    clips, words, _ = install_speech(opened(given), INLINE)
    assert (clips[0].transcript, len(words)) == ("bin blue", 2)
    digest = hashlib.sha256((given / "s1.zip").read_bytes()).hexdigest()
    assert digest in capsys.readouterr().err
    assert install_speech(opened(given), INLINE)[0] == clips
    assert digest not in capsys.readouterr().err


def test_speakers_are_downloaded_part_by_part(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    asked = []

    def resume(url: str, partial: Path, name: str, *, limit: int) -> None:
        asked.append(url)
        with zipfile.ZipFile(partial, "w") as archive:
            member = "s2/bbaf2n.mpg" if name == "s2.zip" else "alignments/s2/bbaf2n.align"
            archive.writestr(member, ALIGNMENT)

    monkeypatch.setattr(grid, "resume", resume)
    assert [c.key for c in install_speech(opened(tmp_path, fetch=(2,)), INLINE)[0]] == ["s2_bbaf2n"]
    assert asked == [grid.URL.format(name=name) for name in ("s2.zip", "alignments.zip")]
    install_speech(opened(tmp_path, fetch=(2,)), INLINE)
    assert len(asked) == 2


def test_speakers_that_there_are_not_are_refused() -> None:
    for number in (0, 21, 35):
        with pytest.raises(ValueError, match=re.escape(f"fetch ({number}) must be speakers from 1 to 34, without 21")):
            GridParams(fetch=(number,))


@pytest.mark.skipif(not SHARED.is_dir(), reason="../shared/grid is not here")
@pytest.mark.parametrize(
    ("table", "splits"),
    [
        ("lips", {"train": 300, "val": 30, "test": 30, "unseen": 10}),
        ("faces", {"train": 5, "val": 5, "test": 30, "unseen": 10}),
    ],
)
def test_an_excerpt_has_its_own_splits_and_words(table: str, splits: dict[str, int]) -> None:
    clips, words, failed = install_speech(opened(SHARED, table=table), INLINE)
    assert not failed
    assert Counter(clip.split for clip in clips) == splits
    by_clip = Counter(word.clip for word in words)
    assert all(by_clip[c.key] in (0, len(c.transcript.split())) for c in clips)
    assert sum(count == 0 for count in (by_clip[c.key] for c in clips)) == 9
