"""Sounds that stage `avsr_train` keeps for the report: what was heard of a clip, and what SEANet made of it.

`<digest of the clip's key>/<condition>/mixture.wav`, and `seanet.wav` beside it where SEANet takes part: 16 kHz mono
PCM16.
"""

from __future__ import annotations

import hashlib
import re
from pathlib import Path

import numpy as np

from avs.core.errors import InputError
from avs.core.media import wav
from avs.core.store import atomic

NAMES = ("mixture", "seanet")
_CONDITION = re.compile(r"[a-z0-9][a-z0-9_.+-]*")
_FULL = 32767


def write_voices(
    out: Path, clip_key: str, condition: str, mixture: np.ndarray, seanet: np.ndarray | None = None
) -> None:
    """Keep sounds, float [S] around [-1, 1]; the same sounds give the same bytes.

    SEANet's output has no level of its own: it is scaled to where it takes most from the mixture (least squares). A
    sound that is louder than a file can be is brought down whole. Raises InputError for what is no sound, and a
    condition that no file may be called by.
    """
    if not _CONDITION.fullmatch(condition):
        raise InputError(f"condition ({condition!r}) must be a word such as clean, snr_-5 or talker_0_same")
    sounds = {"mixture": mixture} | ({} if seanet is None else {"seanet": seanet})
    for name, sound in sounds.items():
        if sound.shape != (len(mixture),) or not np.isfinite(sound).all():
            raise InputError(f"clip {clip_key!r}, {condition}: {name} must be {len(mixture)} finite samples")
    if seanet is not None:
        sounds["seanet"] = _levelled(seanet.astype(np.float64), mixture.astype(np.float64))
    for name, sound in sounds.items():
        with atomic(_folder(out, clip_key) / condition / f"{name}.wav") as file:
            file.write(wav(_pcm(sound)))


def kept_voices(out: Path, clip_key: str) -> dict[str, dict[str, Path]]:
    """Condition → `mixture`, maybe `seanet` → file, of what was kept of a clip; nothing where nothing was."""
    folder = _folder(out, clip_key)
    conditions = sorted(path.name for path in folder.iterdir()) if folder.is_dir() else []
    files = {c: {name: folder / c / f"{name}.wav" for name in NAMES} for c in conditions}
    return {c: {name: path for name, path in those.items() if path.is_file()} for c, those in files.items()}


def _folder(out: Path, clip_key: str) -> Path:
    return out / hashlib.sha256(clip_key.encode()).hexdigest()[:16]


def _levelled(sound: np.ndarray, mixture: np.ndarray) -> np.ndarray:
    power = float(sound @ sound)
    gain = abs(float(sound @ mixture)) / power if power else 0.0
    return sound * gain if gain else sound


def _pcm(sound: np.ndarray) -> np.ndarray:
    peak = max(1.0, float(np.abs(sound).max(initial=0)))
    return np.round(sound / peak * _FULL).astype(np.int16)
