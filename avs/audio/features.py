"""Features of each second of sound: ten plain ones, and the statistics of a log-mel filter bank."""

from __future__ import annotations

from itertools import pairwise

import numpy as np
import torch

from avs.audio.mel import mel_triangles
from avs.core.errors import InputError
from avs.core.execute import one_thread

VERSION = 2  # raised whenever the basic features change, because they are kept per clip (2: faster, last bits differ)
FBANK_VERSION = 1  # the same of the filter bank
FLOOR = 1e-12
NUM_FEATURES = 10
CLIPS_AT_ONCE = 2  # fewer would show each transform's start-up, more would not fit the cache of a core
_ROLLOFF = 0.85
_BLOCK = 128  # frequencies' powers that are summed at once
_BAND_EDGES_HZ = (250.0, 1000.0, 4000.0)
_MEL_BANDS, _LOWEST_HZ = 40, 20.0
_FRAMES_PER_SECOND, _WINDOW_SECONDS = 100, 0.025
_PREEMPHASIS, _MEL_FLOOR = 0.97, 2.0**-23


def split_seconds(waveforms: np.ndarray, *, sample_rate: int, num_seconds: int) -> np.ndarray:
    """Cut [N,S] floating-point samples to [N,T,sample_rate], with zeros where the sound ends early.

    Raises InputError where the array is not two-dimensional, not floating-point or not finite, or where
    sample_rate or num_seconds is below 1.
    """
    for name, value in (("sample_rate", sample_rate), ("num_seconds", num_seconds)):
        if value < 1:
            raise InputError(f"{name} ({value}) must be >= 1")
    waveforms = np.asarray(waveforms)
    if waveforms.ndim != 2 or waveforms.dtype.kind != "f":
        given = f"shape {waveforms.shape}, {waveforms.dtype}"
        raise InputError(f"waveforms ({given}) must be [clips, samples], floating-point in [-1, 1]")
    wanted = num_seconds * sample_rate
    cut = waveforms[:, :wanted]
    if not np.isfinite(cut).all():
        raise InputError(f"waveforms: clip {int(np.argmin(np.isfinite(cut).all(1)))} has NaN or infinite samples")
    if missing := wanted - cut.shape[1]:
        cut = np.pad(cut, ((0, 0), (0, missing)))
    return cut.reshape(len(cut), num_seconds, sample_rate)


def log_energy(seconds: np.ndarray) -> np.ndarray:
    """ln(mean(x^2) + 1e-12) over the last axis, in nats: float64, -27.63 for digital silence."""
    return np.log(mean_square(seconds) + FLOOR)


def mean_square(seconds: np.ndarray) -> np.ndarray:
    """mean(x^2) over the last axis, float64; of 16-bit samples exact, so that no order of summing changes it."""
    exact = seconds.astype(np.float64, copy=False)
    return np.einsum("...s,...s->...", exact, exact) / exact.shape[-1]


def absolute_change(values: np.ndarray) -> np.ndarray:
    """|v_t - v_(t-1)| along the last axis, 0 at t = 0."""
    return np.abs(np.diff(values, axis=-1, prepend=values[..., :1]))


def basic_features(waveforms: np.ndarray, *, sample_rate: int = 16000, num_seconds: int = 10) -> np.ndarray:
    """Describe every second of [N,S] samples in [-1, 1] by ten numbers: [N,T,10] float32.

    Columns: ln energy; its absolute change; standard deviation; zero-crossing rate; spectral centroid and
    85 % roll-off, both as a fraction of the Nyquist frequency; ln power in 0-250, 250-1000, 1000-4000 and
    4000-Nyquist Hz. Spectra are of the whole second, unwindowed, with the 0 Hz bin left out. A clip's result
    does not depend on the other clips. Errors: see `split_seconds`. Definitions: the published AVS code.
    """
    seconds = split_seconds(waveforms, sample_rate=sample_rate, num_seconds=num_seconds)
    features = np.empty((*seconds.shape[:2], NUM_FEATURES), dtype=np.float32)
    for start in range(0, len(seconds), CLIPS_AT_ONCE):
        chunk = slice(start, start + CLIPS_AT_ONCE)
        features[chunk] = np.stack(_columns(seconds[chunk], sample_rate), axis=-1)
    return features


def _columns(seconds: np.ndarray, sample_rate: int) -> list[np.ndarray]:
    """The ten features [n,T] of seconds [n,T,S]."""
    exact = seconds.astype(np.float64)
    energy, mean = mean_square(exact), exact.mean(axis=-1)
    loudness, spread = np.log(energy + FLOOR), np.sqrt(np.maximum(energy - mean**2, 0))
    exact -= mean[..., None]  # so that rounding what lies at 0 Hz leaves nothing at other frequencies
    time_domain = [loudness, absolute_change(loudness), spread, _zero_crossing_rate(seconds)]
    return time_domain + _spectral_features(exact, sample_rate)


def _zero_crossing_rate(seconds: np.ndarray) -> np.ndarray:
    above, below = seconds > 0, seconds < 0
    crossings = above[..., 1:] & below[..., :-1] | below[..., 1:] & above[..., :-1]
    return crossings.view(np.int8).sum(axis=-1, dtype=np.int32) / crossings.shape[-1]


