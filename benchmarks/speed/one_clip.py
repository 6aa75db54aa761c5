"""One clip added to those of AVE that are done: `dvc repro` of install, preprocess, eventness and cache."""

from __future__ import annotations

import io
import json
import os
import sys
import time
from collections.abc import Callable, Iterable, Sequence
from contextlib import chdir
from fractions import Fraction
from functools import lru_cache
from pathlib import Path
from typing import Any
from unittest.mock import patch

import av
import numpy as np
from PIL import Image

import stages.cache
import stages.eventness
from avs.config import load_config
from avs.core.clips import Clip, read_table
from avs.core.media import RATE, jpeg, wav
from avs.core.shards import packed
from avs.core.store import ItemStore
from avs.preprocess import media_key
from avs.vision.cache import encode_clips
from benchmarks.speed import ave_size, clone
from benchmarks.speed.step import Clock, Found, Limit, Step

CLIPS = ave_size.CLIPS
STAGES = ("install@clips", "preprocess@clips", "eventness", "cache")
_REPRO = ("dvc", "repro", "-q", "eventness", "cache")
_PARAMS = {
    "dataset": "local",
    "data.local.annotations": "rows.tsv",
    "data.local.videos": "mine",
    "cache.weights": "random",
}
_COLUMNS = "video\tlabel\tstart\tend\tsplit\n"
_SPLITS = ("train", "val", "test")
_PICTURES = 160  # that differ
_FEW, _MORE = 10, 40  # clips of the alternative's two runs


def prepare(folder: Path, clips: int = CLIPS) -> None:
    """A clone in which so many clips are done. Its store is filled with generated items, which the stages find."""
    place = folder / "clone"
    start(place)
    add(place, range(clips))
    clone.run(place, "dvc", "repro", "-q", "install@clips")
    fill_media(read_table(place / "data/install/clips/clips.tsv", Clip))
    clone.run(place, "dvc", "repro", "-q", "preprocess@clips")
    with chdir(place):
        with patch.object(ItemStore, "pack", _fill):
            stages.eventness.main(load_config())
        fill_cache()
    clone.run(place, *_REPRO)


def start(place: Path, **values: Any) -> None:
    """A clone whose data set is the user's own, without any clip yet."""
    clone.make(place, **_PARAMS, **values)
    (place / "mine").mkdir()
    (place / "rows.tsv").write_text(_COLUMNS)


def fill_media(clips: Iterable[Clip]) -> None:
    """Items of `preprocess` as large as AVE's, about 1.1 MB, each another choice of pictures."""
    store, pictures, sound = ItemStore("media"), [jpeg(picture) for picture in _pictures()], wav(_sound())
    for number, clip in enumerate(clips):
        frames = {f"frames/{t}.jpg": pictures[choice] for t, choice in enumerate(_choice(number))}
        store.save(media_key(clip), packed({"audio.wav": sound} | frames | {"flags": b""}))


def _fill(
    store: ItemStore, keys: list[str], compute: Callable[[list[int]], Iterable[tuple[int, np.ndarray]]]
) -> tuple[np.ndarray, int]:
    """In the place of `ItemStore.pack`: one item is computed, and all are like it."""
    [(_, one)] = compute([0])
    for key in keys:
        store.save_array(key, one)
    return np.broadcast_to(one, (len(keys), *one.shape)), len(keys)


def fill_cache() -> None:
    """The stage in this folder, which encodes the first clip; all others get the same."""

    def alike(media: Path, p: Any, device: str, wanted: Any, places: Sequence[int]) -> list[Any]:
        found = one(media, p, device, tuple(wanted))
        return [(place, what, array) for place in places for _, what, array in found]

    one = lru_cache(lambda media, p, device, wanted: encode_clips(media, p, device, wanted, [0]))
    with patch("avs.vision.cache.encode_clips", alike):
        stages.cache.main(load_config())


def add(place: Path, numbers: Iterable[int]) -> None:
    """Clips of ten seconds at one picture a second (quick to decode), each with another choice of pictures."""
    pictures, sound = [_small_jpeg(picture) for picture in _pictures()], _sound()
    for number in numbers:
        _mux(place / f"mine/{number}.mkv", [pictures[choice] for choice in _choice(number)], sound)
        with (place / "rows.tsv").open("a") as file:
            file.write(f"{number}.mkv\tclass {number % 28}\t1\t4\t{_SPLITS[number % 3]}\n")


