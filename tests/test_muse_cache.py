"""The stage's features: equal to the network's, found again, shared, packed; and a reader that trusts nothing."""

import json
from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
import torch
from speech_clips import clip_of, write_speech
from test_visual_frontend import formula_weights

from avs.core.errors import InputError
from avs.core.execute import ExecutionParams
from avs.core.store import ItemStore, sha256_file
from avs.lips.cache import MuseFeatures, in_scope, muse_precompute
from avs.lips.features import Extractor, MuseParams, make_network
from avs.lips.media import SpeechClip, SpeechShards

INLINE = ExecutionParams(backend="inline", workers=1, devices="cpu")
UNTRAINED = MuseParams()


@pytest.fixture(autouse=True)
def _small_chunks(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("avs.lips.features._CPU_CHUNK", 5)


@pytest.fixture
def media(tmp_path: Path) -> Path:
    return write_speech(tmp_path / "media", {"a": 3, "b": 7, "c": 1, "d": 5})


def checkpoint(folder: Path, change: float = 0.0) -> MuseParams:
    tensors = formula_weights()
    tensors["frontend3D.1.bias"] += change
    path = folder / f"frontend-{change}.pt"
    torch.save(tensors, path)
    return MuseParams(f"file:{path}#sha256={sha256_file(path)}")


def files(folder: Path) -> dict[str, bytes]:
    return {path.name: path.read_bytes() for path in folder.iterdir()}


def clips_of(media: Path) -> list[SpeechClip]:
    return list(SpeechShards(media).clips)


def test_the_packed_features_are_the_networks(media: Path, tmp_path: Path) -> None:
    p = checkpoint(tmp_path)
    assert muse_precompute(media, tmp_path / "out", p, INLINE) == {"clips": 4, "frames": 16, "computed": 4}
    extractor, shards, features = (
        Extractor(make_network(p), "lips", "cpu"),
        SpeechShards(media),
        MuseFeatures(tmp_path / "out", p),
    )
    for clip in shards.clips:
        found = features.load(clip)
        assert (found.shape, found.dtype) == ((clip.frames, 512), np.float32)
        np.testing.assert_array_equal(found, extractor.features(shards.lips(clip)))
    assert np.load(tmp_path / "out/features.npy", mmap_mode="r").shape == (16, 512)
    rows = [json.loads(line) for line in (tmp_path / "out/index.jsonl").read_text().splitlines()]
    published = {"dataset", "split", "video", "start_time", "end_time", "cache_path", "num_frames"}
    assert all(published | {"clip", "media", "first"} == row.keys() for row in rows)
    assert [row["first"] for row in rows] == [0, 3, 10, 11]


def test_meta_says_what_made_them(media: Path, tmp_path: Path, capfd: pytest.CaptureFixture[str]) -> None:
    muse_precompute(media, tmp_path / "out", UNTRAINED, INLINE)
    assert "UNTRAINED" in capfd.readouterr().err
    meta = json.loads((tmp_path / "out/meta.json").read_text())
    assert (meta["checkpoint_sha256"], meta["trained"]) == ("untrained", False)
    assert (meta["preprocessing"], meta["dtype"]) == ("lips-1", "float32")
    p = checkpoint(tmp_path)
    muse_precompute(media, tmp_path / "out", p, INLINE)
    meta = json.loads((tmp_path / "out/meta.json").read_text())
    assert (meta["checkpoint_sha256"], meta["trained"]) == (str(p.checkpoint)[-64:], True)
    assert capfd.readouterr().err == ""


def test_bytes_do_not_depend_on_workers_or_on_what_was_there(
    media: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    muse_precompute(media, tmp_path / "a", UNTRAINED, INLINE)
    for item in [path for path in ItemStore("muse").folder.rglob("*") if path.is_file()][::2]:
        item.unlink()
    assert muse_precompute(media, tmp_path / "b", UNTRAINED, replace(INLINE, workers=3))["computed"] == 2
    monkeypatch.setenv("AVS_STORE", str(tmp_path / "other"))
    muse_precompute(media, tmp_path / "c", UNTRAINED, replace(INLINE, devices=("cpu", "cpu")))
    assert files(tmp_path / "a") == files(tmp_path / "b") == files(tmp_path / "c")


def test_only_what_is_new_is_computed(media: Path, tmp_path: Path) -> None:
    """A clip more costs one clip; another checkpoint or dtype all of them."""
    computed = [muse_precompute(media, tmp_path / "out", UNTRAINED, INLINE)["computed"] for _ in range(2)]
    assert computed == [4, 0]
    write_speech(media, {"a": 3, "b": 7, "c": 1, "d": 5, "e": 2})
    assert muse_precompute(media, tmp_path / "out", UNTRAINED, INLINE)["computed"] == 1
    for other in (checkpoint(tmp_path), replace(UNTRAINED, dtype="bfloat16")):
        assert muse_precompute(media, tmp_path / "out", other, INLINE)["computed"] == 5


def test_work_that_another_process_did_meanwhile_is_left_out(
    media: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    muse_precompute(media, tmp_path / "a", UNTRAINED, INLINE)
    monkeypatch.setattr(ItemStore, "missing", lambda self, keys: list(range(len(keys))))  # as it was before
    assert muse_precompute(media, tmp_path / "b", UNTRAINED, INLINE)["computed"] == 0


def named(*names: str) -> list[SpeechClip]:
    return [clip_of(f"{number}", 2, dataset_name=name) for number, name in enumerate(names)]


@pytest.mark.parametrize(
    ("p", "keys"),
    [
        (MuseParams(), "02"),
        (MuseParams(include_mcorec=True), "012"),
        (MuseParams(include_mcorec=True, scope="mcorec"), "1"),
    ],
)
def test_scope_lets_clips_in_by_their_data_set(p: MuseParams, keys: str) -> None:
    assert [clip.key for clip in in_scope(named("lrs2", "mcorec", "grid"), p)] == list(keys)


def test_a_scope_that_cannot_be_decided_or_is_empty_is_refused() -> None:
    with pytest.raises(InputError, match="dataset_name is missing: 1 of 2 clips, first 1"):
        in_scope(named("lrs2", ""), MuseParams())
    with pytest.raises(InputError, match=r"muse\.scope all with muse\.include_mcorec false leaves none of 1 clips"):
        in_scope(named("mcorec"), MuseParams())
    with pytest.raises(ValueError, match="scope mcorec requires include_mcorec"):
        MuseParams(scope="mcorec")


def test_wrong_checkpoints_are_refused_before_work(media: Path, tmp_path: Path) -> None:
    with pytest.raises(ValueError, match="must end in #sha256="):
        MuseParams("file:frontend.pt")
    with pytest.raises(ValueError, match="64 hex digits"):
        MuseParams("imported:abc")
    with pytest.raises(InputError, match=r"imported:0+\) is not in the store .*muse-cache import"):
        muse_precompute(media, tmp_path / "out", MuseParams("imported:" + 64 * "0"), INLINE)
    with pytest.raises(InputError, match="needs face tracks"):
        muse_precompute(media, tmp_path / "out", MuseParams(preprocessing="face"), INLINE)
    with pytest.raises(InputError, match="cuda:99"):
        muse_precompute(media, tmp_path / "out", UNTRAINED, replace(INLINE, devices="cuda:99"))
    assert not (tmp_path / "out").exists()


def test_features_of_another_checkpoint_are_refused_by_name(media: Path, tmp_path: Path) -> None:
    p, other = checkpoint(tmp_path), checkpoint(tmp_path, 0.5)
    muse_precompute(media, tmp_path / "out", p, INLINE)
    MuseFeatures(tmp_path / "out", p)
    with pytest.raises(InputError, match=f"{p.checkpoint_digest}.*not of checkpoint {other.checkpoint_digest}"):
        MuseFeatures(tmp_path / "out", other)
    with pytest.raises(InputError, match=r"lips-1, not of .*face-1"):
        MuseFeatures(tmp_path / "out", replace(p, preprocessing="face"))


def test_all_that_is_wrong_is_listed_at_once(media: Path, tmp_path: Path) -> None:
    muse_precompute(media, tmp_path / "out", UNTRAINED, INLINE)
    features = MuseFeatures(tmp_path / "out")
    a, b, c, d = clips_of(media)
    features.check([a, b, c, d])
    wrong: Sequence[SpeechClip] = [
        a,
        clip_of("x", 2),
        replace(b, frames=8),
        replace(c, media="0" * 64),
        clip_of("y", 2),
        d,
    ]
    with pytest.raises(InputError) as caught:
        features.check(wrong)
    miss, length, other, *each = str(caught.value).splitlines()
    assert miss == "MuSE cache miss: 2 of 6 clips, first x (run: dvc repro -f muse_precompute)"
    assert length.startswith(
        "MuSE feature length mismatch: 1 of 6 clips, first b: video_len=8, muse_len=7, video=b.mp4"
    )
    assert other.startswith("MuSE cache entry of other media: 1 of 6 clips, first c")
    assert [line.split(":")[0].strip() for line in each] == ["x", "b", "c", "y"]
    with pytest.raises(InputError, match="MuSE cache miss: 1 of 1 clips, first x"):
        features.load(wrong[1])


def test_a_folder_without_features_and_torn_ones_are_named(media: Path, tmp_path: Path) -> None:
    with pytest.raises(InputError, match=r"holds no MuSE features.*dvc repro -f muse_precompute"):
        MuseFeatures(tmp_path / "nothing")
    muse_precompute(media, tmp_path / "out", UNTRAINED, INLINE)
    np.save(tmp_path / "out/features.npy", np.zeros((15, 512), np.float32))
    with pytest.raises(InputError, match=r"\[15, 512\] is not what meta.json says"):
        MuseFeatures(tmp_path / "out")
    path = tmp_path / "out/features.npy"
    path.write_bytes(path.read_bytes().replace(b"}", b"("))  # NumPy reads its header as Python does
    with pytest.raises(InputError, match=r"out: holds no MuSE features: .*dvc repro -f muse_precompute"):
        MuseFeatures(tmp_path / "out")