def _spectral_features(seconds: np.ndarray, sample_rate: int) -> list[np.ndarray]:
    """Sums are taken of short blocks first, which bands and roll-off are then found in."""
    power, hertz = _power(seconds), np.fft.rfftfreq(sample_rate, 1.0 / sample_rate).repeat(2)
    nyquist, edges = sample_rate / 2.0, np.searchsorted(hertz, _BAND_EDGES_HZ)
    starts = np.union1d(np.arange(0, len(hertz), _BLOCK), edges)
    starts = starts[starts < len(hertz)]
    blocks = np.add.reduceat(power, starts, axis=-1)
    # A matrix product would let the number of threads change the last bits.
    centroid = np.einsum("ntf,f->nt", power, hertz) / (np.maximum(blocks.sum(axis=-1), FLOOR) * nyquist)
    rolloff = hertz[_reached(power, starts, blocks.cumsum(axis=-1), _ROLLOFF)] / nyquist
    ends = pairwise([0, *np.searchsorted(starts, edges), len(starts)])
    return [centroid, rolloff, *(np.log(blocks[..., low:high].sum(axis=-1) + FLOOR) for low, high in ends)]


@one_thread()
def _power(seconds: np.ndarray) -> np.ndarray:
    """[n,T,2F]: squares of real and imaginary part side by side, as two shares of a frequency's power; none at 0 Hz.

    By PyTorch, whose FFT on a CPU is the quickest of those at hand.
    """
    parts = torch.view_as_real(torch.fft.rfft(torch.from_numpy(seconds))).flatten(-2).numpy()
    parts[..., :2] = 0.0
    return np.square(parts, out=parts)


def _reached(power: np.ndarray, starts: np.ndarray, running: np.ndarray, share: float) -> np.ndarray:
    """The first place [n,T] where the running sum of power [n,T,F] is `share` of all; `running` knows it per block."""
    wanted = share * running[..., -1:]
    block = (running < wanted).sum(axis=-1, keepdims=True)
    before = np.take_along_axis(running, np.maximum(block - 1, 0), axis=-1) * (block > 0)
    places = np.minimum(starts[block] + np.arange(_BLOCK), power.shape[-1] - 1)
    inside = before + np.take_along_axis(power, places, axis=-1).cumsum(axis=-1)
    step = np.minimum((inside < wanted).sum(axis=-1, keepdims=True), _BLOCK - 1)
    return np.take_along_axis(places, step, axis=-1)[..., 0]


def fbank_features(waveforms: np.ndarray, *, sample_rate: int = 16000, num_seconds: int = 10) -> np.ndarray:
    """Mean, then standard deviation (of the population), of each of 40 log-mel bands in every second: [N,T,80] float32.

    The bands are those of `log_mel`; a frame belongs to the second that its middle lies in. Errors: see
    `split_seconds`, and InputError for a sample rate that is no multiple of 100. Source: the published AVS code.
    """
    seconds = split_seconds(waveforms, sample_rate=sample_rate, num_seconds=num_seconds)
    features = np.empty((*seconds.shape[:2], 2 * _MEL_BANDS), dtype=np.float32)
    for row, clip in zip(features, seconds, strict=True):
        frames = log_mel(clip.ravel(), sample_rate).reshape(num_seconds, _FRAMES_PER_SECOND, _MEL_BANDS)
        row[:] = np.concatenate([frames.mean(axis=1), frames.std(axis=1)], axis=-1)
    return features


def log_mel(sound: np.ndarray, sample_rate: int = 16000) -> np.ndarray:
    """Kaldi's log filter bank of a sound [S] in [-1, 1], without dither and energy: [S / rate * 100, 40] float64.

    Frame i is the 25 ms around (i + 1/2) * 10 ms, with the sound mirrored at both ends (`snip_edges=False`). Of each:
    x - mean(x); y_n = x_n - 0.97 x_(n-1), with x_(-1) = x_0; times (1/2 - 1/2 cos(2 pi n / (W - 1)))^0.85; the power
    spectrum over the next power of two; triangles linear in mel(f) = 1127 ln(1 + f / 700) from 20 Hz to Nyquist, whose
    own bin is left out; ln of the sum, at least 2^-23. Kaldi itself scales samples to 16 bit: 20.79 more, but for the
    floor. Raises InputError for a sample rate that is no multiple of 100.
    """
    if sample_rate % _FRAMES_PER_SECOND:
        raise InputError(f"sample_rate ({sample_rate}) must be a multiple of {_FRAMES_PER_SECOND} for the filter bank")
    window, shift = int(sample_rate * _WINDOW_SECONDS), sample_rate // _FRAMES_PER_SECOND
    before = window // 2 - shift // 2
    mirrored = np.pad(sound.astype(np.float64), (before, window), mode="symmetric")
    frames = np.lib.stride_tricks.sliding_window_view(mirrored, window)[::shift][: len(sound) // shift]
    frames = frames - frames.mean(axis=-1, keepdims=True)
    frames = frames - _PREEMPHASIS * np.concatenate([frames[:, :1], frames[:, :-1]], axis=-1)
    size = 1 << (window - 1).bit_length()
    power = np.square(np.abs(np.fft.rfft(frames * np.hanning(window) ** 0.85, size)[:, :-1]))
    triangles = mel_triangles(sample_rate, size, _MEL_BANDS, _LOWEST_HZ, sample_rate / 2)[:-1]
    # einsum, since a matrix product would let the number of threads change the last bits
    return np.log(np.maximum(np.einsum("fk,km->fm", power, triangles), _MEL_FLOOR))
