"""Time, disk and memory of a whole run before it starts, from a short calibration on this machine.

Each part is timed by the code that the stages run, on a few clips, and multiplied. DVC's own time is left out.
"""

from __future__ import annotations

import resource
import statistics
import subprocess
import sys
import time
from collections import Counter
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass, replace
from functools import partial
from pathlib import Path
from tempfile import TemporaryDirectory

import numpy as np
import torch

from avs.audio.eventness import EventnessParams
from avs.audio.features import NUM_FEATURES, basic_features
from avs.audio.supervised import Lesson, Supervised
from avs.calibration import Sample, best, decoding_pace, make_sample, new_peak, peak, timed
from avs.config import Config
from avs.core.clips import Clip, locate, read_table
from avs.core.errors import InputError
from avs.core.media import RATE, Media, jpeg, unjpeg, wav
from avs.core.stats import paired_bootstrap
from avs.core.store import ItemStore, own_root, sha256_file
from avs.datasets import open_dataset
from avs.datasets.annotations import Annotation
from avs.localization.arms import ARMS, propose_all
from avs.localization.p0 import CONTRASTS, DIAGNOSED, EXPLANATORY, TESTED
from avs.localization.train import Inputs, P0Params, train_and_predict
from avs.preprocess import media_key
from avs.report.costs import StageCost
from avs.standardize import standardized
from avs.vision.encoder import Encoder, load_encoder

_STEPS = 3  # training steps an epoch, in calibration
_LEARNERS = 400  # training clips at most, in calibration
_FLOAT = 4  # bytes
_STUDY_BYTES = 4 + 4  # that the study holds at once for a feature: itself and its table


@dataclass(frozen=True)
class Workload:
    """What there is to do: rows with a clip each, and how many videos, videos that are not here yet, distinct clips
    of videos, and clips in the store already they come to."""

    rows: list[Annotation]
    videos: int
    absent: int
    clips: int
    stored: int

    @property
    def seconds(self) -> int:
        return self.rows[0].seconds


def estimate(config: Config) -> list[StageCost]:
    """Predict every stage for the parameters in use. Raises InputError where its data set cannot be listed."""
    start, base = _start()
    dataset = open_dataset(config.dataset, config.data)
    folder = dataset.folder()
    rows = [row for row in dataset.annotations() if row.used]
    if not rows:
        raise InputError(f"the data set {config.dataset!r} has no row")
    names = list(dict.fromkeys(row.video for row in rows))
    there = [name for name in names if locate(folder, name).is_file()]
    clips = len({(row.video, row.clip_start) for row in rows})
    work = Workload(rows, len(names), len(names) - len(there), clips, _stored(rows))
    with TemporaryDirectory(prefix="avs-estimate-") as place, own_root(Path(place)):
        sample = make_sample(config, folder, there, work.seconds)
        stages = [
            _install(config, work, sample),
            _preprocess(config, work, sample),
            _eventness(config, work, sample.media),
            *_encoding(config, work, sample.media),
        ]
    stages = [replace(stage, memory=stage.memory + base) for stage in stages]
    return [*stages, StageCost("starting them", start * len(stages), 0, base)]


def _install(config: Config, work: Workload, sample: Sample) -> StageCost:
    size = statistics.mean(path.stat().st_size for path in sample.videos)
    hashing = work.videos * statistics.mean(best(partial(sha256_file, path)) for path in sample.videos)
    if config.dataset == "demo":
        return StageCost("install@clips", hashing + sample.making.seconds(work.absent), int(size * work.absent), 0)
    note = f"{work.absent} of {work.videos} videos are not there; fetching them is not counted" if work.absent else ""
    return StageCost("install@clips", hashing, 0, 0, note)


def _preprocess(config: Config, work: Workload, sample: Sample) -> StageCost:
    pace = decoding_pace(sample, work.seconds, config.execution)
    todo = max(0, work.clips - work.stored)
    size = statistics.mean(sum(map(len, [wav(one.audio), *map(jpeg, one.frames)])) for one in sample.media)
    note = f"{1000 * pace.each:.0f} ms a clip"
    note += f"; {work.stored} of {work.clips} clips are in the store" if work.stored else ""
    return StageCost("preprocess@clips", pace.seconds(todo), int(size * (len(work.rows) + todo)), 0, note)


def _stored(rows: list[Annotation]) -> int:
    """How many clips are decoded already, where install has run for these rows."""
    try:
        clips = read_table(Path("data/install/clips/clips.tsv"), Clip)
    except InputError:
        return 0
    if {clip.video for clip in clips} - {row.video for row in rows}:
        return 0
    keys = list(dict.fromkeys(media_key(clip) for clip in clips))
    return len(keys) - len(ItemStore("media").missing(keys))


def _eventness(config: Config, work: Workload, media: list[Media]) -> StageCost:
    p, workers = config.eventness, config.execution.num_workers()
    waveforms = [one.audio[None].astype(np.float32) / 32768 for one in media]
    backend = p.backend().on(config.execution.device_names()[0])

    def score(waveform: np.ndarray) -> None:
        backend.describe(waveform, work.seconds)
        basic_features(waveform, num_seconds=work.seconds)

    before = new_peak()
    first = timed(partial(score, waveforms[0]))  # the first one loads the model
    shared = waveforms * workers
    with ThreadPoolExecutor(workers) as pool:
        each = best(lambda: list(pool.map(score, shared))) / len(shared)
    seconds = max(0, first - each) + each * len(work.rows)
    note = f"{1000 * each:.1f} ms a clip"
    if isinstance(backend, Supervised):
        learning = _learning_seconds(backend, p, work)
        seconds, note = seconds + learning, f"{note}, {learning:.1f} s to learn"
    size = 2 * _FLOAT * (1 + NUM_FEATURES) * work.seconds * len(work.rows)
    return StageCost("eventness", seconds, size, peak() - before, note)


