"""Long videos with many events: which seconds a budget looks at, and how many events the anchors meet."""

from __future__ import annotations

import math
import sys
from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np

from avs.audio.backend import Backend
from avs.core.errors import InputError
from avs.core.execute import progress
from avs.core.media import RATE, MediaError, jpeg, read_media, read_sound
from avs.core.store import atomic
from avs.sampling.anchors import require_non_negative, select_anchors

DELTAS = (0, 1, 2)
_BLOCK = 60  # seconds scored at a time


@dataclass(frozen=True)
class LongClip:
    """The scores of each second [S] of a video, and its events, [start, end) seconds."""

    name: str
    scores: np.ndarray
    events: Sequence[tuple[float, float]]


def read_long(
    folder: Path, videos: Mapping[str, str], events: Mapping[str, Sequence[tuple[float, float]]], backend: Backend
) -> Iterator[LongClip]:
    """The scored videos that have events, one at a time; paths below `folder` and events by the video's name.

    One whose sound cannot be read is named on stderr and left out.
    """
    for name in progress(sorted(videos.keys() & events.keys()), "long videos"):
        try:
            sound = read_sound(folder / videos[name])
        except MediaError as error:
            print(f"{videos[name]}: {error}", file=sys.stderr)
        else:
            yield LongClip(name, score_sound(sound, backend), events[name])


def score_sound(samples: np.ndarray, backend: Backend) -> np.ndarray:
    """Eventness of every whole second of int16 [S * 16000]: [S], in blocks of a minute that share a second.

    A backend that hears beyond the second before (a window of more than 2 s, a memory) hears silence there at the
    beginning of each block.
    """
    scores = []
    for begin in range(0, len(samples) // RATE, _BLOCK):
        lead = min(begin, 1)
        block = samples[(begin - lead) * RATE : (begin + _BLOCK) * RATE].astype(np.float32) / 32768
        scores.append(backend(block[None], num_seconds=len(block) // RATE)[0, lead:])
    return np.concatenate(scores) if scores else np.zeros(0, np.float32)


def select_seconds(
    scores: Sequence[float] | np.ndarray, anchors: Sequence[int], *, budget: int, radius: int = 2, stride: int = 5
) -> list[int]:
    """At most `budget` distinct seconds of a long video, in time order: what to look at when not all can be.

    First come the seconds within `radius` of an anchor, the best anchor's first and the nearest of each first;
    then every `stride`-th second, thinned evenly where they are too many; then the rest by score. So a small
    budget keeps the best anchors and covers the whole video. (The published rule took windows and strides in
    time order, and with a small budget saw the beginning only.)
    """
    require_non_negative(budget=budget, radius=radius)
    if stride < 1:
        raise InputError(f"stride ({stride}) must be >= 1")
    num_seconds = len(scores)
    near = [a + sign * d for a in anchors for d in range(radius + 1) for sign in ((1, -1) if d else (1,))]
    chosen = list(dict.fromkeys(second for second in near if 0 <= second < num_seconds))[:budget]
    background = [second for second in range(0, num_seconds, stride) if second not in set(chosen)]
    chosen += _thinned(background, budget - len(chosen))
    rest = sorted(set(range(num_seconds)) - set(chosen), key=lambda second: (-float(scores[second]), second))
    return sorted(chosen + rest[: budget - len(chosen)])


def choose_seconds(
    scores: np.ndarray, *, k: int, budget: int, radius: int = 2, stride: int = 5, nms_radius: int = 2
) -> tuple[list[int], list[int]]:
    """The k anchors (nms) of a long video, and the `budget` seconds chosen about them."""
    anchors = select_anchors(scores, k=k, select="nms", nms_radius=nms_radius)
    return anchors, select_seconds(scores, anchors, budget=budget, radius=radius, stride=stride)


def _thinned(seconds: Sequence[int], room: int) -> list[int]:
    if len(seconds) <= room:
        return list(seconds)
    return [seconds[(2 * place + 1) * len(seconds) // (2 * room)] for place in range(room)]


def frames_at(path: Path, seconds: Sequence[int]) -> Iterator[np.ndarray]:
    """The frames shown at t + 0.5 s of ascending seconds of a video; each run of them is read at once."""
    for run in np.split(np.asarray(seconds, int), np.flatnonzero(np.diff(seconds) != 1) + 1):
        yield from read_media(path, len(run), start=float(run[0])).frames if len(run) else []


def write_frames(path: Path, seconds: Sequence[int], out: Path) -> None:
    """Write those frames as `out/<second>.jpg`."""
    for second, frame in zip(seconds, frames_at(path, seconds), strict=True):
        with atomic(out / f"{second}.jpg") as file:
            file.write(jpeg(frame))


def recall_of_seconds(
    events: Sequence[tuple[float, float]], seconds: Iterable[int], *, num_seconds: int, delta: int = 0
) -> float:
    """Share of the events that have one of `seconds` within `delta` seconds of a second that they overlap."""
    chosen = np.zeros(num_seconds, bool)
    chosen[list(seconds)] = True
    reached = [chosen[low:high].any() for low, high in _reach(events, num_seconds, delta)]
    return float(np.mean(reached)) if reached else 0.0


def chance_recall(events: Sequence[tuple[float, float]], count: int, *, num_seconds: int, delta: int = 0) -> float:
    """What `recall_of_seconds` is expected to be for `count` distinct seconds drawn uniformly."""
    total = math.comb(num_seconds, count)
    missed = [math.comb(num_seconds - (high - low), count) / total for low, high in _reach(events, num_seconds, delta)]
    return 1 - float(np.mean(missed)) if missed else 0.0


def _reach(events: Sequence[tuple[float, float]], num_seconds: int, delta: int) -> list[tuple[int, int]]:
    """The seconds [low, high) that reach each event which is at least partly in the video and not empty."""
    inside = [(start, min(end, num_seconds)) for start, end in events if start < min(end, num_seconds)]
    return [(max(int(start) - delta, 0), min(math.ceil(end) + delta, num_seconds)) for start, end in inside]


def evaluate_long(
    clips: Iterable[LongClip], *, k: int, budget: int, radius: int = 2, stride: int = 5, nms_radius: int = 2
) -> dict[str, Any]:
    """Recall of events by k anchors (nms), and by the `budget` seconds chosen about them, beside chance: means.

    Chance draws as many seconds as were used. Videos without an event are left out; InputError where none is left.
    """
    rows: list[dict[str, dict[str, float]]] = []
    for clip in clips:
        if _reach(clip.events, len(clip.scores), 0):
            anchors, looked = choose_seconds(
                clip.scores, k=k, budget=budget, radius=radius, stride=stride, nms_radius=nms_radius
            )
            rows.append(_recalls(clip, "anchors", anchors) | _recalls(clip, "selected", looked))
    if not rows:
        raise InputError("none of the long videos has an event")
    means = {name: {d: float(np.mean([row[name][d] for row in rows])) for d in rows[0][name]} for name in rows[0]}
    return {"videos": len(rows)} | means


def _recalls(clip: LongClip, name: str, seconds: Sequence[int]) -> dict[str, dict[str, float]]:
    size = len(clip.scores)
    ours = {f"recall_d{d}": recall_of_seconds(clip.events, seconds, num_seconds=size, delta=d) for d in DELTAS}
    chance = {f"recall_d{d}": chance_recall(clip.events, len(seconds), num_seconds=size, delta=d) for d in DELTAS}
    return {name: ours, f"{name}_by_chance": chance}
