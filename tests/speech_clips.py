"""Small speech data for tests: mouth crops of noise, as the stage `preprocess@speech` leaves them."""

import hashlib
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import numpy as np
from avs.lips.media import SpeechClip

from avs.core.clips import write_table


def clip_of(key: str, frames: int, **fields: Any) -> SpeechClip:
    base = {"dataset_name": "grid", "split": "train", "video": f"{key}.mp4", "start": 0.0, "end": 0.0}
    media = hashlib.sha256(key.encode()).hexdigest()
    return SpeechClip(**base | {"key": key, "transcript": "", "frames": frames, "media": media} | fields)


def write_speech(folder: Path, lengths: Mapping[str, int], **fields: Any) -> Path:
    folder.mkdir(exist_ok=True)
    clips = [clip_of(key, frames, **fields) for key, frames in lengths.items()]
    for number, clip in enumerate(clips):
        pictures = np.random.default_rng(number).integers(0, 256, (clip.frames, 96, 96), dtype=np.uint8)
        np.save(folder / f"{clip.key}.npy", pictures)
    write_table(folder / "index.tsv", clips, SpeechClip)
    return folder
