"""The synthetic controlled experiment: patterned discs, each with its sound, in clips of noise.

With `effect: resolution` the discs are small: seen at any resolution, told apart only at the highest, so that
spending the visual budget where something sounds must pay. With `effect: none` they are so large that it cannot.
"""

from __future__ import annotations

import hashlib
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from typing import Literal

import numpy as np

from avs.core.errors import InputError
from avs.core.execute import ExecutionParams, Failure, map_items
from avs.core.media import write_media
from avs.core.params import params
from avs.core.store import item_key, raw_root
from avs.datasets import demo_scene as scene
from avs.datasets.annotations import Annotation

Span = tuple[float, float]
Place = tuple[int, int]
Effect = Literal["resolution", "none"]

VERSION = 5  # raise when the videos change
FPS = 8
LABELS = tuple(sorted(scene.PATTERNS))
SIZES: dict[str, tuple[int, int]] = {"resolution": (19, 23), "none": (150, 180)}  # disc width in pixels
CYCLES = {"resolution": 4.0, "none": 7.0}  # of a pattern across a disc
_MOTION = 3  # pixels a second, at most, from the place


@params
class DemoParams:
    """effect: whether identity needs resolution; train, val, test: clips of a split; seconds: of a clip."""

    effect: Effect = "resolution"
    train: int = 140
    val: int = 20
    test: int = 100
    seed: int = 0
    seconds: int = 10

    def __post_init__(self) -> None:
        for name in ("train", "val", "test"):
            if getattr(self, name) < 1:
                raise ValueError(f"{name} ({getattr(self, name)}) must be >= 1")
        if self.seconds < 8:
            raise ValueError(f"seconds ({self.seconds}) must be >= 8, to hold an event of 4 s and another sound of 2 s")
        if self.seed < 0:
            raise ValueError(f"seed ({self.seed}) must be >= 0")


@dataclass(frozen=True)
class ClipScript:
    """All that decides a clip. Times in seconds, sizes and places (x, y) in pixels, levels in dBFS.

    The labelled disc is seen and heard in `event` only, its pattern has `cycles` across it; a plain disc is seen
    in `plain_shown`, whatever the event; a louder sound of no class is heard in `other_sound`, if given.
    """

    video_id: str
    label: str
    split: str
    seconds: int
    event: tuple[int, int]
    size: int
    cycles: float
    place: Place
    level: float
    plain_size: int
    plain_place: Place
    plain_shown: tuple[int, int]
    other_sound: Span | None
    other_level: float
    seed: int


def scripts(p: DemoParams) -> list[ClipScript]:
    """The clips of the experiment, shuffled over splits and classes.

    Classes take turns within a split; a quarter of the clips has the other sound. A clip depends on the seed,
    its split and its number only, so a larger split keeps the clips of a smaller one.
    """
    clips = [
        _script(p, split, number)
        for split, count in (("train", p.train), ("val", p.val), ("test", p.test))
        for number in range(count)
    ]
    order = np.random.default_rng(p.seed).permutation(len(clips))
    return [clips[index] for index in order]


