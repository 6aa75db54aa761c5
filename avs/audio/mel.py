"""Triangular mel bands, as TensorFlow and Kaldi have them."""

from __future__ import annotations

import numpy as np


def mel_triangles(sample_rate: int, fft: int, bands: int, lowest_hz: float, highest_hz: float) -> np.ndarray:
    """The weight of each bin of a spectrum in each band: [1 + fft / 2, bands] float32.

    The bands' edges are equally far apart in mel(f) = 1127 ln(1 + f / 700), from lowest_hz to highest_hz, and the
    triangles are linear in mel, not in Hz.
    """
    spectrum = _mel(np.linspace(0.0, sample_rate / 2, fft // 2 + 1))[:, None]
    edges = np.linspace(_mel(lowest_hz), _mel(highest_hz), bands + 2)
    lower, centre, upper = edges[:-2], edges[1:-1], edges[2:]
    rising, falling = (spectrum - lower) / (centre - lower), (upper - spectrum) / (upper - centre)
    return np.maximum(0.0, np.minimum(rising, falling)).astype(np.float32)


def _mel(hertz: float | np.ndarray) -> np.ndarray:
    return 1127.0 * np.log1p(np.asarray(hertz) / 700.0)
