import shutil
import tarfile
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest

import stages.install
import stages.preprocess
from avs import preprocess as module
from avs.audio.eventness import EventnessParams
from avs.audio.scoring import score_clips
from avs.config import load_config
from avs.core.clips import Clip, Failed, write_table
from avs.core.errors import InputError
from avs.core.execute import ExecutionParams
from avs.core.media import jpeg, read_media, unjpeg, write_media
from avs.core.store import raw_root, sha256_file
from avs.datasets import DataParams, install, open_dataset
from avs.datasets.demo import DemoParams
from avs.datasets.local import LocalParams
from avs.preprocess import MediaShards, preprocess

ROOT = Path(__file__).resolve().parents[1]
INLINE = ExecutionParams(backend="inline")


@pytest.fixture
def clips(tiny_videos: Path) -> list[Clip]:
    rows = [f"v{number}.mp4\tDog\t1\t2" for number in (0, 1, 2, 1)]
    table = tiny_videos / "rows.tsv"
    table.write_text("\n".join(["video\tlabel\tstart\tend", *rows]))
    local = LocalParams(str(tiny_videos), str(table), seconds=3)
    return install(open_dataset("local", DataParams(DemoParams(), local)), INLINE)[0]


def shards_of(folder: Path) -> MediaShards:
    write_table(folder / "failures.tsv", [], Failed)
    return MediaShards(folder)


def content(folder: Path) -> dict[str, bytes]:
    return {str(path.relative_to(folder)): path.read_bytes() for path in sorted(folder.rglob("*")) if path.is_file()}


def test_shards_hold_what_the_videos_hold(clips: list[Clip], tiny_videos: Path, tmp_path: Path) -> None:
    rows, failed, computed = preprocess(clips, tiny_videos, tmp_path / "out", INLINE)
    assert (len(rows), failed, computed) == (4, [], 3)
    shards = shards_of(tmp_path / "out")
    assert shards.clips == rows
    assert [replace(clip, media="") for clip in shards.table()] == clips
    for clip in shards.clips:
        media = read_media(tiny_videos / clip.video, 3)
        np.testing.assert_array_equal(shards.waveform(clip), media.audio / np.float32(32768))
        for ours, theirs in zip(shards.frames(clip), media.frames, strict=True):
            np.testing.assert_array_equal(ours, unjpeg(jpeg(theirs)))


def test_any_tar_can_read_a_shard(clips: list[Clip], tiny_videos: Path, tmp_path: Path) -> None:
    preprocess([replace(clips[0], key="0-動画 ü")], tiny_videos, tmp_path / "out", INLINE)
    with tarfile.open(tmp_path / "out/shard-00000.tar") as tar:
        assert tar.getnames() == ["0-動画 ü/audio.wav", *(f"0-動画 ü/frames/{t}.jpg" for t in range(3))]
        assert {(m.mtime, m.uid, m.gid, m.uname) for m in tar} == {(0, 0, 0, "")}
    shards = shards_of(tmp_path / "out")
    assert len(shards.frames(shards.clips[0])) == 3