def _choice(number: int) -> list[int]:
    return np.random.default_rng(number).integers(_PICTURES, size=10).tolist()


def _pictures() -> list[np.ndarray]:
    coarse = np.random.default_rng(0).integers(0, 256, (_PICTURES, 24, 40, 3), dtype=np.uint8)
    return [np.kron(picture, np.ones((15, 16, 1), np.uint8)) for picture in coarse]


def _sound() -> np.ndarray:
    draw = np.random.default_rng(0)
    loudness = 300 * np.repeat(draw.uniform(0, 1, 10), RATE)
    return (loudness * draw.uniform(-1, 1, 10 * RATE)).astype(np.int16)


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


def ours(folder: Path, clock: Clock) -> Found:
    """One more clip; then, for the limit, DVC with nothing to do, what the four stages import, and the clip alone."""
    place = folder / "clone"
    done = len((place / "rows.tsv").read_text().splitlines()) - 1
    add(place, [done])
    (place / "results/cost.json").unlink()
    with clock:
        clone.run(place, *_REPRO)
    cost = json.loads((place / "results/cost.json").read_text())
    idle, modules = _seconds(place, *_REPRO), [stage.partition("@")[0] for stage in STAGES]
    begun = sum(_seconds(place, sys.executable, "-c", f"import stages.{module}") for module in modules)
    return {"done": done, "cost": cost, "idle": idle, "start": begun, "clip": _of_the_clip(place, cost)}


def _of_the_clip(place: Path, cost: dict[str, Any]) -> float:
    """Seconds that the clip itself took in `cache`, which is nearly all: the stage again, with nothing to encode."""
    clone.run(place, sys.executable, "-m", "stages.cache")
    again = json.loads((place / "results/cost.json").read_text())["cache"]
    return round(cost["cache"]["seconds"] - again["seconds"], 2)


def alternative(folder: Path, clock: Clock) -> Found:
    few, more = (_from_nothing(folder, clips) for clips in (_FEW, _MORE))
    clock.seconds = more + (more - few) / (_MORE - _FEW) * (CLIPS + 1 - _MORE)
    return {"few": few, "more": more}


def _from_nothing(folder: Path, clips: int) -> float:
    """Seconds of a run of so many clips in a clone of its own, with an empty store."""
    place = folder / f"{clips}-{time.time_ns()}"
    start(place)
    add(place, range(clips))
    with patch.dict(os.environ, AVS_STORE=str(place / "store")):
        return _seconds(place, *_REPRO)


def _seconds(place: Path, *command: str) -> float:
    started = time.perf_counter()
    clone.run(place, *command)
    return round(time.perf_counter() - started, 3)


def check(ours: Found, alternative: Found) -> dict[str, Any]:
    """Each stage worked on the one new clip and told of all."""
    cost, clips = ours["cost"], ours["done"] + 1
    assert {stage: told["clips"] for stage, told in cost.items()} == dict.fromkeys(STAGES, clips), cost
    computed = {stage: cost[stage].get("computed") for stage in STAGES}
    assert computed == {"install@clips": None, "preprocess@clips": 1, "eventness": 1, "cache": 3}, computed
    peaks = {stage: told["peak_mib"]["process"] for stage, told in cost.items()}
    beyond = round(ours["seconds"] - ours["clip"], 2)
    return {
        "clips": clips,
        "beyond_that_clip": beyond,
        "computed": computed,
        "peak_mib": peaks,
        "alternative_runs": alternative,
    }


def limit(ours: Found, alternative: Found) -> Limit:
    least = ours["idle"] + ours["start"]
    why = (
        f"dvc repro with nothing to do takes {ours['idle']:.1f} s, and four stages that only import what they use "
        f"{ours['start']:.1f} s"
    )
    return Limit(alternative["seconds"] / least, why)


STEP = Step(
    what=f"one clip added to {CLIPS} that are done (4.6 GB of shards, items generated): dvc repro through eventness "
    "and cache; wanted: at most 10 s beyond that clip, one item a stage (in cache one a resolution)",
    alternative_is=f"all {CLIPS + 1} from an empty store by the same stages: reckoned from runs of {_FEW} and {_MORE} "
    "clips, linearly",
    goal=None,
    prepare=prepare,
    ours=ours,
    alternative=alternative,
    check=check,
    limit=limit,
    rounds=2,
)
