"""One clip added to those of AVE that are done: `dvc repro` through `cache`."""

from __future__ import annotations

import io
import json
import time
from collections.abc import Iterable
from fractions import Fraction
from pathlib import Path

import av
import numpy as np
from PIL import Image

from avs.core.media import RATE
from benchmarks.speed import ave_size, clone
from benchmarks.speed.step import Clock, Found, Step

CLIPS = ave_size.CLIPS
STAGES = ("install@clips", "preprocess@clips", "eventness", "cache")
_PARAMS = {
    "dataset": "local",
    "data.local.annotations": "rows.tsv",
    "data.local.videos": "mine",
    "budget.low_res": 32,
    "budget.base_res": 64,
    "budget.high_res": 128,
    "cache.weights": "random",
}
_COLUMNS = "video\tlabel\tstart\tend\tsplit"
_PICTURES = 160


def prepare(folder: Path, clips: int = CLIPS) -> None:
    """A clone with so many clips, brought through `cache` from an empty store, which is the alternative's time."""
    place = folder / "clone"
    clone.make(place, **_PARAMS)
    (place / "mine").mkdir()
    (place / "rows.tsv").write_text(_COLUMNS + "\n")
    add(place, range(clips))
    started = time.perf_counter()
    clone.run(place, "dvc", "repro", "cache")
    (folder / "full.json").write_text(json.dumps({"seconds": time.perf_counter() - started}))


def add(place: Path, numbers: Iterable[int]) -> None:
    """Clips of ten seconds at one picture a second (quick to decode), each with another choice of pictures."""
    draw = np.random.default_rng(0)
    loudness = 300 * np.repeat(draw.uniform(0, 1, 10), RATE)
    sound = (loudness * draw.uniform(-1, 1, 10 * RATE)).astype(np.int16)
    coarse = draw.integers(0, 256, (_PICTURES, 24, 40, 3), dtype=np.uint8)
    pictures = [_small_jpeg(np.kron(picture, np.ones((15, 16, 1), np.uint8))) for picture in coarse]
    for number in numbers:
        chosen = np.random.default_rng(number).integers(_PICTURES, size=10)
        _mux(place / f"mine/{number}.mkv", [pictures[picture] for picture in chosen], sound)
        with (place / "rows.tsv").open("a") as file:
            file.write(f"{number}.mkv\tclass {number % 28}\t1\t4\t{('train', 'val', 'test')[number % 3]}\n")


def _small_jpeg(picture: np.ndarray) -> bytes:
    file = io.BytesIO()
    Image.fromarray(picture).save(file, "JPEG", quality=30)
    return file.getvalue()


def _mux(path: Path, pictures: list[bytes], sound: np.ndarray) -> None:
    """Motion JPEG and FLAC; pictures are packets as they are."""
    with av.open(str(path), "w", format="matroska", options={"fflags": "+bitexact"}) as container:
        video = container.add_stream("mjpeg", rate=1)
        video.width, video.height, video.pix_fmt = 640, 360, "yuvj420p"
        audio = container.add_stream("flac", rate=RATE, layout="mono")
        for t, picture in enumerate(pictures):
            packet = av.Packet(picture)
            packet.stream, packet.time_base = video, Fraction(1)
            packet.pts = packet.dts = t
            packet.is_keyframe = True
            container.mux(packet)
            block = av.AudioFrame.from_ndarray(sound[None, t * RATE : (t + 1) * RATE], format="s16", layout="mono")
            block.sample_rate, block.pts, block.time_base = RATE, t * RATE, Fraction(1, RATE)
            container.mux(audio.encode(block))
        container.mux(audio.encode(None))
