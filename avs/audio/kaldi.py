"""Kaldi's log-mel filter bank as the audio transformers take it: their spectrogram, window by window."""

from __future__ import annotations

from functools import cache

import torch
from torch import Tensor
from torch.nn import functional

from avs.audio.mel import mel_triangles

SAMPLE_RATE = 16000
WINDOW, HOP = 400, 160
_FFT = 512
_LOWEST_HZ = 20.0
_PREEMPHASIS = 0.97
_FLOOR = torch.finfo(torch.float32).eps

# AST and AudioMAE subtract the mean of AudioSet's filter banks and divide by twice their deviation.
_MEAN, _STD = -4.2677393, 4.5689974


def audioset_input(sounds: Tensor) -> Tensor:
    """Sound [B,S] at 16 kHz in [-1, 1] -> the normalised 128 bands [B,F,128] that AST and AudioMAE were trained on."""
    return normalised(log_mel(sounds))


def normalised(bands: Tensor) -> Tensor:
    return (bands - _MEAN) / (2 * _STD)


def log_mel(sounds: Tensor, bands: int = 128) -> Tensor:
    """Sound [B,S] at 16 kHz in [-1, 1] -> [B, 1 + (S - 400) // 160, bands]: natural logarithms of power.

    As torchaudio.compliance.kaldi.fbank(sound, htk_compat=True, sample_frequency=16000, use_energy=False,
    window_type="hanning", num_mel_bins=bands, dither=0.0): whole frames only, each without its mean, with
    0.97 of the sample before subtracted (of itself in the first), times a symmetric Hann window.
    """
    frames = sounds.unfold(-1, WINDOW, HOP)
    frames = frames - frames.mean(-1, keepdim=True)
    before = functional.pad(frames, (1, 0), mode="replicate")[..., :-1]
    frames = (frames - _PREEMPHASIS * before) * torch.hann_window(WINDOW, periodic=False, device=sounds.device)
    power = torch.fft.rfft(frames, _FFT).abs().square()
    return torch.log((power @ _triangles(bands).to(sounds.device)).clamp(min=_FLOOR))


@cache
def _triangles(bands: int) -> Tensor:
    return torch.from_numpy(mel_triangles(SAMPLE_RATE, _FFT, bands, _LOWEST_HZ, SAMPLE_RATE / 2))
