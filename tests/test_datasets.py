import os
from dataclasses import replace
from pathlib import Path

import pytest

from avs.core.clips import Clip, Failed
from avs.core.errors import InputError
from avs.core.execute import ExecutionParams
from avs.core.store import raw_root
from avs.datasets import DataParams, check_splits, clip_key, install, open_dataset
from avs.datasets.demo import DemoParams
from avs.datasets.local import LocalParams

ESCAPES = "cannot be read: its name ('../secret.mp4') must be a path below the data set's folder"
INLINE = ExecutionParams(backend="inline")


def data(folder: Path, rows: str, **demo: int) -> DataParams:
    (folder / "rows.tsv").write_text("video\tlabel\tstart\tend\n" + rows)
    videos = folder / "videos"
    videos.mkdir(exist_ok=True)
    return DataParams(DemoParams(**demo), LocalParams(str(videos), str(folder / "rows.tsv")))


def test_rows_become_clips_keyed_by_row(tmp_path: Path) -> None:
    p = data(tmp_path, "a.mp4\tDog\t0\t3\na.mp4\tCat\t3\t9\nsub/b.mkv\tCow\t1\t2\n")
    (tmp_path / "videos/sub").mkdir()
    (tmp_path / "videos/a.mp4").write_bytes(b"a")
    (tmp_path / "videos/sub/b.mkv").write_bytes(b"b")
    clips, failed = install(open_dataset("local", p), INLINE)
    assert [clip.key for clip in clips] == ["0-a", "1-a", "2-sub_b"]
    assert clips[0].sha256 == clips[1].sha256 != clips[2].sha256
    assert not failed


def test_missing_and_escaping_videos_are_failure_rows(tmp_path: Path) -> None:
    (tmp_path / "secret.mp4").write_bytes(b"s")
    p = data(tmp_path, "absent.mp4\tDog\t0\t3\n../secret.mp4\tCat\t3\t9\n")
    clips, failed = install(open_dataset("local", p), INLINE)
    assert not clips
    assert failed == [
        Failed("0-absent", "absent.mp4", "video not found"),
        Failed("1-.._secret", "../secret.mp4", ESCAPES),
    ]


def test_names_that_no_file_can_have_are_failure_rows(tmp_path: Path) -> None:
    names = [".", "/", "x" * 300, "nul\0"]
    p = data(tmp_path, "".join(f"{name}\tDog\t0\t3\n" for name in names))
    assert [row.video for row in install(open_dataset("local", p), INLINE)[1]] == names


def test_what_is_no_file_is_not_read(tmp_path: Path) -> None:
    """Reading a pipe waits for its writer."""
    p = data(tmp_path, "pipe.mp4\tDog\t0\t3\n")
    os.mkfifo(tmp_path / "videos/pipe.mp4")
    assert [row.reason for row in install(open_dataset("local", p), INLINE)[1]] == ["not a regular file"]


def test_a_missing_folder_is_named(tmp_path: Path) -> None:
    p = data(tmp_path, "a.mp4\tDog\t0\t3\n")
    (tmp_path / "videos").rmdir()
    with pytest.raises(InputError, match=r"data\.local\.videos \(.*videos\) is not a folder"):
        install(open_dataset("local", p), INLINE)


def test_the_demo_makes_its_videos_once(tmp_path: Path) -> None:
    p = data(tmp_path, "", train=2, val=1, test=1)
    clips, failed = install(open_dataset("demo", p), INLINE)
    assert [clip.split for clip in clips].count("train") == 2
    assert len(clips) == 4
    assert not failed
    made = {path: path.stat().st_mtime_ns for path in raw_root().rglob("*.mp4")}
    assert len(made) == 4
    assert install(open_dataset("demo", p), INLINE)[0] == clips
    assert {path: path.stat().st_mtime_ns for path in raw_root().rglob("*.mp4")} == made


@pytest.mark.parametrize(("video", "key"), [("-x.mp4", "7--x"), ("a/b c.webm", "7-a_b c"), ("x.y.mp4", "7-x.y")])
def test_keys_hold_row_and_video(video: str, key: str) -> None:
    assert clip_key(7, video) == key


def test_something_to_learn_from_and_something_to_judge_by_are_needed() -> None:
    clip = Clip("0-a", "train", "Dog", 1, 2, 3, "a.mp4", "")
    for others in ([], [replace(clip, split="test", end=1)]):
        with pytest.raises(InputError, match=r"needed in train and in val or test \(there are some in: train\)"):
            check_splits([clip, *others])
    check_splits([clip, replace(clip, split="val")])
