"""Small videos of every kind for tests of the speech study: what they show says when it is shown."""

from __future__ import annotations

from fractions import Fraction
from pathlib import Path

import av
import numpy as np


def tone(seconds: float, rate: int, pitch: float = 440) -> np.ndarray:
    """int16 [S]."""
    return np.rint(8000 * np.sin(2 * np.pi * pitch * np.arange(round(seconds * rate)) / rate)).astype(np.int16)


def write_video(
    path: Path,
    frames: int,
    fps: Fraction | int = 25,
    *,
    size: int = 96,
    sound: float | None = 3.0,
    rate: int = 16000,
    delay: float = 0.0,
) -> None:
    """Lossless video whose picture n is of grey 2n, and PCM sound of `sound` seconds that begins at `delay`."""
    with av.open(str(path), "w", format="matroska") as container:
        video = container.add_stream("ffv1", rate=Fraction(fps))
        video.pix_fmt, video.width, video.height = "gray", size, size
        audio = container.add_stream("pcm_s16le", rate=rate, layout="mono") if sound is not None else None
        for number in range(frames):
            picture = av.VideoFrame.from_ndarray(np.full((size, size), 2 * number, np.uint8), format="gray")
            picture.pts, picture.time_base = number, 1 / Fraction(fps)
            container.mux(video.encode(picture))
        container.mux(video.encode(None))
        samples = tone(sound or 0, rate)
        for start in range(0, len(samples) if audio else 0, 400):
            block = av.AudioFrame.from_ndarray(samples[None, start : start + 400], format="s16", layout="mono")
            block.sample_rate, block.pts = rate, start + round(delay * rate)
            block.time_base = Fraction(1, rate)
            container.mux(audio.encode(block))
