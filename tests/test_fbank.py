"""The log filter bank: python_speech_features' numbers, each row as if alone, gradients that stay finite."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
import torch
from golden_fill import pcm16, wave

from avs.avsr.fbank import DIM, INT16, _triangles, frames, log_bands, log_fbank, rows
from avs.core.errors import InputError
from avs.core.media import read_media

GOLDEN = np.load(Path(__file__).parent / "golden/logfbank.npz")
GRID = Path(__file__).resolve().parents[2] / "shared/grid/lips"
CASES = sorted({name.rpartition(".")[0] for name in GOLDEN})


def signal(case: str) -> np.ndarray:
    """The sound of a golden case, float64, or as 16-bit numbers."""
    kind, name = case.split(".")
    count = int(name[1:]) if name[0] == "L" else 3200
    sound = np.zeros(count) if name == "silence" else wave(f"fbank.{name}", (count,), scale=0.4).astype(np.float64)
    if name == "gap":
        sound[800:2400] = 0
    return pcm16(sound).astype(np.float64) if kind == "int16" else sound


@pytest.mark.parametrize(("dtype", "tolerance"), [(torch.float32, 1e-4), (torch.float64, 1e-5)])
@pytest.mark.parametrize("case", CASES)
def test_parity_with_python_speech_features(case: str, dtype: torch.dtype, tolerance: float) -> None:
    """Largest difference seen: 2e-6, that of the golden numbers' own rounding."""
    sound = torch.from_numpy(signal(case)).to(dtype)[None]
    bands, features = log_bands(sound)[0].numpy(), log_fbank(sound)[0].numpy()
    assert features.dtype == bands.dtype == torch.empty(0, dtype=dtype).numpy().dtype
    for name, expected in ((n, GOLDEN[n]) for n in GOLDEN if n.startswith(f"{case}.")):
        what = name.rpartition(".")[2]
        if what == "nframes":
            assert expected.tolist() == [frames(sound.shape[1]), rows(sound.shape[1])] == [len(bands), len(features)]
            continue
        found = {"stack_ln": features, "logfbank_first8": bands[:8], "logfbank_last8": bands[-8:], "logfbank": bands}
        np.testing.assert_allclose(found[what], expected, rtol=0, atol=tolerance, err_msg=name)


@pytest.mark.skipif(not GRID.is_dir(), reason="needs ../shared/grid")
@pytest.mark.parametrize(("dtype", "tolerance"), [(torch.float32, 1e-4), (torch.float64, 1e-9)])
def test_parity_on_real_speech(dtype: torch.dtype, tolerance: float) -> None:
    reference = pytest.importorskip("python_speech_features")
    for video in sorted(GRID.glob("*.mp4"))[:5]:
        sound = read_media(video, 3).audio[:48000].astype(np.float64)
        found = log_bands(torch.from_numpy(sound).to(dtype)[None])[0].numpy()
        np.testing.assert_allclose(found, reference.logfbank(sound, 16000), rtol=0, atol=tolerance, err_msg=video.name)


@pytest.mark.parametrize("count", [1, 2, 75, 1500])
def test_a_picture_has_a_row(count: int) -> None:
    assert rows(640 * count) == count
    assert log_fbank(torch.randn(1, 640 * count)).shape == (1, count, DIM)


@pytest.mark.parametrize("rest", [float("nan"), 0.0, 1.0])
def test_each_row_of_a_padded_batch_is_what_it_would_be_alone(rest: float) -> None:
    lengths = torch.tensor([1, 399, 401, 640, 3201, 4000])
    batch = torch.from_numpy(wave("batch", (6, 4000), scale=0.4))
    batch = batch.where(torch.arange(4000) < lengths[:, None], rest)
    found, bands = log_fbank(batch, lengths), log_bands(batch, lengths)
    for row, length in enumerate(lengths.tolist()):
        alone = batch[row : row + 1, :length]
        for whole, own in ((found[row], log_fbank(alone)[0]), (bands[row], log_bands(alone)[0])):
            torch.testing.assert_close(whole[: len(own)], own, rtol=0, atol=1e-5)
            assert (whole[len(own) :] == 0).all()


