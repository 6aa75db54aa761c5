import io
import re
import tarfile
from pathlib import Path

import numpy as np
import pytest
from speech_videos import tone, write_video

from avs.core.errors import InputError
from avs.core.execute import ExecutionParams
from avs.core.media import write_media
from avs.lips.media import SpeechShards
from avs.lips.preprocess import LipsParams, preprocess_speech
from avs.speech import SpeechDataParams, SpeechSet, install_speech, open_speech

INLINE = ExecutionParams(backend="inline")


def add(tar: tarfile.TarFile, name: str, content: bytes) -> None:
    info = tarfile.TarInfo(name)
    info.size, info.mtime = len(content), 1.5  # webdataset's writer gives fractions, which take a longer header
    tar.addfile(info, io.BytesIO(content))


def write_tar(path: Path, *samples: dict[str, bytes | str]) -> Path:
    """Samples 000, 001, … of the named kinds of files."""
    path.parent.mkdir(parents=True, exist_ok=True)
    with tarfile.open(path, "w") as tar:
        for number, sample in enumerate(samples):
            for kind, content in sample.items():
                add(tar, f"{number:03d}.{kind}", content if isinstance(content, bytes) else content.encode())
    return path


def sample(video: bytes = b"v", label: str = "HELLO", who: str = "main/1/00001") -> dict[str, bytes | str]:
    return {"label": label, "length": "25", "sample_id": who, "video": video}


def opened(name: str, folder: Path, **options: object) -> SpeechSet:
    block = getattr(SpeechDataParams(), name)
    return open_speech(name, SpeechDataParams(**{name: type(block)(folder=str(folder), **options)}))


def test_samples_of_each_set_become_rows(tmp_path: Path) -> None:
    write_tar(tmp_path / "lrs2/lrs2/lrs2-train-000.tar", sample(), sample(label=" A \n B ", who="main/1/00002"))
    write_tar(tmp_path / "lrs2/lrs2/lrs2-valid-000.tar", sample(who="main/2/00001"))
    write_tar(tmp_path / "lrs2/lrs2/lrs2-test_snr_0_interferer_2-000.tar", sample(who="main/3/00001"))
    lrs2 = opened("lrs2", tmp_path / "lrs2", splits=("train", "val", "test_snr_0_interferer_2"))
    clips, words, failed = install_speech(lrs2, INLINE)
    assert (words, failed) == ([], [])
    assert sorted((c.key, c.dataset_name, c.split, c.video, c.transcript, c.speaker) for c in clips) == [
        (
            "lrs2_test_snr_0_interferer_2_main_3_00001",
            "lrs2",
            "test_snr_0_interferer_2",
            "lrs2/lrs2-test_snr_0_interferer_2-000.tar/000.video",
            "HELLO",
            "3",
        ),
        ("lrs2_train_main_1_00001", "lrs2", "train", "lrs2/lrs2-train-000.tar/000.video", "HELLO", "1"),
        ("lrs2_train_main_1_00002", "lrs2", "train", "lrs2/lrs2-train-000.tar/001.video", "A B", "1"),
        ("lrs2_val_main_2_00001", "lrs2", "val", "lrs2/lrs2-valid-000.tar/000.video", "HELLO", "2"),
    ]
    write_tar(tmp_path / "vox2/vox2-dev-00000-of-00001.tar", sample(who="dev/id00012/21Uxsk56VDQ/00001"))
    assert [(c.split, c.speaker) for c in opened("vox2", tmp_path / "vox2").utterances()] == [("train", "id00012")]
    write_tar(tmp_path / "mcorec/processed/mcorec-train-0.tar", sample())
    write_tar(tmp_path / "mcorec/processed/mcorec-valid-0.tar", sample())
    rows = opened("mcorec", tmp_path / "mcorec").utterances()
    assert [(c.dataset_name, c.split) for c in rows] == [("mcorec", "train"), ("mcorec", "val")]


def test_avyt_and_its_mix_are_told_apart(tmp_path: Path) -> None:
    for name in ("avyt-talking", "avyt-silent", "avyt-mix-train", "avyt-mix-test"):
        write_tar(tmp_path / f"{name}-001.tar", sample(label="" if "silent" in name else "HI", who=name))
    clips, _, failed = install_speech(opened("avyt", tmp_path), INLINE)
    assert not failed
    assert {(c.dataset_name, c.split, c.transcript) for c in clips} == {
        ("avyt", "train", "HI"),
        ("avyt", "train", ""),
        ("avyt-mix", "train", "HI"),
        ("avyt-mix", "test", "HI"),
    }
    rows = opened("avyt", tmp_path, splits=("talking",)).utterances()
    assert [row.key for row in rows] == ["avyt_talking_avyt-talking"]


