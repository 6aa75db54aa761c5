"""The log filter bank that AV-HuBERT was trained on, exact and differentiable: one function for every path."""

from __future__ import annotations

import math
from functools import cache

import numpy as np
import torch
from torch import Tensor
from torch.nn import functional

from avs.core.errors import InputError

SAMPLE_RATE = 16000
BANDS, STACK = 26, 4
DIM = BANDS * STACK
INT16 = 32768.0

_WINDOW, _HOP, _FFT = 400, 160, 512
_PREEMPHASIS = 0.97
_FLOOR = float(np.finfo(np.float64).eps)  # what python_speech_features takes for a power of exactly zero


def log_fbank(waveform: Tensor, lengths: Tensor | None = None, *, scale: float = 1.0) -> Tensor:
    """Sound [B,S] at 16 kHz -> features [B,T,104] at 25 Hz, T = rows(S); S = 640 T gives T.

    `log_bands`, four frames in a row (with frames of zeros up to a multiple of four), each row normalised to mean 0
    and variance 1 as by `layer_norm` without affine. lengths: samples of each row [B] where the batch is padded; a
    row is what it would be alone, followed by zeros.

    scale: multiplies the sound. Normalising removes it but from the last row, where a frame of zeros stands beside
    log powers: AV-HuBERT was trained on 16-bit numbers, `scale=INT16` of a sound in [-1, 1]; without, that one row
    differs by RMS 2.

    Computed in float32, in float64 for a float64 sound, also inside autocast. Gradients are finite everywhere, and
    zero where the power is below 2.2e-16. Raises InputError for another shape and impossible lengths.
    """
    bands = log_bands(waveform, lengths, scale=scale)
    bands = functional.pad(bands, (0, 0, 0, -bands.shape[1] % STACK))
    return functional.layer_norm(bands.unflatten(1, (-1, STACK)).flatten(2), (DIM,))


def log_bands(waveform: Tensor, lengths: Tensor | None = None, *, scale: float = 1.0) -> Tensor:
    """Sound [B,S] at 16 kHz -> the natural logarithm of 26 mel powers a frame [B,F,26]; zeros beyond a row's frames.

    As python_speech_features.logfbank(sound, 16000) with its defaults: pre-emphasis 0.97 over the whole sound, frames
    of 400 every 160 samples without a window, the last filled with zeros, |DFT of 512|² / 512, triangles between
    integer bins of the DFT, and 2.2e-16 in place of a power of exactly zero.
    """
    sound = _checked(waveform, lengths)
    with torch.autocast(sound.device.type, enabled=False):
        sound = sound.to(torch.promote_types(sound.dtype, torch.float32)) * scale
        sound = sound - _PREEMPHASIS * functional.pad(sound, (1, -1))
        sound = sound if lengths is None else sound.where(_before(lengths, sound.shape[1], sound), 0)
        count = frames(sound.shape[1])
        padded = functional.pad(sound, (0, (count - 1) * _HOP + _WINDOW - sound.shape[1]))
        spectrum = torch.view_as_real(torch.fft.rfft(padded.unfold(1, _WINDOW, _HOP), _FFT))
        bands = _log(spectrum.square().flatten(2) @ _triangles(sound.dtype, sound.device))
    if lengths is None:
        return bands
    valid = torch.tensor([frames(int(length)) for length in lengths])
    return bands.where(_before(valid, count, sound)[..., None], 0)


def frames(samples: int) -> int:
    """Frames of a sound: those that begin 160 samples apart, until one holds the last sample."""
    return 1 + max(0, math.ceil((samples - _WINDOW) / _HOP))


def rows(samples: int) -> int:
    """Rows of four frames that `log_fbank` returns for so many samples."""
    return math.ceil(frames(samples) / STACK)


def _checked(waveform: Tensor, lengths: Tensor | None) -> Tensor:
    if waveform.ndim != 2 or not waveform.shape[1] or waveform.is_complex():
        raise InputError(f"a batch of sounds ({waveform.dtype} {list(waveform.shape)}) must be real [B,S] with S >= 1")
    if lengths is None:
        return waveform
    if lengths.shape != waveform.shape[:1] or lengths.is_floating_point():
        raise InputError(f"lengths {list(lengths.shape)} must be one integer for each of {len(waveform)} sounds")
    if len(lengths) and not (int(lengths.min()) >= 1 and int(lengths.max()) <= waveform.shape[1]):
        raise InputError(f"lengths ({lengths.tolist()}) must be from 1 to the {waveform.shape[1]} samples of the batch")
    # what lies beyond a row's end may be anything, NaN too
    return waveform.where(_before(lengths, waveform.shape[1], waveform), 0)


def _before(lengths: Tensor, count: int, like: Tensor) -> Tensor:
    """True [B,count] where a place lies before its row's length."""
    return torch.arange(count, device=like.device) < lengths.to(like.device)[:, None]


def _log(power: Tensor) -> Tensor:
    """Logarithm with the floor in place of exact zeros only; its gradient is that of a power held above the floor."""
    held = power.clamp(min=_FLOOR).log()
    with torch.no_grad():
        below = power.where(power != 0, _FLOOR).log() - held
    return held + below


@cache
def _triangles(dtype: torch.dtype, device: torch.device) -> Tensor:
    """The weight in each band of the squared real and imaginary part of each bin [257 x 2, 26], over the DFT's length.

    Edges are equally far apart in 2595 log10(1 + f / 700) from 0 to 8000 Hz, and cut to whole bins.
    """
    highest = 2595 * np.log10(1 + SAMPLE_RATE / 2 / 700)
    hertz = 700 * (10 ** (np.linspace(0, highest, BANDS + 2) / 2595) - 1)
    edges = np.floor((_FFT + 1) * hertz / SAMPLE_RATE)
    lower, centre, upper = edges[:-2], edges[1:-1], edges[2:]
    bins = np.arange(_FFT // 2 + 1)[:, None]
    rising, falling = (bins - lower) / (centre - lower), (upper - bins) / (upper - centre)
    weights = np.maximum(0, np.minimum(rising, falling)) / _FFT
    with torch.inference_mode(False):  # it is kept, and may later be needed for gradients
        return torch.tensor(weights.repeat(2, axis=0), dtype=dtype, device=device)
