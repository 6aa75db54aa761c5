"""Generated inputs with the shapes of AVE: 4143 ten-second clips, 28 classes, ViT-B/16 features. Contents are noise.

`clips` may be any number: growth is measured on 100, 1,000 and 10,000.
"""

from __future__ import annotations

import hashlib
import json
import tarfile
from dataclasses import replace
from pathlib import Path

import numpy as np

from avs.core.clips import Clip, Failed, write_table
from avs.core.media import RATE, jpeg, wav
from avs.core.shards import add_member, write_shards
from avs.core.store import write_array, write_json
from avs.preprocess import MediaClip

CLIPS, SECONDS, CLASSES, DIM = 4143, 10, 28, 768
RESOLUTIONS = (160, 224, 352)
_TRAIN, _VAL = 3339 / CLIPS, 402 / CLIPS
_DISTINCT = 16  # clips whose frames and sound differ; the others repeat them under digests of their own


def table(clips: int = CLIPS, seed: int = 0) -> list[Clip]:
    """AVE's shares of the splits (3339, 402, 402), one event of one to ten seconds a clip."""
    draw = np.random.default_rng(seed)
    splits = ["train", "val", "test"]
    bounds = np.array([_TRAIN, _TRAIN + _VAL]) * clips
    rows = []
    for number in range(clips):
        start = int(draw.integers(0, SECONDS))
        end = int(draw.integers(start + 1, SECONDS + 1))
        digest = hashlib.sha256(f"{seed}:{number}".encode()).hexdigest()
        split = splits[int(np.searchsorted(bounds, number + 0.5))]
        rows.append(
            Clip(
                key=f"{number}-clip{number:06d}",
                split=split,
                label=f"class {int(draw.integers(CLASSES)):02d}",
                start=start,
                end=end,
                seconds=SECONDS,
                video=f"clip{number:06d}.mp4",
                sha256=digest,
                media=digest,
            )
        )
    return rows


def write_media(out: Path, clips: int = CLIPS, size: tuple[int, int] = (640, 360)) -> None:
    """`data/media/clips` as preprocess leaves it: shards of frames (JPEG) and sound (10 s of PCM16 at 16 kHz)."""
    draw = np.random.default_rng(0)
    contents = [_content(draw, size) for _ in range(min(_DISTINCT, clips))]

    def append(tar: tarfile.TarFile, shard: str, clip: Clip) -> MediaClip:
        offset = tar.offset
        for name, content in contents[int(clip.video[4:10]) % len(contents)].items():
            add_member(tar, f"{clip.key}/{name}", content)
        return MediaClip(**vars(replace(clip)), shard=shard, offset=offset)

    write_table(out / "index.tsv", write_shards(table(clips), out, append), MediaClip)
    write_table(out / "failures.tsv", [], Failed)


def _content(draw: np.random.Generator, size: tuple[int, int]) -> dict[str, bytes]:
    """A clip's members: smooth pictures, about as large as frames of real video, and sound that rises and falls."""
    loudness = np.repeat(draw.uniform(0.01, 0.5, SECONDS), RATE)
    sound = (32767 * loudness * draw.uniform(-1, 1, SECONDS * RATE)).astype(np.int16)
    width, height = size
    coarse = draw.integers(0, 256, (SECONDS, height // 8, width // 8, 3), dtype=np.uint8)
    frames = [np.kron(frame, np.ones((8, 8, 1), np.uint8)) for frame in coarse]
    return {"audio.wav": wav(sound)} | {f"frames/{t}.jpg": jpeg(frame) for t, frame in enumerate(frames)}


def write_features(cache: Path, eventness: Path, clips: int = CLIPS, dim: int = DIM) -> None:
    """`data/cache` and `data/eventness` as their stages leave them, for p0 and anchor_eval.

    The class is told by the features, more so at high resolution, and an event by its sound, each with much noise.
    """
    rows, draw = table(clips), np.random.default_rng(1)
    event = np.stack([clip.event() for clip in rows])
    kinds = np.array([int(clip.label[6:]) for clip in rows])
    directions = draw.standard_normal((CLASSES, dim), np.float32)
    for resolution in RESOLUTIONS:
        noise = draw.standard_normal((clips, SECONDS, dim), np.float32)
        told = 0.08 * (resolution / RESOLUTIONS[0]) * event[..., None] * directions[kinds][:, None]
        write_array(cache / f"res_{resolution}.npy", (noise + told).astype(np.float32))
    write_array(cache / "motion.npy", draw.random((clips, SECONDS)))
    gflops = {str(resolution): 35.0 * (resolution / 224) ** 2 for resolution in RESOLUTIONS}
    write_json(cache / "meta.json", {"patch_size": 16, "gflops": gflops, "encoder": "generated"})
    write_array(eventness / "scores.npy", event + draw.standard_normal((clips, SECONDS)))
    write_array(eventness / "features.npy", draw.standard_normal((clips, SECONDS, 10)))
    for folder in (cache, eventness):
        write_table(folder / "index.tsv", rows, Clip)
    write_json(eventness / "meta.json", {"scale": {"std_threshold": 0.1}, "failed_clips": 0})


def data_digest(folder: Path) -> str:
    """Of all files in a folder, to tell two outputs apart."""
    files = sorted(path for path in folder.rglob("*") if path.is_file())
    return hashlib.sha256(json.dumps([hashlib.sha256(p.read_bytes()).hexdigest() for p in files]).encode()).hexdigest()
