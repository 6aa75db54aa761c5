import re
from pathlib import Path

import pytest

from avs.core.errors import InputError
from avs.core.execute import ExecutionParams
from avs.speech import SpeechDataParams, install_speech, open_speech
from avs.speech.vox2 import Vox2, Vox2Params

INLINE = ExecutionParams(backend="inline")
NAMES = ("dev/mp4/id00012/21Ux-_6VDQ/00001", "dev/mp4/id00012/21Ux-_6VDQ/00002", "test/mp4/id00017/01dfn2spqyE/00001")
TABLE = "video\ttranscript\n" + "".join(f"{name}.mp4\tsaid  {number}\n" for number, name in enumerate(NAMES))


def corpus(folder: Path, table: str = TABLE) -> Path:
    for name in NAMES:
        (folder / name).parent.mkdir(parents=True, exist_ok=True)
        (folder / f"{name}.mp4").write_bytes(name.encode())
    (folder / "labels.tsv").write_text(table)
    return folder


def opened(folder: Path, **options: object) -> Vox2:
    return open_speech("vox2", SpeechDataParams(vox2=Vox2Params(folder=str(folder), **options)))


def test_videos_with_a_text_are_taken(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    corpus(tmp_path, TABLE.replace("said  1", ""))
    clips, words, failed = install_speech(opened(tmp_path, splits=("dev", "test")), INLINE)
    assert (words, failed) == ([], [])
    assert [(c.key, c.dataset_name, c.split, c.video, c.transcript, c.speaker) for c in clips] == [
        ("dev_id00012_21Ux-_6VDQ_00001", "vox2", "train", f"{NAMES[0]}.mp4", "said 0", "id00012"),
        ("test_id00017_01dfn2spqyE_00001", "vox2", "test", f"{NAMES[2]}.mp4", "said 2", "id00017"),
    ]
    assert "vox2: 2 of 3 videos have a text, the others are left out" in capsys.readouterr().err
    assert [row.split for row in opened(tmp_path).utterances()] == ["train"]


def test_names_in_the_table_may_be_short_and_texts_files(tmp_path: Path) -> None:
    whole = opened(corpus(tmp_path)).utterances()
    assert opened(corpus(tmp_path, TABLE.replace("/mp4/", "/").replace(".mp4", ""))).utterances() == whole
    for number, name in enumerate(NAMES):
        path = tmp_path / f"texts/{name}.txt"
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_text(f"said {number}\n")
    assert opened(tmp_path, labels="texts").utterances() == whole


def test_landmarks_beside_a_video_are_taken(tmp_path: Path) -> None:
    (corpus(tmp_path) / f"{NAMES[0]}.npy").write_bytes(b"points")
    assert [row.landmarks for row in opened(tmp_path).utterances()] == [f"{NAMES[0]}.npy", ""]


def test_a_limit_draws_clips(tmp_path: Path) -> None:
    assert len(opened(corpus(tmp_path), limit=1).utterances()) == 1


def test_what_is_missing_or_odd_is_told(tmp_path: Path) -> None:
    with pytest.raises(InputError, match=r"speech_data\.vox2\.folder \(.*none\) holds neither dev nor vox2-SPLIT-"):
        install_speech(opened(tmp_path / "none"), INLINE)
    corpus(tmp_path).joinpath("labels.tsv").unlink()
    with pytest.raises(InputError, match=r"holds no labels\.tsv \(speech_data\.vox2\.labels\)"):
        install_speech(opened(tmp_path), INLINE)
    with pytest.raises(InputError, match="must be a path below"):
        install_speech(opened(tmp_path, labels="../labels.tsv"), INLINE)
    for row in (f"{NAMES[0]}\tagain", "\tno name"):
        (tmp_path / "labels.tsv").write_text(f"{TABLE}{row}\n")
        with pytest.raises(InputError, match=re.escape("labels.tsv, line 5: video (")):
            install_speech(opened(tmp_path), INLINE)
    corpus(tmp_path, "video\ttranscript\ndev/a.mp4\tx\n")
    (tmp_path / "dev/a.mp4").write_bytes(b"")
    with pytest.raises(InputError, match=r"a\.mp4: must lie in the folder of a person"):
        install_speech(opened(tmp_path), INLINE)
