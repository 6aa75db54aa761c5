"""Per-second features against golden numbers and closed forms."""

from __future__ import annotations

import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from golden_fill import pcm16, wave

from avs.audio.features import basic_features, fbank_features, log_mel, split_seconds
from avs.core.errors import InputError

GOLDEN = Path(__file__).parent / "golden"
CASES = json.loads((GOLDEN / "audio.json").read_text())
FBANK = json.loads((GOLDEN / "fbank.json").read_text())


def golden_waveform(given: dict[str, Any]) -> np.ndarray:
    """The clip [1,S] of a golden case, as it comes out of its 16-bit file."""
    count, rate, envelope = given["num_samples"], given["sample_rate"], np.array(given["envelope"])
    second = np.minimum(np.arange(count) // rate, len(envelope) - 1)
    sound = wave(given["name"], (count,), scale=given.get("scale", 0.5)).astype(np.float64) * envelope[second]
    channels = [pcm16(sound * gain) for gain in (1.0, 0.5)[: given.get("channels", 1)]]
    return np.mean(np.stack(channels).astype(np.float32) / 32768, axis=0, dtype=np.float32)[None]


@pytest.mark.parametrize("case", [c for c in CASES if c["op"] == "basic_features"], ids=lambda c: c["id"])
def test_golden(case: dict[str, Any]) -> None:
    features = basic_features(golden_waveform(case["input"]), sample_rate=case["input"]["sample_rate"])
    assert features.shape == (1, 10, 10)
    assert features.dtype == np.float32
    np.testing.assert_allclose(features[0], case["expected"], rtol=0, atol=1e-5)


def test_pure_tone() -> None:
    """A 2000 Hz sine of amplitude 0.5 has a known energy, spread, crossing rate, centroid and band."""
    tone = 0.5 * np.sin(2 * np.pi * 2000 * (np.arange(16000) + 0.5) / 16000)
    energy, change, spread, crossings, centroid, rolloff, *bands = basic_features(tone[None], num_seconds=1)[0, 0]
    assert energy == pytest.approx(np.log(0.125), abs=1e-5)
    assert change == 0
    assert spread == pytest.approx(0.5 / np.sqrt(2), abs=1e-6)
    assert crossings == pytest.approx(3999 / 15999, abs=1e-6)
    assert (centroid, rolloff) == pytest.approx((0.25, 0.25), abs=1e-6)
    assert int(np.argmax(bands)) == 2


def test_a_constant_has_no_spectrum() -> None:
    """What lies at 0 Hz is left out before it is transformed, so that no rounding of it is taken for sound."""
    row = basic_features(np.full((1, 16000), 0.5, dtype=np.float32), num_seconds=1)[0, 0]
    assert row[:6] == pytest.approx([np.log(0.25), 0, 0, 0, 0, 0], abs=1e-6)
    assert row[6:] == pytest.approx(np.log(1e-12), abs=1e-5)


@pytest.mark.parametrize("rate", [500, 2000, 16000])
def test_rolloff_and_bands_are_those_of_a_running_sum(rate: int) -> None:
    """Where blocks, band edges and the end of the spectrum fall differently."""
    sound = wave("sound", (1, 3 * rate)).astype(np.float64)
    power = np.abs(np.fft.rfft(sound.reshape(3, rate), axis=-1)) ** 2
    power[:, 0] = 0
    running = power.cumsum(axis=-1)
    rolloff = (running < 0.85 * running[:, -1:]).sum(axis=-1) / (rate / 2)
    found = basic_features(sound, sample_rate=rate, num_seconds=3)[0]
    np.testing.assert_allclose(found[:, 5], rolloff, rtol=0, atol=1e-6)
    bands = [power[:, a:b].sum(axis=-1) for a, b in ((0, 250), (250, 1000), (1000, 4000), (4000, rate))]
    np.testing.assert_allclose(found[:, 6:], np.log(np.stack(bands, -1) + 1e-12), rtol=0, atol=1e-5)


@pytest.mark.parametrize("case", FBANK, ids=lambda c: c["id"])
def test_log_mel_is_kaldis(case: dict[str, Any]) -> None:
    """Numbers of kaldi-native-fbank 1.23, in float32 and rounded to four places; 40 bands, mirrored, no dither."""
    rate = case["sample_rate"]
    sound = wave(case["id"], (2 * rate,), scale=case["scale"])
    if case["silent"]:
        sound[slice(*case["silent"])] = 0
    found = log_mel(sound, rate)
    assert found.shape == (200, 40)
    np.testing.assert_allclose(found[case["frames"]], case["log_mel"], rtol=0, atol=2e-4)


def test_fbank_features_are_the_statistics_of_each_seconds_frames() -> None:
    sound = wave("sound", (40000,))
    frames = log_mel(np.append(sound, np.zeros(8000, dtype=np.float32)))
    features = fbank_features(sound[None], num_seconds=3)
    assert features.dtype == np.float32
    np.testing.assert_allclose(features[0, 1, :40], frames[100:200].mean(0), atol=1e-5)
    np.testing.assert_allclose(features[0, 1, 40:], frames[100:200].std(0), atol=1e-5)
    silence = fbank_features(np.zeros((1, 9)), num_seconds=1)
    np.testing.assert_allclose(silence[0, 0, ::40], [np.log(2**-23), 0], atol=1e-6)
    with pytest.raises(InputError, match=r"sample_rate \(11025\) must be a multiple of 100"):
        fbank_features(sound[None], sample_rate=11025)


@pytest.mark.parametrize("describe", [basic_features, fbank_features])
def test_other_clips_change_nothing(describe: Callable[..., np.ndarray]) -> None:
    clips = np.stack([wave(f"clip{i}", (48000,)) for i in range(7)])
    alone = np.concatenate([describe(clip[None], num_seconds=3) for clip in clips])
    np.testing.assert_array_equal(describe(clips, num_seconds=3), alone)


def test_pads_cuts_and_takes_no_clips() -> None:
    sound = wave("sound", (1, 40000))
    padded = np.concatenate([sound, np.zeros((1, 8000), dtype=np.float32)], axis=1)
    np.testing.assert_array_equal(basic_features(sound, num_seconds=3), basic_features(padded, num_seconds=3))
    np.testing.assert_array_equal(basic_features(sound, num_seconds=1), basic_features(sound[:, :16000], num_seconds=1))
    assert basic_features(np.zeros((0, 5), dtype=np.float32), num_seconds=4).shape == (0, 4, 10)


@pytest.mark.parametrize(
    ("waveforms", "options", "message"),
    [
        (np.zeros(16000, dtype=np.float32), {}, r"shape \(16000,\)"),
        (np.zeros((1, 16000), dtype=np.int16), {}, "int16.*floating-point"),
        (np.full((2, 100), np.nan), {}, "clip 0 has NaN"),
        (np.zeros((1, 100)), {"num_seconds": 0}, r"num_seconds \(0\) must be >= 1"),
        (np.zeros((1, 100)), {"sample_rate": -1}, r"sample_rate \(-1\) must be >= 1"),
    ],
)
def test_refuses(waveforms: np.ndarray, options: dict[str, int], message: str) -> None:
    with pytest.raises(InputError, match=message):
        split_seconds(waveforms, **{"sample_rate": 16000, "num_seconds": 1, **options})
