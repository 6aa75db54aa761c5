"""Sound → eventness and features of every second, and recall of the anchors beside its controls: against a loop.

The loop does what the published code does, clip by clip and second by second. Both sides read the sound, from what
each would have: shards, and a folder of WAV files.
"""

from __future__ import annotations

import itertools
import math
import os
from collections.abc import Callable, Sequence
from concurrent.futures import ThreadPoolExecutor
from functools import partial
from pathlib import Path
from typing import Any

import numpy as np
import soundfile
import torch

from avs.audio.eventness import EventnessParams
from avs.audio.features import CLIPS_AT_ONCE, basic_features
from avs.audio.scoring import score_clips
from avs.core.clips import SPLITS, Clip, read_table
from avs.core.execute import ExecutionParams
from avs.core.media import RATE
from avs.localization.anchor_eval import DELTAS, evaluate_anchors
from avs.preprocess import MediaClip, MediaShards
from avs.sampling.anchors import AnchorParams
from benchmarks.speed.ave_size import CLIPS, SECONDS, write_media
from benchmarks.speed.limits import best
from benchmarks.speed.step import Clock, Found, Limit, Step

K, SPACED = 2, 3
KINDS = ("anchors", "random", "random_spaced", "constant", "best")
_TOLERANCE = 1e-6  # of a score, a feature and a recall
_SOME = 64  # clips that parts are timed on
_ROWS = 80  # seconds a call of the transform, of which its start-up no longer shows
_HERTZ = np.fft.rfftfreq(RATE, 1 / RATE)
_BANDS = ((0, 250), (250, 1000), (1000, 4000), (4000, RATE))


def prepare(folder: Path, clips: int = CLIPS) -> None:
    """The shards that preprocess leaves, and the same sound as a folder of WAV files."""
    write_media(folder / "media", clips)
    shards = MediaShards(folder / "media")
    (folder / "wav").mkdir()
    for clip in shards.clips:
        (folder / f"wav/{clip.key}.wav").write_bytes(shards.files(clip)["audio.wav"])


def ours(folder: Path, clock: Clock) -> Found:
    """What the two stages do, from an empty store; the transform's library is loaded before."""
    os.environ["AVS_STORE"] = str(folder / f"store-{os.getpid()}")
    out, execution = folder / f"ours-{os.getpid()}", ExecutionParams()
    basic_features(np.zeros((1, RATE), np.float32), num_seconds=1)
    with clock:
        counts = score_clips(folder / "media", out, EventnessParams(), execution)
        metrics, _ = evaluate_anchors(out, k=K, anchors=AnchorParams(), splits=SPLITS)
    assert counts["computed"] == counts["clips"], counts
    return _found(out, _by_split(metrics)) | _parts(folder / "media", execution.num_workers())


def _by_split(metrics: dict[str, Any]) -> dict[str, Any]:
    """The recall figures alone, the first split's beside the others'."""
    splits = {SPLITS[0]: metrics} | metrics["splits"]
    return {split: {kind: row[kind] for kind in KINDS} for split, row in splits.items()}


def _found(out: Path, metrics: dict[str, Any]) -> Found:
    """The recall figures, and where the arrays are: too large to be told."""
    return {"metrics": metrics, "out": str(out), "clips": len(np.load(out / "scores.npy"))}


def _parts(media: Path, workers: int) -> Found:
    """Seconds on all cores: of what can't be done without, which is to read the sound and to transform it, and of
    describing sound that has been read. All but the reading is scaled up from some clips."""
    shards = MediaShards(media)
    some = shards.clips[:_SOME]
    groups = [some[start : start + CLIPS_AT_ONCE] for start in range(0, len(some), CLIPS_AT_ONCE)]
    waveforms = [np.stack([shards.waveform(clip) for clip in group]) for group in groups]
    seconds = torch.from_numpy(waveforms[0][0, :RATE].astype(np.float64)).repeat(_ROWS, 1)
    share = len(shards.clips) / len(some)

    def spread(work: Callable[[Any], object], items: Sequence[Any]) -> float:
        return best(lambda: list(pool.map(work, items)))

    with ThreadPoolExecutor(workers, initializer=torch.set_num_threads, initargs=(1,)) as pool:
        transforms = len(some) * SECONDS // _ROWS
        return {
            "reading": spread(partial(_copied, media), shards.clips),
            "transforms": share * spread(lambda _: torch.fft.rfft(seconds), range(transforms)),
            "describing": share * spread(partial(basic_features, num_seconds=SECONDS), waveforms),
        }


def _copied(media: Path, clip: MediaClip) -> int:
    with (media / clip.shard).open("rb", buffering=0) as file:
        file.seek(clip.offset)
        return len(file.read(2 * RATE * SECONDS))


