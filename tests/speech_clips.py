"""Small speech data for tests: mouths of noise and silence, as the stage `preprocess@speech` leaves them."""

import hashlib
import tarfile
from collections.abc import Callable, Mapping, Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np

from avs.core.clips import write_table
from avs.core.media import wav
from avs.core.shards import add_member, write_shards
from avs.core.speech import Word
from avs.core.store import write_array, write_json, write_json_lines
from avs.lips.cache import FEATURES
from avs.lips.media import SpeechClip, film
from avs.lips.published import INDEX, META
from avs.lips.visual_frontend import DIM


def clip_of(key: str, frames: int, **fields: Any) -> SpeechClip:
    base = {"dataset_name": "grid", "split": "train", "video": f"{key}.mp4", "start": 0.0, "end": 0.0}
    media = hashlib.sha256(key.encode()).hexdigest()
    rest = {"key": key, "transcript": "", "speaker": "", "sha256": "", "frames": frames, "media": media}
    return SpeechClip(**base | rest | fields)


def silence(clip: SpeechClip) -> np.ndarray:
    return np.zeros(640 * clip.frames, np.int16)


def hiss(clip: SpeechClip) -> np.ndarray:
    """A sound of its own for each clip, at an amplitude of about 0.05."""
    return (1600 * np.random.default_rng(ord(clip.key[0])).standard_normal(640 * clip.frames)).astype(np.int16)


def write_speech(folder: Path, lengths: Mapping[str, int]) -> Path:
    """Silent clips of those names and lengths."""
    return write_clips(folder, [clip_of(key, frames) for key, frames in lengths.items()])


def write_clips(
    folder: Path,
    clips: Sequence[SpeechClip],
    words: Sequence[Word] = (),
    sound: Callable[[SpeechClip], np.ndarray] = silence,
) -> Path:
    """Those clips, with pictures of noise."""

    def append(tar: tarfile.TarFile, shard: str, clip: SpeechClip) -> SpeechClip:
        start = tar.offset
        pictures = np.random.default_rng(ord(clip.key[0])).integers(0, 256, (clip.frames, 96, 96), dtype=np.uint8)
        add_member(tar, f"{clip.key}/lips.mkv", film(pictures))
        add_member(tar, f"{clip.key}/audio.wav", wav(sound(clip)))
        return replace(clip, shard=shard, offset=start)

    write_table(folder / "index.tsv", write_shards(clips, folder, append), SpeechClip)
    write_table(folder / "words.tsv", words, Word)
    return folder


def write_muse(folder: Path, clips: Sequence[SpeechClip]) -> Path:
    """Features of noise for those clips, as the stage `muse_precompute` leaves them."""
    starts = np.cumsum([0, *(clip.frames for clip in clips)])
    rows = [
        {"clip": clip.key, "media": clip.media, "first": int(first), "num_frames": clip.frames}
        for clip, first in zip(clips, starts, strict=False)
    ]
    write_array(folder / FEATURES, np.random.default_rng(0).standard_normal((starts[-1], DIM)).astype(np.float32))
    write_json_lines(folder / INDEX, rows)
    write_json(folder / META, {"frames": int(starts[-1])})
    return folder
