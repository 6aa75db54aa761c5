"""What the clip inspector shows: the frames and sound of the chosen clips as files, all else in a script of data."""

from __future__ import annotations

import io
import math
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np
from PIL import Image

from avs.core.store import atomic
from avs.localization.arms import ARMS
from avs.preprocess import MediaClip, MediaShards
from avs.report.results import Results, ordered
from avs.report.site import folder_name

QUALITY = 75  # of the frames, as JPEG
LARGEST = 448  # pixels: a frame is stored no larger, whatever the plans ask for


def write_clip_media(shards: MediaShards, clip: MediaClip, folder: Path, side: int) -> None:
    """Write `audio.wav` and `<t>.jpg`, squashed to squares as the encoder squashes them, of at most `side` pixels."""
    with atomic(folder / "audio.wav") as file:
        file.write(shards.files(clip)["audio.wav"])
    for second, frame in enumerate(shards.frames(clip)):
        with atomic(folder / f"{second}.jpg") as file:
            file.write(_squared(frame, min(side, LARGEST)))


def _squared(frame: np.ndarray, side: int) -> bytes:
    side = min(side, max(frame.shape[:2]))
    buffer = io.BytesIO()
    Image.fromarray(frame).resize((side, side), Image.Resampling.BICUBIC).save(buffer, "JPEG", quality=QUALITY)
    return buffer.getvalue()


def highest_resolution(rows: Sequence[Mapping[str, Any]]) -> int:
    """Of all plans of these clips."""
    return max((int(np.max(plan)) for row in rows for plan in row["plans"].values()), default=0)


def inspector_data(results: Results, rows: Sequence[Mapping[str, Any]], media: str) -> dict[str, Any]:
    """What the page's script reads: `media` is the address of the clips' folders, from the page."""
    clips = {clip.key: clip for clip in results.media.clips}
    return {
        "results": results.fingerprint,
        "media": media,
        "classes": results.classes,
        "arms": ordered(rows[0]["answers"], ARMS) if rows else [],
        "highest": highest_resolution(rows),
        "clips": [_clip(clips[row["clip"]], row) for row in rows],
    }


def _clip(clip: MediaClip, row: Mapping[str, Any]) -> dict[str, Any]:
    taken = ("split", "target", "anchors", "fallback", "plans", "answers")
    return {name: row[name] for name in taken} | {
        "key": clip.key,
        "folder": folder_name(clip.key),
        "label": clip.label,
        "start": clip.start,
        "end": clip.end,
        "seconds": clip.seconds,
        "flags": clip.flags,
        "event": np.flatnonzero(clip.event()).tolist(),
        "scores": [score if math.isfinite(score) else None for score in row["scores"]],
        "foreground": row["answers_foreground"],
    }