def test_bytes_are_the_same_however_it_ran(
    clips: list[Clip], tiny_videos: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    preprocess(clips, tiny_videos, tmp_path / "a", INLINE)
    monkeypatch.setenv("AVS_STORE", str(tmp_path / "other"))
    preprocess(clips, tiny_videos, tmp_path / "b", ExecutionParams(workers=2))
    assert content(tmp_path / "a") == content(tmp_path / "b")


def test_small_shards_are_split_between_clips(
    clips: list[Clip], tiny_videos: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(module, "SHARD_BYTES", 1)
    rows, _, _ = preprocess(clips, tiny_videos, tmp_path / "out", INLINE)
    assert [row.shard for row in rows] == [f"shard-{i:05d}.tar" for i in range(4)]
    shards = shards_of(tmp_path / "out")
    assert all(len(shards.frames(clip)) == 3 for clip in shards.clips)


def test_only_new_clips_are_decoded(clips: list[Clip], tiny_videos: Path, tmp_path: Path) -> None:
    assert preprocess(clips[:2], tiny_videos, tmp_path / "out", INLINE)[2] == 2
    assert preprocess(clips[:3], tiny_videos, tmp_path / "out", INLINE)[2] == 1
    assert preprocess(clips, tiny_videos, tmp_path / "out", INLINE)[2] == 0


def test_a_damaged_shard_is_named(clips: list[Clip], tiny_videos: Path, tmp_path: Path) -> None:
    preprocess(clips[:1], tiny_videos, tmp_path / "out", INLINE)
    shards, path = shards_of(tmp_path / "out"), tmp_path / "out/shard-00000.tar"
    whole = path.read_bytes()
    picture = whole.index(b"\xff\xd8")
    for damaged in (b"", whole[:1000], bytes(512) + whole[512:], whole[: picture + 50] + bytes(len(whole) - picture)):
        path.write_bytes(damaged)
        with pytest.raises(InputError, match=r"shard-00000\.tar, byte 0: damaged, or another file: .*run: dvc repro"):
            shards.frames(shards.clips[0])
    path.write_bytes(whole[:700])
    with pytest.raises(InputError, match=r"shard-00000\.tar, byte 0: damaged"):
        shards.waveform(shards.clips[0])


def test_bad_clips_become_failure_rows(clips: list[Clip], tiny_videos: Path, tmp_path: Path) -> None:
    (tiny_videos / "v0.mp4").write_bytes(b"other bytes")
    (tiny_videos / "v2.mp4").unlink()
    rows, failed, _ = preprocess(clips, tiny_videos, tmp_path / "out", INLINE)
    assert [row.key for row in rows] == ["1-v1", "3-v1"]
    assert [(row.key, row.reason) for row in failed] == [
        ("0-v0", "video has changed since install (run: dvc repro -f install@clips)"),
        ("2-v2", "video is gone since install (run: dvc repro -f install@clips)"),
    ]


def test_a_clip_may_begin_anywhere_in_a_longer_video(
    clips: list[Clip], tiny_videos: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    hashed = []
    monkeypatch.setattr(module, "sha256_file", lambda path: hashed.append(path) or sha256_file(path))
    parts = [replace(clips[0], key=f"{t}-v0", seconds=2, clip_start=t / 2) for t in range(3)]
    rows, failed, computed = preprocess(parts, tiny_videos, tmp_path / "out", INLINE)
    assert (failed, computed) == ([], 3)
    assert len(hashed) == 1
    shards = shards_of(tmp_path / "out")
    whole = read_media(tiny_videos / "v0.mp4", 3)
    assert [row.clip_start for row in rows] == [0, 0.5, 1]
    for clip in shards.clips:
        first = int(clip.clip_start * 16000)
        np.testing.assert_array_equal(shards.waveform(clip) * 32768, whole.audio[first : first + 32000])
    np.testing.assert_array_equal(shards.frames(shards.clips[2])[0], unjpeg(jpeg(whole.frames[1])))
    assert preprocess(parts[:1], tiny_videos, tmp_path / "out", INLINE)[2] == 0


def test_the_demo_is_made_again_where_its_videos_are_lost(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    data = DataParams(DemoParams(train=1, val=1, test=1), LocalParams())
    config = replace(load_config(ROOT / "params.yaml"), dataset="demo", data=data, execution=INLINE)
    monkeypatch.chdir(tmp_path)
    assert stages.install.main(config) == {"clips": 3, "failed": 0}
    shutil.rmtree(raw_root())
    assert stages.preprocess.main(config) == {"clips": 3, "failed": 0, "computed": 3}


def test_other_lengths_than_ten_seconds_are_scored(tiny_videos: Path, tmp_path: Path) -> None:
    (tiny_videos / "six.tsv").write_text("video\tlabel\tstart\tend\tclip_start\nsix.mp4\tDog\t1\t2\t2\n")
    sound = np.repeat([1, 1, 9, 1, 1, 1, 1, 30], 16000) * 300 * np.sin(np.arange(8 * 16000))
    write_media(tiny_videos / "six.mp4", [np.zeros((32, 32, 3), np.uint8)] * 16, 2, np.rint(sound).astype(np.int16))
    manifest = LocalParams(str(tiny_videos), str(tiny_videos / "six.tsv"), seconds=6)
    data = DataParams(DemoParams(), LocalParams(), manifest=manifest)
    clips, _ = install(open_dataset("manifest", data), INLINE)
    preprocess(clips, tiny_videos, tmp_path / "out", INLINE)
    write_table(tmp_path / "out/failures.tsv", [], Failed)
    score_clips(tmp_path / "out", tmp_path / "scores", EventnessParams(), INLINE)
    scores = np.load(tmp_path / "scores/scores.npy")
    assert scores.shape == (1, 6)
    assert np.argsort(scores[0])[::-1][:2].tolist() == [5, 0]
    assert np.load(tmp_path / "scores/features.npy").shape == (1, 6, 10)
