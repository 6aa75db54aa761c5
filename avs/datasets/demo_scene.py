"""What a synthetic clip looks and sounds like: patterned discs on a noisy ground, each with its sound."""

from __future__ import annotations

from collections.abc import Callable, Iterator

import numpy as np
from PIL import Image

SIDE = 352
RATE = 16_000
_OVERSAMPLE = 3
_FADE = RATE // 100

Pattern = Callable[[np.ndarray, np.ndarray, float], np.ndarray]


def _wave(x: np.ndarray, cycles: float) -> np.ndarray:
    return np.sin(np.pi * cycles * x)


# Positive where the first of two colours shows; x and y are disc coordinates from -1 to 1, n cycles across the disc.
PATTERNS: dict[str, Pattern] = {
    "checker": lambda x, y, n: _wave(x, n) * _wave(y, n),
    "diagonal": lambda x, y, n: _wave((x + y) / np.sqrt(2), n),
    "dots": lambda x, y, n: np.cos(np.pi * n * x) + np.cos(np.pi * n * y) - 0.6,
    "grid": lambda x, y, n: 0.75 - np.maximum(np.cos(np.pi * n * x), np.cos(np.pi * n * y)),
    "halves": lambda x, y, n: np.where(x > 0, _wave(y, n), _wave(x, n)),
    "horizontal": lambda x, y, n: _wave(y, n),
    "layers": lambda x, y, n: np.where(y > 0, _wave(x, n), _wave(x, n) * _wave(y, n)),
    "spokes": lambda x, y, n: np.sin(8 * np.arctan2(y, x)),
    "vertical": lambda x, y, n: _wave(x, n),
    "zigzag": lambda x, y, n: _wave(y + 0.4 * abs(n * x % 2 - 1), n),
}
# Pitch in Hz, exponent of the decay of harmonics, rates in Hz at which loudness and pitch change.
VOICES: dict[str, tuple[float, float, float, float]] = {
    "checker": (220.0, 1.0, 0.0, 0.0),
    "diagonal": (440.0, 2.0, 0.0, 3.0),
    "dots": (880.0, 1.0, 12.0, 0.0),
    "grid": (1760.0, 3.0, 4.0, 0.0),
    "halves": (110.0, 0.5, 0.0, 0.0),
    "horizontal": (330.0, 1.5, 7.0, 0.0),
    "layers": (1320.0, 2.0, 0.0, 1.0),
    "spokes": (165.0, 0.7, 20.0, 0.0),
    "vertical": (2640.0, 3.0, 2.0, 2.0),
    "zigzag": (660.0, 3.0, 0.0, 6.0),
}


def ground(rng: np.random.Generator) -> np.ndarray:
    """A colour gradient under coarse and fine noise, float [SIDE,SIDE,3] in 0..255."""
    corners = Image.fromarray(rng.integers(70, 180, (2, 2, 3), dtype=np.uint8))
    blotches = Image.fromarray(rng.integers(0, 256, (24, 24), dtype=np.uint8))
    coarse = np.asarray(blotches.resize((SIDE, SIDE), Image.Resampling.BICUBIC), np.float64)[..., None] - 128
    fine = rng.normal(0, 4, (SIDE, SIDE, 1))
    return np.asarray(corners.resize((SIDE, SIDE), Image.Resampling.BICUBIC)) + 0.08 * coarse + fine


def colours(rng: np.random.Generator) -> np.ndarray:
    """A light and a dark colour of any hue in either order, float [2,3] in 0..255; no pattern has its own."""
    pair = np.stack([rng.uniform(175, 255, 3), rng.uniform(0, 80, 3)])
    return pair[rng.permutation(2)]


def disc(size: int, paint: np.ndarray, pattern: Pattern | None = None, cycles: float = 1) -> np.ndarray:
    """A disc of `size` pixels, RGBA float [size,size,4], alpha 0..1; plain without a pattern."""
    axis = (np.arange(size * _OVERSAMPLE) + 0.5) / (size * _OVERSAMPLE / 2) - 1
    x, y = axis[None, :], axis[:, None]
    inside = (x**2 + y**2 <= 1).astype(np.float64)
    first = inside if pattern is None else np.broadcast_to(pattern(x, y, cycles), inside.shape)
    picture = np.where(first[..., None] > 0, paint[0], paint[1])
    layers = np.concatenate([picture * inside[..., None], inside[..., None]], axis=-1)
    small = layers.reshape(size, _OVERSAMPLE, size, _OVERSAMPLE, 4).mean(axis=(1, 3))
    small[..., :3] /= np.maximum(small[..., 3:], 1e-9)
    return small


def paste(picture: np.ndarray, stamp: np.ndarray, centre: tuple[int, int]) -> None:
    """Lay an RGBA stamp over a float picture, in place, around a centre (x, y) that keeps it inside."""
    size = len(stamp)
    left, top = centre[0] - size // 2, centre[1] - size // 2
    part = picture[top : top + size, left : left + size]
    part += stamp[..., 3:] * (stamp[..., :3] - part)


def hiss(rng: np.random.Generator, seconds: float, level: float) -> np.ndarray:
    """White noise, float [S] in -1..1, of `level` dBFS."""
    return scaled(rng.standard_normal(round(seconds * RATE)), level)


def voice(label: str, seconds: float, level: float) -> np.ndarray:
    """The sound that goes with a pattern, float [S], of `level` dBFS (mean power), with soft ends."""
    pitch, decay, beat, vibrato = VOICES[label]
    time = np.arange(round(seconds * RATE)) / RATE
    phase = 2 * np.pi * pitch * time
    if vibrato:
        phase = phase + 0.05 * pitch / vibrato * np.sin(2 * np.pi * vibrato * time)
    tone = sum((np.sin(n * phase) / n**decay for n in _harmonics(pitch)), start=np.zeros_like(time))
    return scaled(faded(tone * (1 + 0.7 * np.sin(2 * np.pi * beat * time))), level)


def _harmonics(pitch: float) -> Iterator[int]:
    yield from range(1, min(8, int(0.4 * RATE / pitch)) + 1)


def rattle(rng: np.random.Generator, seconds: float, level: float) -> np.ndarray:
    """A sound that no pattern makes, noise in 30 strokes a second, float [S], of `level` dBFS."""
    samples = round(seconds * RATE)
    strokes = np.exp(-8 * (30 * np.arange(samples) / RATE % 1))
    return scaled(faded(rng.standard_normal(samples) * strokes), level)


def faded(sound: np.ndarray) -> np.ndarray:
    ramp = np.linspace(0, 1, _FADE)
    sound[:_FADE] *= ramp
    sound[-_FADE:] *= ramp[::-1]
    return sound


def scaled(sound: np.ndarray, level: float) -> np.ndarray:
    """The sound at a mean power of `level` dB relative to full scale 1."""
    return sound * (10 ** (level / 20) / np.sqrt(np.mean(sound**2)))
