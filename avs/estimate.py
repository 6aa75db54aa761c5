"""Time, disk and memory of a whole run before it starts, from a short calibration on this machine.

Each part is timed by the code that the stages run, on a few clips, and multiplied. DVC's own time is left out.
"""

from __future__ import annotations

import resource
import statistics
import subprocess
import sys
import tempfile
import time
from collections import Counter
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import suppress
from dataclasses import dataclass, replace
from functools import partial
from pathlib import Path

import numpy as np
import torch

from avs.audio.eventness import EventnessParams
from avs.audio.features import NUM_FEATURES, basic_features
from avs.audio.supervised import Lesson, Supervised
from avs.config import Config
from avs.core.clips import Clip, locate, read_table
from avs.core.errors import InputError
from avs.core.media import RATE, Media, MediaError, jpeg, read_media, unjpeg, wav, write_media
from avs.core.stats import paired_bootstrap, standardized
from avs.core.store import ItemStore, sha256_file
from avs.datasets import open_dataset
from avs.datasets.annotations import Annotation
from avs.datasets.demo import render, scripts
from avs.localization.arms import ARMS, propose_all
from avs.localization.p0 import CONTRASTS, TESTED
from avs.localization.train import Inputs, P0Params, train_and_predict
from avs.preprocess import media_key
from avs.report.costs import StageCost
from avs.vision.encoder import Encoder, load_encoder

SAMPLES = 4  # clips that are measured
_STAND_IN = (640, 360, 30)  # width, height and rate of a common video, where no video is there yet
_STEPS = 3  # training steps an epoch, in calibration
_LEARNERS = 400  # training clips at most, in calibration
_PASSES, _PATIENCE = 5, 2.0  # at most so many passes, and no more once so many seconds are spent
_FLOAT = 4  # bytes
# Bytes that the study holds at once for a feature of 4: itself, its table, and standardising in double precision
_STUDY_BYTES = 4 + 4 + 8 + 8 + 4


@dataclass(frozen=True)
class Workload:
    """What there is to do; `sample` are videos to calibrate with, the data set's own or made for it."""

    rows: list[Annotation]
    videos: int
    absent: int
    sample: list[Path]

    @property
    def seconds(self) -> int:
        return self.rows[0].seconds


def estimate(config: Config) -> list[StageCost]:
    """Predict every stage for the parameters in use. Raises InputError where its data set cannot be listed."""
    with tempfile.TemporaryDirectory(prefix="avs-estimate-") as folder:
        start, base = _start()
        work, render_seconds = _workload(config, Path(folder))
        media, decoding = _decoded(work)
        stages = [
            _install(config, work, render_seconds),
            _preprocess(config, work, media, decoding),
            _eventness(config, work, media),
            *_encoding(config, work, media),
        ]
    stages = [replace(stage, memory=stage.memory + base) for stage in stages]
    return [*stages, StageCost("starting them", start * len(stages), 0, base)]


