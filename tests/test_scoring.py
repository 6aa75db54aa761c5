"""From media shards to scores: what is kept, what is computed again, and that threads change nothing."""

import json
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest

from avs.audio import features
from avs.audio.backend import Scale
from avs.audio.energy import Energy
from avs.audio.eventness import EventnessParams, make_backend
from avs.audio.panns import Cnn14, PannsTagger
from avs.audio.scoring import score_clips
from avs.core.clips import Clip, Failed, write_table
from avs.core.errors import InputError
from avs.core.execute import ExecutionParams
from avs.core.media import unwav
from avs.core.store import sha256_file
from avs.preprocess import MediaShards, preprocess


@pytest.fixture
def media(tiny_videos: Path, tmp_path: Path) -> Path:
    """Shards of six clips of three seconds."""
    clips = [
        Clip(f"{i}-v{i}", "test", "tone", 1, 2, 3, path.name, sha256_file(path))
        for i, path in enumerate(sorted(tiny_videos.iterdir()))
    ]
    preprocess(clips, tiny_videos, tmp_path / "media", ExecutionParams(backend="inline"))
    write_table(tmp_path / "media/failures.tsv", [], Failed)
    return tmp_path / "media"


@pytest.fixture
def _narrow(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(PannsTagger, "_build", lambda self: Cnn14(width=16))


def run(media: Path, workers: int = 1, **options: object) -> tuple[np.ndarray, dict[str, int]]:
    out = media.parent / "out"
    counts = score_clips(media, out, EventnessParams(**options), ExecutionParams(workers=workers))  # type: ignore[arg-type]
    return np.load(out / "scores.npy"), counts


def test_scores_are_the_backends(media: Path) -> None:
    scores, counts = run(media, workers=3)
    assert counts == {"clips": 6, "computed": 6, "flat": 0}
    shards = MediaShards(media)
    expected = [make_backend("energy")(shards.waveform(clip)[None], num_seconds=3)[0] for clip in shards.clips]
    np.testing.assert_array_equal(scores, expected)
    meta = json.loads((media.parent / "out/meta.json").read_text())
    assert meta["scale"] == {"unit": "nat", "std_threshold": 1.0}


def test_interrupted_work_goes_on(media: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    describe = features.basic_features
    done: list[int] = []

    def die_after_two(waveforms: np.ndarray, num_seconds: int) -> np.ndarray:
        if len(done) == 2:
            raise KeyboardInterrupt
        done.append(1)
        return describe(waveforms, num_seconds=num_seconds)

    monkeypatch.setattr(features, "CLIPS_AT_ONCE", 2)
    monkeypatch.setattr(features, "basic_features", die_after_two)
    with pytest.raises(KeyboardInterrupt):
        run(media)
    monkeypatch.setattr(features, "basic_features", describe)
    assert run(media)[1]["computed"] == 2
    assert run(media)[1]["computed"] == 0


def test_sound_is_read_from_where_it_is_said_to_lie(media: Path) -> None:
    shards = MediaShards(media)
    clip = shards.clips[2]
    np.testing.assert_array_equal(shards.waveform(clip), unwav(shards.files(clip)["audio.wav"]) / np.float32(32768))
    with pytest.raises(InputError, match=r"shard-00000.tar, byte 0: '0-v0/audio.wav' is not the sound of 2-v2"):
        shards.waveform(replace(clip, offset=0))


def test_methods_of_the_basic_features_share_them(media: Path) -> None:
    run(media)
    scores, counts = run(media, method="energy_delta")
    assert counts["computed"] == 0
    shards = MediaShards(media)
    expected = [make_backend("energy_delta")(shards.waveform(clip)[None], num_seconds=3)[0] for clip in shards.clips]
    np.testing.assert_array_equal(scores, expected)


@pytest.mark.usefixtures("_narrow")
def test_options_are_part_of_the_key(media: Path) -> None:
    options = {"method": "panns", "weights": "random"}
    one, counts = run(media, workers=1, window=1.0, **options)
    assert counts["computed"] == 6
    assert run(media, window=1.0, **options)[1]["computed"] == 0
    other, counts = run(media, window=2.0, **options)
    assert counts["computed"] == 6
    assert (one != other).any()


@pytest.mark.usefixtures("_narrow")
def test_threads_change_nothing(media: Path, monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    options = {"method": "energy+panns", "weights": "random", "window": 1.0}
    one, _ = run(media, workers=1, **options)
    monkeypatch.setenv("AVS_STORE", str(tmp_path / "another"))
    several, counts = run(media, workers=3, **options)
    assert counts["computed"] == 6
    np.testing.assert_array_equal(one, several)


def test_the_device_reaches_the_backend(media: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    devices: list[str] = []
    monkeypatch.setattr(Energy, "on", lambda self, device: devices.append(device) or self)
    for method in ("energy", "energy+energy_delta"):
        execution = ExecutionParams(devices=("cpu", "cpu"))
        score_clips(media, media.parent / "out", EventnessParams(method), execution)
    assert devices == ["cpu", "cpu"]


def test_flat_clips_are_counted(media: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(Energy, "scale", Scale("nat", 99.0))
    assert run(media)[1]["flat"] == 6