def test_scale_matters_in_the_last_row_only() -> None:
    """Of 16-bit numbers and of the same in [-1, 1]; RMS of the last row's difference 1.97 in the reference facts."""
    sound = torch.from_numpy(wave("scale", (1, 6400), scale=0.4))
    small, large = log_fbank(sound), log_fbank(sound, scale=INT16)
    torch.testing.assert_close(large, log_fbank(sound * INT16), rtol=0, atol=0)
    torch.testing.assert_close(small[:, :-1], large[:, :-1], rtol=0, atol=1e-4)
    assert (small[:, -1] - large[:, -1]).square().mean().sqrt() > 1


def test_autocast_and_integers_change_nothing() -> None:
    sound = torch.from_numpy(pcm16(wave("cast", (2, 6400), scale=0.4)))
    expected = log_fbank(sound.float())
    with torch.autocast("cpu", torch.bfloat16):
        torch.testing.assert_close(log_fbank(sound), expected, rtol=0, atol=0)
    assert log_fbank(sound.half() / INT16).dtype == torch.float32


def test_gradients_are_right() -> None:
    sound = torch.from_numpy(wave("grad", (2, 800), scale=0.4)).double().requires_grad_()
    lengths = torch.tensor([800, 500])
    assert torch.autograd.gradcheck(lambda x: log_fbank(x, lengths), sound, eps=1e-7, atol=1e-4, fast_mode=True)


def test_a_first_use_without_gradients_does_not_spoil_later_ones() -> None:
    _triangles.cache_clear()
    with torch.inference_mode():
        log_fbank(torch.ones(1, 640))
    log_fbank(torch.ones(1, 640, requires_grad=True)).sum().backward()


@pytest.mark.parametrize("level", [0.0, 1e-30, 1e-20, 1e-9, 1e-4])
def test_gradients_are_finite_in_silence(level: float) -> None:
    """Silence, with a sound in its midst: no gradient is larger than that of a power of 2.2e-16."""
    sound = torch.full((1, 6400), level)
    sound[:, 3000:3400] += torch.from_numpy(wave("midst", (400,)))
    sound.requires_grad_()
    features = log_fbank(sound)
    (gradient,) = torch.autograd.grad(features.square().sum() + log_bands(sound).sum(), sound)
    assert features.isfinite().all()
    assert gradient.isfinite().all()
    assert gradient.abs().max() > 0


def test_quiet_sounds_keep_their_level() -> None:
    """Only a power of exactly zero is replaced: what is quieter than its stand-in looks quieter."""
    quiet = log_bands(1e-12 * torch.from_numpy(wave("quiet", (1, 640))).double())
    assert quiet.max() < -40
    silent = log_bands(torch.zeros(1, 640))
    torch.testing.assert_close(silent, torch.full_like(silent, -36.0437), rtol=0, atol=1e-4)


@pytest.mark.parametrize(
    ("waveform", "lengths", "message"),
    [
        (torch.zeros(640), None, "must be real"),
        (torch.zeros(1, 0), None, "S >= 1"),
        (torch.zeros(2, 640), torch.tensor([640]), "one integer for each of 2 sounds"),
        (torch.zeros(2, 640), torch.tensor([640.0, 1.0]), "one integer for each"),
        (torch.zeros(2, 640), torch.tensor([641, 1]), "must be from 1 to the 640 samples"),
        (torch.zeros(2, 640), torch.tensor([640, 0]), "must be from 1"),
    ],
)
def test_refuses_impossible_batches(waveform: torch.Tensor, lengths: torch.Tensor | None, message: str) -> None:
    with pytest.raises(InputError, match=message):
        log_fbank(waveform, lengths)
