"""Ten plain features of each second of sound."""

from __future__ import annotations

from itertools import pairwise

import numpy as np

from avs.core.errors import InputError

VERSION = 1  # raised whenever the features change, because they are kept per clip
FLOOR = 1e-12
NUM_FEATURES = 10
_ROLLOFF = 0.85
_BAND_EDGES_HZ = (250.0, 1000.0, 4000.0)


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
    padded = np.pad(cut, ((0, 0), (0, wanted - cut.shape[1])))
    return padded.reshape(len(padded), num_seconds, sample_rate)


def log_energy(seconds: np.ndarray) -> np.ndarray:
    """ln(mean(x^2) + 1e-12) over the last axis, in nats: float64, -27.63 for digital silence."""
    return np.log(np.mean(np.square(seconds, dtype=np.float64), axis=-1) + FLOOR)


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
    for row, clip in zip(features, seconds, strict=True):  # one clip's spectra fit the processor's cache
        row[:] = _clip_features(clip.astype(np.float64), sample_rate)
    return features


def _clip_features(seconds: np.ndarray, sample_rate: int) -> np.ndarray:
    energy = log_energy(seconds)
    time_domain = (energy, absolute_change(energy), seconds.std(axis=-1), _zero_crossing_rate(seconds))
    return np.stack([*time_domain, *_spectral_features(seconds, sample_rate)], axis=-1)


def _zero_crossing_rate(seconds: np.ndarray) -> np.ndarray:
    return np.mean(seconds[:, 1:] * seconds[:, :-1] < 0, axis=-1)


def _spectral_features(seconds: np.ndarray, sample_rate: int) -> list[np.ndarray]:
    power = np.square(np.abs(np.fft.rfft(seconds, axis=-1)))
    power[:, 0] = 0.0
    hertz = np.fft.rfftfreq(sample_rate, 1.0 / sample_rate)
    nyquist = sample_rate / 2.0
    cumulative = np.cumsum(power, axis=-1)
    total = cumulative[:, -1]
    # A matrix product would let the number of threads change the last bits.
    centroid = (power * hertz).sum(axis=-1) / (np.maximum(total, FLOOR) * nyquist)
    rolloff = hertz[np.argmax(cumulative >= _ROLLOFF * total[:, None], axis=-1)] / nyquist
    edges = [0, *np.searchsorted(hertz, _BAND_EDGES_HZ), len(hertz)]
    bands = [power[:, low:high].sum(axis=-1) for low, high in pairwise(edges)]
    return [centroid, rolloff, *(np.log(band + FLOOR) for band in bands)]
