import json
import multiprocessing
from concurrent.futures import ProcessPoolExecutor
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
import torch

from avs.core.clips import Failed, write_table
from avs.core.errors import InputError
from avs.core.execute import ExecutionParams
from avs.core.store import ItemStore
from avs.datasets import DataParams, install, open_dataset
from avs.datasets.demo import DemoParams
from avs.datasets.local import LocalParams
from avs.preprocess import MediaClip, MediaShards, preprocess
from avs.vision.cache import CacheParams, cache_features, encode_clips
from avs.vision.encoder import Encoder, load_encoder
from avs.vision.motion import frame_motion

INLINE = ExecutionParams(backend="inline", workers=1, devices="cpu")
RANDOM = CacheParams(weights="random")


@pytest.fixture
def media(tiny_videos: Path, tmp_path: Path) -> Path:
    table = tiny_videos / "rows.tsv"
    table.write_text("video\tlabel\tstart\tend\n" + "\n".join(f"v{n}.mp4\tDog\t1\t2" for n in range(4)))
    local = LocalParams(str(tiny_videos), str(table), seconds=3)
    clips, _ = install(open_dataset("local", DataParams(DemoParams(), local)), INLINE)
    preprocess(clips, tiny_videos, tmp_path / "media", INLINE)
    write_table(tmp_path / "media/failures.tsv", [], Failed)
    return tmp_path / "media"


def stored() -> int:
    return len([path for path in ItemStore("features").folder.rglob("*") if path.is_file()])


def test_the_packed_arrays_hold_each_clips_features(media: Path, tmp_path: Path) -> None:
    counts = cache_features(media, tmp_path / "out", (32, 64), RANDOM, INLINE)
    assert counts == {"clips": 4, "computed": 8}
    encoder = load_encoder("efficientnet_lite0", weights="random", device="cpu")
    shards = MediaShards(media)
    table = np.load(tmp_path / "out/res_64.npy")
    assert (table.shape, table.dtype) == ((4, 3, 1280), np.float32)
    for row, clip in zip(table, shards.clips, strict=True):
        np.testing.assert_allclose(row, encoder.encode(np.stack(shards.frames(clip)), 64), rtol=1e-4, atol=1e-4)
    motion = np.load(tmp_path / "out/motion.npy")
    np.testing.assert_array_equal(motion, np.stack([frame_motion(shards.frames(clip)) for clip in shards.clips]))
    meta = json.loads((tmp_path / "out/meta.json").read_text())
    assert (meta["encoder"], meta["dtype"], meta["weights_sha256"]) == ("efficientnet_lite0", "float32", "random")
    assert set(meta["gflops"]) == {"32", "64"}