def _script(p: DemoParams, split: str, number: int) -> ClipScript:
    digest = hashlib.sha256(f"{p.effect} {p.seconds} {p.seed} {split} {number}".encode()).hexdigest()
    rng = np.random.default_rng(int(digest, 16))
    low, high = SIZES[p.effect]
    size, plain_size = (int(rng.integers(low, high + 1)) for _ in range(2))
    place, plain_place = _places(rng, size, plain_size)
    event = _event(rng, p.seconds)
    noisy = (number + number // len(LABELS)) % 4 == 0  # each class in turn
    level = rng.uniform(-24, -17)
    return ClipScript(
        video_id=digest[:11],
        label=LABELS[number % len(LABELS)],
        split=split,
        seconds=p.seconds,
        event=event,
        size=size,
        cycles=CYCLES[p.effect],
        place=place,
        level=level,
        plain_size=plain_size,
        plain_place=plain_place,
        plain_shown=_plain_shown(rng, p.seconds),
        other_sound=_other_sound(rng, event, p.seconds) if noisy else None,
        other_level=level + rng.uniform(3, 6),
        seed=int(digest[11:23], 16),
    )


def _event(rng: np.random.Generator, seconds: int) -> tuple[int, int]:
    length = int(rng.integers(2, 5))
    start = int(rng.integers(0, seconds - length + 1))
    return start, start + length


def _plain_shown(rng: np.random.Generator, seconds: int) -> tuple[int, int]:
    """The whole clip in half of the cases, else any part of 2 s or more."""
    if rng.random() < 0.5:
        return 0, seconds
    length = int(rng.integers(2, seconds))
    start = int(rng.integers(0, seconds - length + 1))
    return start, start + length


def _other_sound(rng: np.random.Generator, event: tuple[int, int], seconds: int) -> Span:
    """Two seconds and a bit, on the longer side of the event: they take both of two energy anchors."""
    low, high = max((0, event[0]), (event[1], seconds), key=lambda side: side[1] - side[0])
    start = int(rng.integers(low, high - 1))
    return start, min(start + rng.uniform(2, 2.25), high)


def _places(rng: np.random.Generator, size: int, plain_size: int) -> tuple[Place, Place]:
    """Two places whose discs neither overlap nor leave the frame as they move."""
    while True:
        place, plain = (_place(rng, width) for width in (size, plain_size))
        if np.hypot(place[0] - plain[0], place[1] - plain[1]) > (size + plain_size) / 2 + 4 * _MOTION:
            return place, plain


def _place(rng: np.random.Generator, width: int) -> Place:
    margin = width // 2 + _MOTION + 1
    x, y = rng.integers(margin, scene.SIDE - margin, 2)
    return int(x), int(y)


class Demo:
    """The experiment as a data set: its videos are made where they are missing, and stay in the raw folder."""

    def __init__(self, p: DemoParams) -> None:
        self._p = p

    def folder(self) -> Path:
        made_with = item_key(version=VERSION, **vars(self._p))
        return raw_root() / f"demo-{made_with[:12]}"

    def prepare(self, execution: ExecutionParams) -> None:
        self.folder().mkdir(parents=True, exist_ok=True)
        absent = [script for script in scripts(self._p) if not self._path(script).exists()]
        for result in map_items(partial(_make, self.folder()), absent, execution, "demo videos"):
            if isinstance(result, Failure):
                raise InputError(f"{self.folder()}: a demo video cannot be made: {result.reason}")

    def annotations(self, check: bool = True) -> list[Annotation]:
        numbered = enumerate(scripts(self._p))
        return [Annotation(self._path(s).name, s.label, *s.event, s.seconds, s.split, n) for n, s in numbered]

    def _path(self, script: ClipScript) -> Path:
        return self.folder() / f"{script.video_id}.mp4"


def _make(folder: Path, script: ClipScript) -> None:
    render(script, folder / f"{script.video_id}.mp4")


def render(script: ClipScript, path: Path) -> None:
    """Draw, synthesise and write a clip; the same script gives the same bytes."""
    pictures = _pictures(script)
    write_media(path, (picture for picture in pictures for _ in range(FPS)), FPS, _sound(script))


def _pictures(script: ClipScript) -> list[np.ndarray]:
    """One frame a second, uint8 [SIDE,SIDE,3]."""
    rng = np.random.default_rng((script.seed, 0))
    ground = scene.ground(rng)
    disc = scene.disc(script.size, scene.colours(rng), scene.PATTERNS[script.label], script.cycles)
    plain = scene.disc(script.plain_size, scene.colours(rng))
    steps = rng.integers(-_MOTION, _MOTION + 1, (script.seconds, 2, 2))
    pictures = []
    for second in range(script.seconds):
        picture = ground.copy()
        for stamp, place, shown, step in (
            (disc, script.place, script.event, steps[second, 0]),
            (plain, script.plain_place, script.plain_shown, steps[second, 1]),
        ):
            if shown[0] <= second < shown[1]:
                scene.paste(picture, stamp, (place[0] + step[0], place[1] + step[1]))
        pictures.append(np.clip(np.rint(picture), 0, 255).astype(np.uint8))
    return pictures


def _sound(script: ClipScript) -> np.ndarray:
    """int16 [seconds * 16000]: the event's sound and the other one over faint noise."""
    rng = np.random.default_rng((script.seed, 1))
    sound = scene.hiss(rng, script.seconds, rng.uniform(-60, -50))
    _add(sound, scene.voice(script.label, script.event[1] - script.event[0], script.level), script.event[0])
    if script.other_sound is not None:
        start, end = script.other_sound
        _add(sound, scene.rattle(rng, end - start, script.other_level), start)
    return np.rint(np.clip(sound, -1, 1) * 32767).astype(np.int16)


def _add(sound: np.ndarray, part: np.ndarray, start: float) -> None:
    at = round(start * scene.RATE)
    sound[at : at + len(part)] += part[: len(sound) - at]
