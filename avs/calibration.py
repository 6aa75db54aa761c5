"""How fast this machine is: a few of the data set's videos, or some made for it, through the stages' own code."""

from __future__ import annotations

import resource
import sys
import time
from collections.abc import Callable, Sequence
from contextlib import suppress
from dataclasses import dataclass, replace
from functools import partial
from itertools import cycle, islice
from pathlib import Path

import numpy as np

from avs.config import Config
from avs.core.clips import Clip
from avs.core.errors import InputError
from avs.core.execute import ExecutionParams, map_items
from avs.core.media import RATE, Media, MediaError, read_media, write_media
from avs.core.store import ItemStore, item_key, raw_root, sha256_file
from avs.datasets import Dataset, open_dataset
from avs.preprocess import decode_into

VIDEOS = 4  # videos that are measured
_STAND_IN = (640, 360, 30)  # width, height and rate of a common video, where no video is there yet
_PASSES, _PATIENCE = 5, 2.0  # at most so many passes, and no more once so many seconds are spent


@dataclass(frozen=True)
class Pace:
    """Seconds that work takes to begin, and for each item after that, with all workers busy."""

    start: float = 0.0
    each: float = 0.0

    def seconds(self, count: int) -> float:
        return self.start + self.each * count if count else 0.0


@dataclass(frozen=True)
class Sample:
    """Videos below a folder, what they show and sound like, and how fast such are made (the demo only)."""

    folder: Path
    names: list[str]
    media: list[Media]
    making: Pace

    @property
    def videos(self) -> list[Path]:
        return [self.folder / name for name in self.names]


def make_sample(config: Config, folder: Path, there: Sequence[str], seconds: int) -> Sample:
    """Some of the videos that are `there` in a folder; else of the demo, or of a common kind, made for it.

    Raises InputError where none can be read.
    """
    making, names = Pace(), list(there[:: max(1, len(there) // VIDEOS)][:VIDEOS])
    if not there and config.dataset == "demo":
        making, folder = _make_demo(config)
        names = [path.name for path in sorted(folder.iterdir())[:VIDEOS]]
    elif not there:
        folder, names = raw_root(), ["stand-in.mp4"]
        _write_stand_in(folder / names[0], seconds)
    usable, media = [], []
    for name in names:
        with suppress(MediaError):
            media.append(read_media(folder / name, seconds))
            usable.append(name)
    if not media:
        raise InputError(f"none of {', '.join(names)} can be read (see: python -m avs doctor)")
    return Sample(folder, usable, media, making)


def decoding_pace(sample: Sample, seconds: int, execution: ExecutionParams) -> Pace:
    """How fast preprocessing decodes the sample's videos."""
    store = ItemStore("calibration")
    clips = [Clip("", "", "", 0, 0, seconds, name, sha256_file(sample.folder / name)) for name in sample.names]

    def decode(count: int) -> float:
        jobs = [(item_key(count=count, job=n), clip) for n, clip in enumerate(islice(cycle(clips), count))]
        work = partial(decode_into, sample.folder, store)
        return timed(lambda: map_items(work, jobs, execution, "calibration"))

    return _pace(decode, execution)


def _make_demo(config: Config) -> tuple[Pace, Path]:
    """How fast the demo's videos are made, and a folder of some."""

    def demo(count: int) -> Dataset:
        few = replace(config.data.demo, train=count, val=1, test=1)
        return open_dataset("demo", replace(config.data, demo=few))

    pace = _pace(lambda count: timed(lambda: demo(count).prepare(config.execution)), config.execution)
    return pace, demo(config.execution.num_workers()).folder()


def _pace(work: Callable[[int], float], execution: ExecutionParams) -> Pace:
    """From the seconds that few items take, and more."""
    few = execution.num_workers()
    first, second = work(few), work(3 * few)
    each = max(second - first, 0) / (2 * few)
    return Pace(max(first - few * each, 0), each)


def _write_stand_in(path: Path, seconds: int) -> None:
    """A moving gradient with some noise, and noise to hear."""
    width, height, rate = _STAND_IN
    rng = np.random.default_rng(0)
    ramp = np.linspace(0, 200, width)[None, :, None] + rng.normal(0, 8, (height, width, 3))
    frames = (np.clip(np.roll(ramp, 3 * t, axis=1), 0, 255).astype(np.uint8) for t in range(rate * seconds))
    write_media(path, frames, rate, rng.integers(-3000, 3000, RATE * seconds, dtype=np.int16))


def best(function: Callable[[], object]) -> float:
    """Seconds of the least disturbed of some passes, one if they are long."""
    times = [timed(function)]
    while len(times) < _PASSES and sum(times) < _PATIENCE:
        times.append(timed(function))
    return min(times)


def timed(function: Callable[[], object]) -> float:
    started = time.perf_counter()
    function()
    return time.perf_counter() - started


def new_peak() -> int:
    """Start to measure peak memory anew, where the system can: bytes now. Elsewhere the peak is the earlier one's."""
    with suppress(OSError):
        Path("/proc/self/clear_refs").write_text("5")
    return peak()


def peak(who: int = resource.RUSAGE_SELF) -> int:
    """Peak resident memory so far, in bytes."""
    return resource.getrusage(who).ru_maxrss * (1 if sys.platform == "darwin" else 1024)