def test_bytes_do_not_depend_on_workers_or_on_what_was_there(
    media: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    cache_features(media, tmp_path / "a", (64,), RANDOM, INLINE)
    for item in list(ItemStore("features").folder.rglob("*"))[::2]:
        if item.is_file():
            item.unlink()
    cache_features(media, tmp_path / "b", (64,), RANDOM, replace(INLINE, workers=3))
    monkeypatch.setenv("AVS_STORE", str(tmp_path / "other"))
    cache_features(media, tmp_path / "c", (64,), RANDOM, replace(INLINE, workers=2))
    files = [{p.name: p.read_bytes() for p in (tmp_path / name).iterdir()} for name in "abc"]
    assert files[0] == files[1] == files[2]


def test_only_what_is_new_is_computed(media: Path, tmp_path: Path) -> None:
    assert cache_features(media, tmp_path / "out", (32,), RANDOM, INLINE)["computed"] == 4
    assert cache_features(media, tmp_path / "out", (32,), RANDOM, INLINE)["computed"] == 0
    assert cache_features(media, tmp_path / "out", (32, 64), RANDOM, INLINE)["computed"] == 4


def test_a_clip_is_decoded_once_for_all_that_it_lacks(
    media: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    cache_features(media, tmp_path / "out", (32,), RANDOM, INLINE)
    for item in list(ItemStore("motion").folder.rglob("*/*"))[:1]:
        item.unlink()
    read, frames = [], MediaShards.frames
    monkeypatch.setattr(MediaShards, "frames", lambda self, clip: read.append(clip.key) or frames(self, clip))
    cache_features(media, tmp_path / "out", (32, 64, 96), RANDOM, replace(INLINE, workers=2))
    assert sorted(read) == sorted(clip.key for clip in MediaShards(media).clips)


def test_what_was_found_before_a_fault_is_kept(media: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    frames = MediaShards.frames

    def failing(self: MediaShards, clip: MediaClip) -> list[np.ndarray]:
        if clip.key == self.clips[3].key:
            raise OSError("gone")
        return frames(self, clip)

    monkeypatch.setattr(MediaShards, "frames", failing)
    monkeypatch.setattr(Encoder, "batch_size", lambda self, resolution: 3)  # a clip a batch
    with pytest.raises(OSError, match="gone"):
        cache_features(media, tmp_path / "out", (32, 64), RANDOM, INLINE)
    assert stored() == 6


def test_clips_can_be_encoded_in_another_process(media: Path, tmp_path: Path) -> None:
    cache_features(media, tmp_path / "out", (32,), RANDOM, INLINE)
    with ProcessPoolExecutor(1, mp_context=multiprocessing.get_context("forkserver")) as pool:
        found = pool.submit(encode_clips, media, RANDOM, "cpu", ("motion", 32), [2, 0]).result()
    assert [(place, wanted) for place, wanted, _ in found] == [(2, "motion"), (0, "motion"), (2, 32), (0, 32)]
    for place, wanted, array in found:
        file = "motion.npy" if wanted == "motion" else "res_32.npy"
        np.testing.assert_array_equal(array, np.load(tmp_path / "out" / file)[place])


def test_other_weights_or_numbers_are_never_reused(media: Path, tmp_path: Path) -> None:
    cache_features(media, tmp_path / "out", (32,), RANDOM, INLINE)
    assert cache_features(media, tmp_path / "b", (32,), replace(RANDOM, dtype="bfloat16"), INLINE)["computed"] == 4
    vit = CacheParams(encoder="timm:vit_tiny_patch16_224", weights="random")
    assert cache_features(media, tmp_path / "c", (32,), vit, INLINE)["computed"] == 4
    assert stored() == 12


def workers_of(monkeypatch: pytest.MonkeyPatch) -> set[Encoder]:
    """The encoders that had something to do."""
    used = set()
    embed = Encoder.embed
    monkeypatch.setattr(Encoder, "embed", lambda self, images: used.add(self) or embed(self, images))
    return used


@pytest.mark.parametrize(
    ("one", "several"),
    [
        ("cpu", ("cpu", "cpu:0")),
        pytest.param(
            "cuda:0",
            ("cuda:0", "cuda:1"),
            marks=pytest.mark.skipif(torch.cuda.device_count() < 2, reason="needs two CUDA devices"),
        ),
    ],
)
def test_several_devices_share_the_work_and_give_the_bytes_of_one(
    media: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, one: str, several: tuple[str, ...]
) -> None:
    used = workers_of(monkeypatch)
    monkeypatch.setattr(Encoder, "batch_size", lambda self, resolution: 3)  # a clip a batch
    counts = cache_features(media, tmp_path / "one", (32, 64), RANDOM, replace(INLINE, devices=one))
    assert len(used) == 1
    used.clear()
    monkeypatch.setenv("AVS_STORE", str(tmp_path / "other"))
    assert cache_features(media, tmp_path / "two", (32, 64), RANDOM, replace(INLINE, devices=several)) == counts
    assert len(used) == 2
    files = [{p.name: p.read_bytes() for p in (tmp_path / name).iterdir()} for name in ("one", "two")]
    assert files[0] == files[1]


def test_a_device_that_is_not_there_is_refused_by_name_before_work(media: Path, tmp_path: Path) -> None:
    with pytest.raises(InputError, match=r"device \('cuda:99'\) is not here"):
        cache_features(media, tmp_path / "out", (32,), RANDOM, replace(INLINE, devices=("cpu", "cuda:99")))
    assert not (tmp_path / "out").exists()
    assert stored() == 0