def alternative(folder: Path, clock: Clock) -> Found:
    out = folder / f"loop-{os.getpid()}"
    out.mkdir()
    with clock:
        clips = read_table(folder / "media/index.tsv", MediaClip)
        sounds = (soundfile.read(folder / f"wav/{clip.key}.wav")[0] for clip in clips)
        features = np.array([describe(sound) for sound in sounds], dtype=np.float32)
        scores = features[:, :, 0]
        np.save(out / "scores.npy", scores)
        np.save(out / "features.npy", features)
        metrics = {}
        for split in SPLITS:
            chosen = [(clip, row) for clip, row in zip(clips, scores, strict=True) if clip.split == split]
            metrics[split] = evaluate([clip for clip, _ in chosen], [top(row, K) for _, row in chosen])
    sounds = [soundfile.read(folder / f"wav/{clip.key}.wav")[0] for clip in clips[:_SOME]]
    describing = best(lambda: [describe(sound) for sound in sounds]) * len(clips) / len(sounds)
    return _found(out, metrics) | {"describing": describing}


def describe(sound: np.ndarray) -> list[list[float]]:
    """The ten features of each second of a clip."""
    rows: list[list[float]] = []
    for t in range(SECONDS):
        rows.append(describe_second(sound[t * RATE : (t + 1) * RATE], rows[-1][0] if rows else None))
    return rows


def describe_second(x: np.ndarray, loudness_before: float | None) -> list[float]:
    loudness = math.log(np.mean(x**2) + 1e-12)
    change = 0.0 if loudness_before is None else abs(loudness - loudness_before)
    crossings = np.mean(x[1:] * x[:-1] < 0)
    power = np.abs(np.fft.rfft(x)) ** 2
    power[0] = 0
    running = np.cumsum(power)
    centroid = np.sum(_HERTZ * power) / max(running[-1], 1e-12) / (RATE / 2)
    rolloff = _HERTZ[np.searchsorted(running, 0.85 * running[-1])] / (RATE / 2)
    bands = [math.log(np.sum(power[low:high]) + 1e-12) for low, high in _BANDS]  # a bin is 1 Hz wide
    return [loudness, change, np.std(x), crossings, centroid, rolloff, *bands]


def top(scores: np.ndarray, k: int) -> list[int]:
    return np.argsort(-scores, kind="stable")[:k].tolist()


def evaluate(clips: Sequence[Clip], anchors: Sequence[Sequence[int]]) -> dict[str, Any]:
    """Recall of the anchors, and of all pairs of seconds: their mean, their best for all clips and for each."""
    pairs = list(itertools.combinations(range(SECONDS), K))
    spaced = [place for place, (a, b) in enumerate(pairs) if b - a >= SPACED]
    table: dict[str, Any] = {kind: {} for kind in KINDS}
    events = [set(np.flatnonzero(clip.event()).tolist()) for clip in clips]
    judges = {f"recall_d{delta}": (recall, delta) for delta in DELTAS} | {"precision_d0": (precision, 0)}
    for name, (judge, delta) in judges.items():
        table["anchors"][name] = np.mean([judge(e, a, delta) for e, a in zip(events, anchors, strict=True)])
        every = np.array([[judge(event, pair, delta) for pair in pairs] for event in events])
        table["random"][name], table["random_spaced"][name] = every.mean(), every[:, spaced].mean()
        table["constant"][name], table["best"][name] = every.mean(axis=0).max(), every.max(axis=1).mean()
    return {kind: {name: float(value) for name, value in row.items()} for kind, row in table.items()}


def recall(event: set[int], anchors: Sequence[int], delta: int) -> float:
    reached = {anchor + step for anchor in anchors for step in range(-delta, delta + 1)}
    return len(event & reached) / len(event)


def precision(event: set[int], anchors: Sequence[int], delta: int) -> float:
    return sum(anchor in event for anchor in anchors) / len(anchors)


def check(ours: Found, alternative: Found) -> Found:
    arrays = [
        [np.load(Path(side["out"]) / name) for side in (ours, alternative)] for name in ("scores.npy", "features.npy")
    ]
    apart = [float(np.abs(a - b).max()) for a, b in arrays]
    figures = [
        abs(ours["metrics"][split][kind][name] - value)
        for split, table in alternative["metrics"].items()
        for kind, row in table.items()
        for name, value in row.items()
    ]
    assert max(*apart, *figures) < _TOLERANCE, (apart, max(figures))
    return {
        "clips": ours["clips"],
        "largest_difference": {"score": apart[0], "feature": apart[1], "recall": max(figures)},
        "ratio_without_reading": round(alternative["describing"] / ours["describing"], 2),
    }


def limit(ours: Found, alternative: Found) -> Limit:
    least = ours["reading"] + ours["transforms"]
    return Limit(
        alternative["seconds"] / least,
        f"{ours['reading']:.2f} s to copy {ours['clips']} x 320 kB of sound out of the page cache, and "
        f"{ours['transforms']:.2f} s for {SECONDS * ours['clips']} transforms of {RATE} samples in double precision",
    )


STEP = Step(
    what=f"eventness (energy, and ten features of every second) of {CLIPS} generated clips of {SECONDS} s from media "
    "shards that the page cache holds, item store empty; then anchor_eval (k = 2) of all three splits",
    alternative_is="a loop over clips and their seconds in one process, as the published code does: soundfile, numpy, "
    "numpy.fft; anchors by argsort; controls from the recall of all 45 pairs of seconds, exact as ours",
    goal=20,
    prepare=prepare,
    ours=ours,
    alternative=alternative,
    check=check,
    limit=limit,
)
