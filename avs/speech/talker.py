"""A synthetic talker: a voice of harmonics and noise, and a drawn mouth, both led by the same phones.

Nothing here is recorded. It serves to prove that sound, lips and words stay in step; no result on it says anything
about speech.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
from PIL import Image, ImageDraw

from avs.core.footage import FPS
from avs.core.media import RATE

SIDE = 96
_STEP = 80  # samples between the points of a track: 5 ms
_BLUR = 9  # points over which a track is averaged, as tongue and lips take time
_FINE = 3  # drawn at so many times the size
_WIDTHS = np.array([70.0, 100.0, 160.0])  # of the formants, Hz
_BANDS = {"s": (3500.0, 7500.0), "f": (1200.0, 6500.0)}  # of the noises, Hz


@dataclass(frozen=True)
class Phone:
    """seconds; formants in Hz; voice, s and f: levels 0..1 of the voice and the two noises; opened 0..1, spread -1..1
    and teeth 0..1 are of the mouth."""

    seconds: float
    formants: tuple[float, float, float]
    voice: float
    s: float = 0.0
    f: float = 0.0
    opened: float = 0.0
    spread: float = 0.0
    teeth: float = 0.0


# Formants of the vowels: Peterson & Barney 1952, men.
PHONES = {
    "a": Phone(0.16, (730, 1090, 2440), 1.0, opened=1.0),
    "e": Phone(0.15, (530, 1840, 2480), 0.9, opened=0.6, spread=0.4, teeth=0.5),
    "i": Phone(0.14, (270, 2290, 3010), 0.8, opened=0.3, spread=0.8, teeth=0.8),
    "o": Phone(0.16, (570, 840, 2410), 0.9, opened=0.65, spread=-0.6),
    "u": Phone(0.15, (300, 870, 2240), 0.8, opened=0.3, spread=-1.0),
    "b": Phone(0.08, (250, 900, 2200), 0.1, f=0.05),
    "m": Phone(0.09, (250, 1100, 2200), 0.35),
    "n": Phone(0.08, (250, 1700, 2600), 0.35, opened=0.2, teeth=0.6),
    "l": Phone(0.08, (360, 1300, 2700), 0.55, opened=0.35, teeth=0.3),
    "t": Phone(0.08, (400, 1800, 2600), 0.0, s=0.25, opened=0.15, teeth=0.8),
    "s": Phone(0.12, (400, 1800, 2600), 0.0, s=0.5, opened=0.12, spread=0.5, teeth=1.0),
    "f": Phone(0.11, (400, 1200, 2300), 0.0, f=0.3, opened=0.05, teeth=1.0),
    " ": Phone(0.10, (500, 1500, 2500), 0.0),
}


@dataclass(frozen=True)
class Speaker:
    """pitch in Hz; tract: factor of the formants; pace: of the durations; skin, lips: grey levels; size: of a mouth."""

    name: str
    pitch: float
    tract: float
    pace: float
    skin: float
    lips: float
    size: float


def speaker(name: str, rng: np.random.Generator) -> Speaker:
    """A person drawn at random; a high voice goes with a short vocal tract."""
    height = rng.uniform(0, 1)
    pitch, tract = 95 * 2.2**height * rng.uniform(0.95, 1.05), 0.92 + 0.28 * height
    skin = rng.uniform(110, 200)
    return Speaker(
        name, pitch, tract, rng.uniform(0.9, 1.1), skin, skin * rng.uniform(0.6, 0.75), rng.uniform(0.9, 1.1)
    )


@dataclass(frozen=True)
class Speech:
    """The phones of a sentence and how long each of them is, in seconds."""

    phones: Sequence[Phone]
    seconds: np.ndarray

    @property
    def frames(self) -> int:
        return int(np.ceil(self.seconds.sum() * FPS - 1e-6))

    def track(self, names: Sequence[str], times: np.ndarray) -> np.ndarray:
        """The named qualities side by side at `times`, smoothed; the last phone goes on to the end."""
        edges = np.cumsum(self.seconds)[:-1]
        fine = np.arange(-_BLUR, self.frames * RATE // FPS // _STEP + _BLUR) * (_STEP / RATE)
        values = np.array([np.hstack([getattr(phone, name) for name in names]) for phone in self.phones])
        steps = values[np.searchsorted(edges, fine, side="right")]
        kernel = np.ones(_BLUR) / _BLUR
        smooth = [np.convolve(column, kernel, mode="same") for column in steps.T]
        return np.stack([np.interp(times, fine, column) for column in smooth], axis=1)


def voice(speech: Speech, who: Speaker, rng: np.random.Generator) -> np.ndarray:
    """int16 [640 * T]: harmonics of a pitch that falls and trembles, under three formants, and noises of two kinds."""
    samples = speech.frames * RATE // FPS
    points = np.arange(0, samples + _STEP, _STEP) / RATE
    time = np.arange(samples) / RATE
    formants = speech.track(("formants",), points)
    pitch = who.pitch * (1.1 - 0.2 * points / points[-1]) * (1 + 0.015 * np.sin(2 * np.pi * 5 * points))
    level = speech.track(("voice", "s", "f"), points)
    phase = 2 * np.pi * np.cumsum(np.interp(time, points, pitch)) / RATE
    sound = np.zeros(samples)
    for number in range(1, int(0.45 * RATE / pitch.max()) + 1):
        loudness = level[:, 0] * _resonance(number * pitch, formants * who.tract) / number
        sound += np.interp(time, points, loudness) * np.sin(number * phase)
    for column, name in enumerate(_BANDS, 1):
        sound += 0.35 * np.interp(time, points, level[:, column]) * _noise(rng, samples, *_BANDS[name])
    sound += 1e-3 * rng.standard_normal(samples)
    return np.rint(sound / np.abs(sound).max() * 0.5 * 32767).astype(np.int16)


def _resonance(frequency: np.ndarray, formants: np.ndarray) -> np.ndarray:
    """How much of a frequency, [points], comes through formants [points,3]."""
    off = (frequency[:, None] - formants) / (_WIDTHS / 2)
    return ((1.0, 0.5, 0.25) / np.sqrt(1 + off**2)).sum(axis=1)


def _noise(rng: np.random.Generator, samples: int, low: float, high: float) -> np.ndarray:
    spectrum = np.fft.rfft(rng.standard_normal(samples))
    frequency = np.fft.rfftfreq(samples, 1 / RATE)
    return np.fft.irfft(np.where((low < frequency) & (frequency < high), spectrum, 0), samples)


def mouths(speech: Speech, who: Speaker, rng: np.random.Generator) -> np.ndarray:
    """RGB uint8 [T,96,96,3], all grey: the mouth at (n + 0.5) / 25 s, on a head that sways a little."""
    times = (np.arange(speech.frames) + 0.5) / FPS
    shapes = speech.track(("opened", "spread", "teeth"), times)
    slow = 2 * np.pi * (np.outer(times, rng.uniform(0.1, 0.4, 2)) + rng.uniform(0, 1, 2))
    centres = 48 + rng.uniform(-2, 2, 2) + 2 * np.sin(slow)
    skin = _skin(who, rng)
    grain = rng.normal(0, 1.5, (speech.frames, SIDE, SIDE))
    drawn = [np.asarray(_mouth(skin, who, *shape, *centre)) for shape, centre in zip(shapes, centres, strict=True)]
    pictures = np.clip(np.rint(np.stack(drawn) + grain), 0, 255).astype(np.uint8)
    return np.repeat(pictures[..., None], 3, axis=-1)


def _skin(who: Speaker, rng: np.random.Generator) -> Image.Image:
    blotches = Image.fromarray(rng.integers(-10, 11, (8, 8)).astype(np.float32) + np.float32(who.skin))
    return blotches.resize((SIDE * _FINE, SIDE * _FINE), Image.Resampling.BICUBIC)


def _mouth(
    skin: Image.Image, who: Speaker, opened: float, spread: float, teeth: float, x: float, y: float
) -> Image.Image:
    picture = skin.copy()
    draw = ImageDraw.Draw(picture)
    wide, high, lip = who.size * (21 + 6 * spread), who.size * 11 * opened, who.size * 5.5
    _ellipse(draw, x, y, wide, high + lip, who.lips)
    _ellipse(draw, x, y, 0.8 * wide, high + 0.6, 30)
    if teeth > 0.05:
        shown = min(high + 0.6, 3.5 * teeth)
        _ellipse(draw, x, y - high - 0.6 + shown, 0.6 * wide, shown, 30 + 190 * teeth)
    return picture.reduce(_FINE)


def _ellipse(draw: ImageDraw.ImageDraw, x: float, y: float, wide: float, high: float, tone: float) -> None:
    box = [_FINE * edge for edge in (x - wide, y - high, x + wide, y + high)]
    draw.ellipse(box, fill=tone)
