"""What is wrong with the features of a data set, clip by clip: all of it, before anything trains on them."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

from avs.core.errors import InputError
from avs.core.footage import SAMPLES
from avs.lips.media import SpeechClip

MISS = "MuSE cache miss"
LENGTH = "MuSE feature length mismatch"
AUDIO = "Audio/MuSE length mismatch"
OTHER = "MuSE cache entry of other media"
DAMAGED = "MuSE cache entry damaged"


@dataclass(frozen=True)
class Problem:
    """One clip's: `kind` is one of the phrases above."""

    clip: str
    kind: str
    detail: str = ""

    def __str__(self) -> str:
        return f"{self.clip}: {self.kind}{self.detail and f': {self.detail}'}"


def check_length(clip: SpeechClip, features: int, samples: int | None = None) -> list[Problem]:
    """Features, and samples of sound where they are told, against the clip's pictures."""
    found = []
    if features != clip.frames:
        found.append(Problem(clip.key, LENGTH, f"video_len={clip.frames}, muse_len={features}, video={clip.video}"))
    if samples is not None and samples != clip.frames * SAMPLES:
        found.append(Problem(clip.key, AUDIO, f"wav={samples}, expected={clip.frames * SAMPLES}"))
    return found


def refuse(problems: Sequence[Problem], total: int, way_out: str) -> None:
    """Raise InputError, if there are problems, with a line for each kind of them and then a line for each clip."""
    if not problems:
        return
    lines = []
    for kind in dict.fromkeys(problem.kind for problem in problems):
        those = [problem for problem in problems if problem.kind == kind]
        detail = those[0].detail and f": {those[0].detail}"
        lines.append(f"{kind}: {len(those)} of {total} clips, first {those[0].clip}{detail} ({way_out})")
    raise InputError("\n".join([*lines, *(f"  {problem}" for problem in problems)]))
