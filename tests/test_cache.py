import json
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest

from avs.core.clips import Failed, write_table
from avs.core.execute import ExecutionParams
from avs.core.store import ItemStore
from avs.datasets import DataParams, install, open_dataset
from avs.datasets.demo import DemoParams
from avs.datasets.local import LocalParams
from avs.preprocess import MediaShards, preprocess
from avs.vision.cache import CacheParams, cache_features
from avs.vision.encoder import load_encoder

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


def test_other_weights_or_numbers_are_never_reused(media: Path, tmp_path: Path) -> None:
    cache_features(media, tmp_path / "out", (32,), RANDOM, INLINE)
    assert cache_features(media, tmp_path / "b", (32,), replace(RANDOM, dtype="bfloat16"), INLINE)["computed"] == 4
    vit = CacheParams(encoder="timm:vit_tiny_patch16_224", weights="random")
    assert cache_features(media, tmp_path / "c", (32,), vit, INLINE)["computed"] == 4
    assert stored() == 12