def test_videos_are_decoded_where_they_lie(tmp_path: Path) -> None:
    write_video(tmp_path / "a.mkv", 30, sound=1.2)
    write_media(tmp_path / "b.mp4", np.full((25, 96, 96, 3), 128, np.uint8), 25, tone(1, 16000))
    videos = [sample((tmp_path / name).read_bytes(), who=name) for name in ("a.mkv", "b.mp4")]
    write_tar(tmp_path / "avyt/avyt-talking-0.tar", *videos, sample(b"no video", who="c"))
    dataset = opened("avyt", tmp_path / "avyt", splits=("talking",))
    clips, words, _ = install_speech(dataset, INLINE)
    execution = ExecutionParams(workers=2)
    rows, failed, _ = preprocess_speech(clips, words, dataset.folder(), tmp_path / "out", LipsParams(), execution)
    assert [(row.key, row.frames) for row in rows] == [("avyt_talking_a.mkv", 30), ("avyt_talking_b.mp4", 25)]
    assert [row.reason for row in failed] == ["cannot be opened: Invalid data found when processing input"]
    shards = SpeechShards(tmp_path / "out")
    assert [int(picture[0, 0]) for picture in shards.lips(rows[0])] == [2 * n for n in range(30)]
    np.testing.assert_array_equal(shards.audio(rows[0]), tone(1.2, 16000))
    write_tar(tmp_path / "avyt/avyt-talking-0.tar", videos[1], videos[0])
    _, failed, _ = preprocess_speech(clips, words, dataset.folder(), tmp_path / "out", LipsParams(), INLINE)
    assert {row.reason.split("-0.tar/")[1] for row in failed} == {
        "002.video is gone since install (run: dvc repro -f install@speech)"
    }  # the others are in the store


def test_keys_are_unique_and_safe(tmp_path: Path) -> None:
    names = ["a b/é", "../x", "same", "same", "", "y" * 300]
    write_tar(tmp_path / "avyt-talking-0.tar", *(sample(who=name) for name in names))
    write_tar(tmp_path / "avyt-talking-1.tar", sample(who="same"))
    whole = opened("avyt", tmp_path, splits=("talking",))
    clips, _, failed = install_speech(whole, INLINE)
    keys = [clip.key for clip in clips]
    assert (failed, len(set(keys))) == ([], 7)
    assert keys[:4] == [
        "avyt_talking_a_b_",
        "avyt_talking_.._x",
        "avyt_talking_same_avyt-talking-0_002",
        "avyt_talking_same_avyt-talking-0_003",
    ]
    assert len(keys[5]) == 160
    assert all(re.fullmatch(r"[A-Za-z0-9._-]+", key) for key in keys)
    for limit in (1, 4):  # their names do not depend on which are drawn
        drawn = opened("avyt", tmp_path, splits=("talking",), limit=limit).utterances()
        assert len(drawn) == limit
        assert {row.key for row in drawn} <= set(keys)


def test_what_is_missing_is_told(tmp_path: Path) -> None:
    with pytest.raises(InputError, match=r"speech_data\.avyt\.folder \(.*none\) holds neither.*nguyenvulebinh/AVYT"):
        install_speech(opened("avyt", tmp_path / "none"), INLINE)
    write_tar(tmp_path / "avyt-talking-0.tar", sample())
    message = "no tar of the split 'silent' (there are: talking): change splits, or get them"
    with pytest.raises(InputError, match=re.escape(message)):
        install_speech(opened("avyt", tmp_path), INLINE)


@pytest.mark.parametrize(
    ("odd", "message"),
    [
        ({"video": b"v", "sample_id": "a"}, "the sample '000' has no .label (it has: sample_id, video)"),
        (
            {"video": b"v", "label": "a", "length": "1"},
            "the sample '000' has no .sample_id (it has: label, length, video)",
        ),
        ({"video": b"v", "label": b"\xff", "sample_id": "a"}, "000.label is no UTF-8 text"),
        ({"video": b"v", "label": "x" * 70_000, "sample_id": "a"}, "70000 bytes, more than 65536"),
    ],
)
def test_odd_samples_are_named(tmp_path: Path, odd: dict, message: str) -> None:
    path = write_tar(tmp_path / "avyt-talking-0.tar", odd)
    with pytest.raises(InputError, match=re.escape(str(path)) + ".*" + re.escape(message)):
        install_speech(opened("avyt", tmp_path, splits=("talking",)), INLINE)


def test_a_sample_without_video_is_a_failure_row(tmp_path: Path) -> None:
    write_tar(tmp_path / "avyt-talking-0.tar", sample(), {"label": "a", "sample_id": "b"})
    clips, _, failed = install_speech(opened("avyt", tmp_path, splits=("talking",)), INLINE)
    assert ([c.key for c in clips], [f.reason for f in failed]) == (
        ["avyt_talking_main_1_00001"],
        ["avyt-talking-0.tar/001.video not found"],
    )
