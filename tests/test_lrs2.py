import re
from pathlib import Path

import pytest
from speech_videos import write_video

from avs.core.errors import InputError
from avs.core.execute import ExecutionParams
from avs.core.speech import Word
from avs.lips.preprocess import LipsParams, preprocess_speech
from avs.speech import SpeechDataParams, install_speech, open_speech
from avs.speech.lrs2 import Lrs2, Lrs2Params, cut, read_text

INLINE = ExecutionParams(backend="inline")
TIMES = "\n\nWORD START END ASDSCORE\nIT'S 0.2 0.5 1.5\nTIME 0.6 0.9 -0.3\nNOW 1.4 1.9 2.0\n"


def corpus(folder: Path) -> Path:
    """One video of each list, of two seconds."""
    for name, times in {
        "main/10/00001": "",
        "main/20/00002": "",
        "main/30/00003": "",
        "pretrain/10/00001": TIMES,
    }.items():
        path = folder / f"mvlrs_v1/{name}.mp4"
        path.parent.mkdir(parents=True, exist_ok=True)
        write_video(path, 50, sound=2)
        path.with_suffix(".txt").write_text(f"Text:  IT'S {{TIME}} NOW\nConf:  4{times}")
    lists = {"train": "10/00001\n", "val": "20/00002\n", "test": "30/00003 NF\n", "pretrain": "10/00001\n"}
    for split, names in lists.items():
        (folder / f"{split}.txt").write_text(names)
    return folder


def opened(folder: Path, **options: object) -> Lrs2:
    return open_speech("lrs2", SpeechDataParams(lrs2=Lrs2Params(folder=str(folder), **options)))


@pytest.mark.parametrize("inside", [False, True])
def test_lists_texts_and_words_are_read(tmp_path: Path, inside: bool) -> None:
    corpus(tmp_path)
    folder = tmp_path / "mvlrs_v1" if inside else tmp_path
    below = "" if inside else "mvlrs_v1/"
    clips, words, failed = install_speech(opened(folder), INLINE)
    assert not failed
    assert [(c.key, c.split, c.video, c.start, c.end, c.speaker) for c in clips] == [
        ("pretrain_10_00001", "train", f"{below}pretrain/10/00001.mp4", 0, 0, "10"),
        ("train_10_00001", "train", f"{below}main/10/00001.mp4", 0, 0, "10"),
        ("val_20_00002", "val", f"{below}main/20/00002.mp4", 0, 0, "20"),
        ("test_30_00003", "test", f"{below}main/30/00003.mp4", 0, 0, "30"),
    ]
    assert {(c.dataset_name, c.transcript) for c in clips} == {("lrs2", "IT'S TIME NOW")}
    assert words == [
        Word("pretrain_10_00001", *rest) for rest in (("IT'S", 0.2, 0.5), ("TIME", 0.6, 0.9), ("NOW", 1.4, 1.9))
    ]


def test_long_videos_are_cut_between_words(tmp_path: Path) -> None:
    dataset = opened(corpus(tmp_path), longest=1.0, splits=("pretrain",))
    clips, words, _ = install_speech(dataset, INLINE)
    assert [(c.key, c.start, c.end, c.transcript) for c in clips] == [
        ("pretrain_10_00001_00", 0.2, 0.9, "IT'S TIME"),
        ("pretrain_10_00001_01", 1.4, 1.9, "NOW"),
    ]
    assert words == [
        Word("pretrain_10_00001_00", "IT'S", 0, 0.3),
        Word("pretrain_10_00001_00", "TIME", 0.4, 0.7),
        Word("pretrain_10_00001_01", "NOW", 0, 0.5),
    ]
    rows, failed, _ = preprocess_speech(clips, words, tmp_path, tmp_path / "out", LipsParams(), INLINE)
    assert ([row.frames for row in rows], failed) == ([18, 12], [])  # of 17.5 and 12.5, to even


def test_a_longer_word_is_a_piece_of_its_own() -> None:
    words = [Word("", "a", 0, 1), Word("", "b", 1, 4), Word("", "c", 4, 5), Word("", "d", 5, 6)]
    assert [[word.word for word in piece] for piece in cut(words, 2)] == [["a"], ["b"], ["c", "d"]]


def test_landmarks_beside_a_video_are_taken(tmp_path: Path) -> None:
    (corpus(tmp_path) / "mvlrs_v1/main/10/00001.npy").write_bytes(b"points")
    clips, _, _ = install_speech(opened(tmp_path), INLINE)
    assert [clip.landmarks for clip in clips] == ["", "mvlrs_v1/main/10/00001.npy", "", ""]


def test_a_video_that_is_not_there_is_a_failure_row(tmp_path: Path) -> None:
    corpus(tmp_path)
    for name in ("mp4", "txt"):
        (tmp_path / f"mvlrs_v1/main/20/00002.{name}").unlink()
    _, _, failed = install_speech(opened(tmp_path), INLINE)
    assert [(row.key, row.reason) for row in failed] == [("val_20_00002", "mvlrs_v1/main/20/00002.mp4 not found")]


def test_what_is_missing_is_told(tmp_path: Path) -> None:
    with pytest.raises(
        InputError, match=r"speech_data\.lrs2\.folder \(.*none\) holds neither main.*given out by the BBC"
    ):
        install_speech(opened(tmp_path / "none"), INLINE)
    corpus(tmp_path)
    with pytest.raises(InputError, match=re.escape("speech_data.lrs2.splits ('test_snr_0'): LRS2 has pretrain, train")):
        install_speech(opened(tmp_path, splits=("test_snr_0",)), INLINE)
    (tmp_path / "val.txt").unlink()
    with pytest.raises(InputError, match=r"no list val\.txt in it, nor beside it"):
        install_speech(opened(tmp_path), INLINE)
    (tmp_path / "val.txt").write_text("../../20/00002\n")
    with pytest.raises(InputError, match=re.escape("val.txt: '../../20/00002' must be ID/NUMBER")):
        install_speech(opened(tmp_path), INLINE)
    (tmp_path / "val.txt").write_text("../00002\n")
    with pytest.raises(InputError, match="must be a path below"):
        install_speech(opened(tmp_path), INLINE)


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("", "line 1: must be Text: and what is said"),
        ("Conf: 4\n", "line 1: must be Text: and what is said"),
        ("Text:  A\n" + TIMES + "A 0.5\n", "line 8: must be WORD START END ASDSCORE, in seconds: 'A 0.5'"),
        ("Text:  A\n" + TIMES + "A 0.5 0.4 1\n", "line 8: must be WORD START END ASDSCORE"),
        ("Text:  A\n" + TIMES + "A nan 0.4 1\n", "line 8: must be WORD START END ASDSCORE"),
        ("Text:  A\n" + TIMES + "A 0 inf 1\n", "line 8: must be WORD START END ASDSCORE"),
    ],
)
def test_odd_texts_are_named(tmp_path: Path, text: str, message: str) -> None:
    (tmp_path / "a.txt").write_text(text)
    with pytest.raises(InputError, match=re.escape(f"a.txt, {message}")):
        read_text(tmp_path / "a.txt")


def test_a_limit_draws_videos_of_each_split(tmp_path: Path) -> None:
    corpus(tmp_path)
    (tmp_path / "train.txt").write_text("10/00001\n20/00002\n30/00003\n")
    rows = opened(tmp_path, limit=2).utterances()
    assert len([row for row in rows if row.key.startswith("train_")]) == 2
    assert len(rows) == 5
