"""Evaluation's mixtures, written once: what each clip sounds like under each condition, and what was mixed in.

`shard-*.tar` hold a WAV file a mixture, `<clip>/<condition>.wav`; rows of `index.tsv` say how they came about.
"""

from __future__ import annotations

import json
import tarfile
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np

from avs.avsr.conditions import CLEAN, Condition, Interference
from avs.avsr.noise import gain_of
from avs.core.clips import read_table, write_table
from avs.core.errors import InputError
from avs.core.execute import progress
from avs.core.media import unwav, wav
from avs.core.shards import add_member, item_at, read_members, write_shards
from avs.core.store import item_key, write_json
from avs.lips.media import SpeechClip

VERSION = 1  # raise when the mixtures change
_INDEX, _META = "index.tsv", "meta.json"


@dataclass(frozen=True)
class Mixture:
    """A clip, whose media had the digest `media`, and what was added: `sources` times `gain`, for an SNR of `snr`.

    Sources are clips, each brought to a mean power of 1, or what `Interference.draw` else names. The sound is that of
    the WAV file times `scale`, which is above 1 where it leaves [-1, 1].
    """

    clip: str
    condition: str
    media: str
    sources: str
    snr: float
    gain: float
    scale: float
    shard: str
    offset: int


def write_mixtures(out: Path, clips: Sequence[SpeechClip], interference: Interference) -> int:
    """Write the mixtures of clips; how many had to be, which is none where `out` holds them already.

    Raises InputError for a condition that the data cannot give, before any work, and for a clip that is silent.
    """
    interference.check(clips)
    key = item_key(version=VERSION, mixed=interference.key(clips))
    if _key_of(out) == key:
        return 0
    out.mkdir(parents=True, exist_ok=True)
    for old in (out / _META, *out.glob("shard-*.tar")):
        old.unlink(missing_ok=True)
    jobs = [(clip, condition) for clip in clips for condition in interference.conditions]
    bar = iter(progress(range(len(jobs)), "mixtures", len(jobs)))

    def append(tar: tarfile.TarFile, shard: str, job: tuple[SpeechClip, Condition]) -> Mixture:
        next(bar)
        return _append(tar, shard, *job, interference)

    write_table(out / _INDEX, write_shards(jobs, out, append), Mixture)
    write_json(out / _META, {"key": key, "clips": len(clips), "conditions": list(interference.p.names)})
    return len(jobs)


class Mixtures:
    """Reads what `write_mixtures` wrote."""

    def __init__(self, folder: Path) -> None:
        self._folder = folder
        self.rows = {(row.clip, row.condition): row for row in read_table(folder / _INDEX, Mixture)}
        self.conditions = tuple(dict.fromkeys(condition for _, condition in self.rows))

    def load(self, clip: str, condition: str) -> np.ndarray:
        """What is heard, float32 [S]; it may leave [-1, 1]."""
        row = self.rows.get((clip, condition))
        if row is None:
            raise InputError(f"{self._folder}: no mixture {condition!r} of clip {clip!r}: write them first")
        with item_at(self._folder / row.shard, row.offset) as file:
            ((_, content),) = read_members(file, 1)
            return unwav(content).astype(np.float32) * np.float32(row.scale / 32768)

    def check(self, clips: Sequence[SpeechClip]) -> None:
        """Raise InputError where a clip has no mixture under some condition, or is not what it was."""
        for clip in clips:
            for condition in self.conditions:
                row = self.rows.get((clip.key, condition))
                if row is None or row.media != clip.media:
                    what = "no mixture" if row is None else "a mixture of other media"
                    raise InputError(f"{self._folder}: {what} of clip {clip.key!r} for {condition}: write them again")


def _append(
    tar: tarfile.TarFile, shard: str, clip: SpeechClip, condition: Condition, interference: Interference
) -> Mixture:
    voice = interference.sound(clip)
    sources, gain, mixture = "", 0.0, voice
    if condition.kind != CLEAN:
        other, sources = interference.draw(clip, condition, len(voice))
        if not (gain := gain_of(voice, other, condition.snr)):
            raise InputError(f"{clip.key}: it, or what {condition.name} mixes in ({sources}), is silent (remove it)")
        mixture = voice + np.float32(gain) * other
    scale = max(1.0, -float(mixture.min()), float(mixture.max()) * 32768 / 32767)
    offset = tar.offset
    add_member(tar, f"{clip.key}/{condition.name}.wav", wav(np.rint(mixture / scale * 32768).astype(np.int16)))
    return Mixture(clip.key, condition.name, clip.media, sources, condition.snr, gain, scale, shard, offset)


def _key_of(folder: Path) -> str:
    try:
        return str(json.loads((folder / _META).read_text())["key"])
    except (OSError, ValueError, KeyError):
        return ""