def _learning_seconds(backend: Supervised, p: EventnessParams, work: Workload) -> float:
    """All lessons, each from all training clips but those of its own fold, and one from all of them."""
    rows = [row for row in work.rows if row.split == "train"]
    clips = [Clip(str(n), "train", r.label, r.start, r.end, r.seconds, "", "") for n, r in enumerate(rows[:_LEARNERS])]
    if not clips:
        return 0.0
    columns = backend.describe(np.zeros((1, RATE), np.float32), 1).shape[-1] or NUM_FEATURES
    x = np.random.default_rng(0).random((len(clips), work.seconds, columns), np.float32)
    lesson = [Lesson(np.arange(len(clips)), np.arange(1))]
    once, thrice = (best(partial(backend.learn, x, clips, lesson, epochs=epochs)) for epochs in (1, 3))
    epoch = max(thrice - once, 1e-6) / 2 / len(clips)
    return epoch * len(rows) * p.folds * (p.epochs or backend.recipe.epochs)


def _encoding(config: Config, work: Workload, media: list[Media]) -> list[StageCost]:
    """The stages that depend on the encoder: `cache`, and those on what it gives."""
    before = new_peak()
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
        peak() - before + 2 * size,
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
        return best(lambda: list(pool.map(encode, range(workers)))) / (size * workers)


def _anchor_eval(config: Config, work: Workload) -> StageCost:
    seconds = _propose_seconds(config, work) * len(work.rows)
    return StageCost("anchor_eval", seconds, 200 * len(work.rows), 0)


def _p0(config: Config, work: Workload, dim: int) -> StageCost:
    p = config.p0
    splits = Counter(row.split for row in work.rows)
    judged = sum(splits[name] for name in p.eval_splits)
    columns = dim + 1 + NUM_FEATURES
    before = new_peak()
    models = len(ARMS) + 3 * len(p.curve)
    step = models * _step_seconds(p, work, dim, config.execution.device_names()[0])
    memory = peak() - before
    # judging a batch is a forward pass, about a third of a step
    seconds = step * (p.epochs * -(-splits["train"] // p.batch_size) + judged / p.batch_size / 3)
    table = len(config.budget.resolutions) * len(work.rows) * work.seconds * columns
    seconds += _standardize_seconds(p, columns) * table
    seconds += sum(_bootstrap_seconds(p, splits[name]) for name in p.eval_splits)
    seconds += _propose_seconds(config, work) * len(work.rows) * (models + 3 * p.seeds)
    disk = judged * len(ARMS) * p.seeds * 2 * (3 * work.seconds + 10)
    note = f"{1000 * step:.0f} ms a training step of {models} arms and {p.seeds} seeds"
    return StageCost("p0", seconds, disk, memory + _STUDY_BYTES * table, note)


def _step_seconds(p: P0Params, work: Workload, dim: int, device: str) -> float:
    """Seconds of a step of one arm, from as many as are trained at the same time on a CPU."""
    classes = 1 + len({row.label for row in work.rows})
    arms = torch.get_num_threads()
    clips, seconds = _STEPS * p.batch_size, work.seconds
    rng = np.random.default_rng(0)
    inputs = Inputs(
        features=torch.from_numpy(rng.normal(size=(3, clips, seconds, dim)).astype(np.float32)),
        beside=torch.zeros(clips, seconds, 1 + NUM_FEATURES),
        mask=torch.ones(arms, 1 + NUM_FEATURES),
        plan=torch.from_numpy(rng.integers(0, 3, (arms, p.seeds, clips, seconds))),
        targets=torch.from_numpy(rng.integers(0, classes, (clips, seconds))),
        classes=classes,
    )
    places = np.arange(clips)

    def train(epochs: int) -> None:
        train_and_predict(inputs, places, places[:1], replace(p, epochs=epochs), device)

    train(1)
    return max(best(lambda: train(3)) - best(lambda: train(1)), 1e-6) / (2 * _STEPS * arms)


def _bootstrap_seconds(p: P0Params, clips: int) -> float:
    """All contrasts, the interval of each arm in the plot, and those of some ten groups in each diagnosis."""
    scores = np.random.default_rng(0).random((2, p.seeds, max(clips, 2)))
    once = best(lambda: paired_bootstrap(*scores, resamples=p.resamples))
    contrasts = len(CONTRASTS) + len(EXPLANATORY) + 10 * len(DIAGNOSED)
    return once * (contrasts * len(TESTED) + len(ARMS))


def _standardize_seconds(p: P0Params, columns: int) -> float:
    """Seconds for one number of the feature tables: reading and laying them out, and standardising if asked for."""
    table = np.random.default_rng(0).random((3, 40, 10, columns), np.float32)
    copying = best(table.copy)
    return (2 * copying + (best(lambda: standardized(table, np.arange(30))) if p.standardize else 0)) / table.size


def _propose_seconds(config: Config, work: Workload) -> float:
    """Seconds to choose the anchors of a clip, which laying out a plan takes too, about."""
    scores = np.random.default_rng(0).random((50, work.seconds))
    return best(lambda: propose_all(scores, 0.0, k=config.k, p=config.anchors)) / len(scores)


def _start() -> tuple[float, int]:
    """What a stage takes to start, in seconds and bytes: the imports of a fresh process."""
    command = [sys.executable, "-c", "import avs.config"]
    seconds = timed(lambda: subprocess.run(command, cwd=Path(__file__).parents[1], check=True))
    return seconds, peak(resource.RUSAGE_CHILDREN)