def _workload(config: Config, folder: Path) -> tuple[Workload, float]:
    """The work, and the seconds that making one video of the demo takes."""
    dataset = open_dataset(config.dataset, config.data)
    rows = dataset.annotations()
    names = list(dict.fromkeys(row.video for row in rows))
    there = [name for name in names if locate(dataset.folder(), name).is_file()]
    chosen = [dataset.folder() / name for name in there[:: max(1, len(there) // SAMPLES)][:SAMPLES]]
    made = 0.0
    if not chosen:
        started = time.perf_counter()
        chosen = list(_made_videos(config, rows[0].seconds, folder))
        made = (time.perf_counter() - started) / len(chosen)
    return Workload(rows, len(names), len(names) - len(there), chosen), made


def _made_videos(config: Config, seconds: int, folder: Path) -> Iterator[Path]:
    for number in range(SAMPLES):
        path = folder / f"{number}.mp4"
        if config.dataset == "demo":
            render(scripts(config.data.demo)[number], path)
        else:
            _write_stand_in(path, seconds, number)
        yield path


def _write_stand_in(path: Path, seconds: int, seed: int) -> None:
    """A moving gradient with some noise, and noise to hear."""
    width, height, rate = _STAND_IN
    rng = np.random.default_rng(seed)
    ramp = np.linspace(0, 200, width)[None, :, None] + rng.normal(0, 8, (height, width, 3))
    frames = (np.clip(np.roll(ramp, 3 * t, axis=1), 0, 255).astype(np.uint8) for t in range(rate * seconds))
    write_media(path, frames, rate, rng.integers(-3000, 3000, RATE * seconds, dtype=np.int16))


def _decoded(work: Workload) -> tuple[list[Media], float]:
    """The sample's media, and the seconds that preprocessing takes for one clip in one process."""
    media, times = [], []
    for path in work.sample:
        try:
            times.append(_best(partial(_preprocess_one, path, work.seconds)))
            media.append(read_media(path, work.seconds))
        except MediaError:
            continue
    if not media:
        names = ", ".join(path.name for path in work.sample)
        raise InputError(f"none of {names} can be read (see: python -m avs doctor)")
    return media, statistics.median(times)


def _preprocess_one(path: Path, seconds: int) -> None:
    sha256_file(path)
    _packed(read_media(path, seconds))


def _packed(media: Media) -> list[bytes]:
    return [wav(media.audio), *map(jpeg, media.frames)]


def _install(config: Config, work: Workload, render_seconds: float) -> StageCost:
    size = statistics.mean(path.stat().st_size for path in work.sample)
    hashing = statistics.mean(_best(partial(sha256_file, path)) for path in work.sample)
    if config.dataset == "demo":
        making = render_seconds * work.absent / config.execution.num_workers()
        return StageCost("install@clips", making + hashing * work.videos, int(size * work.absent), 0)
    note = f"{work.absent} of {work.videos} videos are not there; fetching them is not counted" if work.absent else ""
    return StageCost("install@clips", hashing * work.videos, 0, 0, note)


def _preprocess(config: Config, work: Workload, media: list[Media], decoding: float) -> StageCost:
    stored = _stored(work)
    todo = max(0, work.videos - stored)
    size = statistics.mean(sum(map(len, _packed(one))) for one in media)
    seconds = decoding * todo / config.execution.num_workers()
    note = f"{1000 * decoding:.0f} ms a clip in one process"
    note += f"; {stored} of {work.videos} videos are in the store" if stored else ""
    return StageCost("preprocess@clips", seconds, int(size * (len(work.rows) + todo)), 0, note)


def _stored(work: Workload) -> int:
    """How many videos are decoded already, where install has run for these rows."""
    try:
        clips = read_table(Path("data/install/clips/clips.tsv"), Clip)
    except InputError:
        return 0
    if {clip.video for clip in clips} - {row.video for row in work.rows}:
        return 0
    keys = list(dict.fromkeys(media_key(clip) for clip in clips))
    return len(keys) - len(ItemStore("media").missing(keys))


def _eventness(config: Config, work: Workload, media: list[Media]) -> StageCost:
    p, workers = config.eventness, config.execution.num_workers()
    waveforms = [one.audio[None].astype(np.float32) / 32768 for one in media]
    backend = p.backend().on(config.execution.device_names()[0])

    def score(waveform: np.ndarray) -> None:
        if isinstance(backend, Supervised):
            backend.describe(waveform, work.seconds)
        else:
            backend(waveform, num_seconds=work.seconds)
        basic_features(waveform, num_seconds=work.seconds)

    before = _new_peak()
    first = _timed(partial(score, waveforms[0]))  # the first one loads the model
    shared = waveforms * workers
    with ThreadPoolExecutor(workers) as pool:
        each = _best(lambda: list(pool.map(score, shared))) / len(shared)
    seconds = max(0, first - each) + each * len(work.rows)
    note = f"{1000 * each:.1f} ms a clip"
    if isinstance(backend, Supervised):
        learning = _learning_seconds(backend, p, work)
        seconds, note = seconds + learning, f"{note}, {learning:.1f} s to learn"
    size = 2 * _FLOAT * (1 + NUM_FEATURES) * work.seconds * len(work.rows)
    return StageCost("eventness", seconds, size, _peak() - before, note)


def _learning_seconds(backend: Supervised, p: EventnessParams, work: Workload) -> float:
    """All lessons, each from all training clips but those of its own fold, and one from all of them."""
    rows = [row for row in work.rows if row.split == "train"]
    clips = [Clip(str(n), "train", r.label, r.start, r.end, r.seconds, "", "") for n, r in enumerate(rows[:_LEARNERS])]
    if not clips:
        return 0.0
    columns = backend.describe(np.zeros((1, RATE), np.float32), 1).shape[-1] or NUM_FEATURES
    x = np.random.default_rng(0).random((len(clips), work.seconds, columns), np.float32)
    lesson = [Lesson(np.arange(len(clips)), np.arange(1))]
    once, thrice = (_best(partial(backend.learn, x, clips, lesson, epochs=epochs)) for epochs in (1, 3))
    epoch = max(thrice - once, 1e-6) / 2 / len(clips)
    return epoch * len(rows) * p.folds * (p.epochs or backend.recipe.epochs)


def _encoding(config: Config, work: Workload, media: list[Media]) -> list[StageCost]:
    """The stages that depend on the encoder: `cache`, and those on what it gives."""
    before = _new_peak()
    started = time.perf_counter()
    encoder = load_encoder(
        config.cache.encoder,
        weights=config.cache.weights,
        device=config.execution.device_names()[0],
        dtype=config.cache.dtype,
    )
    loading = time.perf_counter() - started
    jpegs = [jpeg(frame) for one in media for frame in one.frames]
    workers = config.execution.num_workers()
    each = {r: _encode_seconds(encoder, jpegs, r, workers) for r in config.budget.resolutions}
    frames, devices = work.seconds * len(work.rows), len(config.execution.device_names())
    shared = devices if encoder.device.type == "cuda" else 1  # the cores of a CPU are at work already
    size = _FLOAT * encoder.dim * frames
    note = ", ".join(f"{r} px {1000 * seconds:.1f} ms" for r, seconds in each.items())
    cache = StageCost(
        "cache",
        loading + frames * sum(each.values()) / shared,
        2 * len(each) * size,
        _peak() - before + 2 * size,
        f"a frame at {note} on {encoder.device.type}",
    )
    return [cache, _anchor_eval(config, work), _p0(config, work, encoder.dim)]


def _encode_seconds(encoder: Encoder, jpegs: list[bytes], resolution: int, workers: int) -> float:
    """Seconds a frame, with as many threads at work as the stage has."""
    size = encoder.batch_size(resolution)
    batch = (jpegs * (size // len(jpegs) + 1))[:size]

    def encode(_: int) -> None:
        encoder.embed(encoder.prepare([unjpeg(data) for data in batch], resolution))

    with ThreadPoolExecutor(workers, initializer=torch.set_num_threads, initargs=(1,)) as pool:
        return _best(lambda: list(pool.map(encode, range(workers)))) / (size * workers)


def _anchor_eval(config: Config, work: Workload) -> StageCost:
    seconds = _propose_seconds(config, work) * len(work.rows)
    return StageCost("anchor_eval", seconds, 200 * len(work.rows), 0)


def _p0(config: Config, work: Workload, dim: int) -> StageCost:
    p = config.p0
    splits = Counter(row.split for row in work.rows)
    judged = sum(splits[name] for name in p.eval_splits)
    columns = dim + 1 + NUM_FEATURES
    before = _new_peak()
    step = _step_seconds(p, work, columns, config.execution.device_names()[0])
    memory = _peak() - before
    # judging a batch is a forward pass, about a third of a step
    seconds = step * (p.epochs * -(-splits["train"] // p.batch_size) + judged / p.batch_size / 3)
    table = len(config.budget.resolutions) * len(work.rows) * work.seconds * columns
    seconds += _standardize_seconds(p, columns) * table
    seconds += sum(_bootstrap_seconds(p, splits[name]) for name in p.eval_splits)
    seconds += _propose_seconds(config, work) * len(work.rows) * (len(ARMS) + p.seeds)
    disk = judged * len(ARMS) * p.seeds * 2 * (3 * work.seconds + 10)
    note = f"{1000 * step:.0f} ms a training step of {len(ARMS)} arms and {p.seeds} seeds"
    return StageCost("p0", seconds, disk, memory + _STUDY_BYTES * table, note)


def _step_seconds(p: P0Params, work: Workload, columns: int, device: str) -> float:
    classes = 1 + len({row.label for row in work.rows})
    clips, seconds = _STEPS * p.batch_size, work.seconds
    rng = np.random.default_rng(0)
    inputs = Inputs(
        features=torch.from_numpy(rng.normal(size=(3, clips, seconds, columns)).astype(np.float32)),
        audio_mask=torch.ones(len(ARMS), 1 + NUM_FEATURES),
        plan=torch.from_numpy(rng.integers(0, 3, (len(ARMS), p.seeds, clips, seconds))),
        targets=torch.from_numpy(rng.integers(0, classes, (clips, seconds))),
        classes=classes,
    )
    places = np.arange(clips)

    def train(epochs: int) -> None:
        train_and_predict(inputs, places, places[:1], replace(p, epochs=epochs), device)

    train(1)
    return max(_best(lambda: train(3)) - _best(lambda: train(1)), 1e-6) / (2 * _STEPS)


def _bootstrap_seconds(p: P0Params, clips: int) -> float:
    """All contrasts, and the interval of each arm in the plot."""
    scores = np.random.default_rng(0).random((2, p.seeds, max(clips, 2)))
    once = _best(lambda: paired_bootstrap(*scores, resamples=p.resamples))
    return once * (len(CONTRASTS) * len(TESTED) + len(ARMS))


def _standardize_seconds(p: P0Params, columns: int) -> float:
    """Seconds for one number of the feature tables: reading and laying them out, and standardising if asked for."""
    table = np.random.default_rng(0).random((3, 40, 10, columns), np.float32)
    copying = _best(table.copy)
    return (2 * copying + (_best(lambda: standardized(table, np.arange(30))) if p.standardize else 0)) / table.size


def _propose_seconds(config: Config, work: Workload) -> float:
    """Seconds to choose the anchors of a clip, which laying out a plan takes too, about."""
    scores = np.random.default_rng(0).random((50, work.seconds))
    return _best(lambda: propose_all(scores, 0.0, k=config.k, p=config.anchors)) / len(scores)


def _best(function: Callable[[], object]) -> float:
    """Seconds of the least disturbed of some passes, one if they are long."""
    times = [_timed(function)]
    while len(times) < _PASSES and sum(times) < _PATIENCE:
        times.append(_timed(function))
    return min(times)


def _timed(function: Callable[[], object]) -> float:
    started = time.perf_counter()
    function()
    return time.perf_counter() - started


def _start() -> tuple[float, int]:
    """What a stage takes to start, in seconds and bytes: the imports of a fresh process."""
    command = [sys.executable, "-c", "import avs.config"]
    seconds = _timed(lambda: subprocess.run(command, cwd=Path(__file__).parents[1], check=True))
    return seconds, _peak(resource.RUSAGE_CHILDREN)


def _new_peak() -> int:
    """Start to measure peak memory anew, where the system can: bytes now. Elsewhere the peak is the earlier one's."""
    with suppress(OSError):
        Path("/proc/self/clear_refs").write_text("5")
    return _peak()


def _peak(who: int = resource.RUSAGE_SELF) -> int:
    """Peak resident memory so far, in bytes."""
    return resource.getrusage(who).ru_maxrss * (1 if sys.platform == "darwin" else 1024)
