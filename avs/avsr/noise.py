"""Noise that is really there: other clips' voices, and noise of files, mixed into a clip's sound by one seeded draw."""

from __future__ import annotations

import math
from collections.abc import Callable, Collection, Sequence
from fractions import Fraction
from functools import cached_property, lru_cache
from pathlib import Path
from typing import Any, Literal

import numpy as np
import scipy

from avs.core.errors import InputError
from avs.core.footage import FPS
from avs.core.media import RATE, MediaError, opened, read_sound
from avs.core.params import params
from avs.core.store import item_key, sha256_file
from avs.lips.media import SpeechClip

SUFFIXES = (".wav", ".flac", ".ogg", ".opus", ".mp3", ".m4a")
_FILES = 64  # of noise, kept decoded
Whom = Literal["any", "other", "same"]  # whose voices: anybody's, other speakers' only, the clip's own speaker's only


@params
class NoiseParams:
    """What is mixed into training clips, in decibels of mean power over the clip. Published values are the defaults.

    AddMultiSpk: the number of interfering training clips is drawn from `interferers`; each after the first is added
    to those before it at an SNR from the range `among`, and their sum to the voice at one from `voices_snr`. Clips
    under `shortest` seconds are left alone; interferers are `shortest` to `longest` seconds long, of the data sets
    `voices_of` (empty: of all; published: lrs2), and with `other_speakers` never of the clip's own speaker. Each is
    played at one of `speeds`, which makes another voice of it (published: at its own).
    AddNoise: a random part of a random file below `folder` (empty: none) at an SNR drawn from `noise_snr`.
    """

    interferers: tuple[int, ...] = (0, 0, 1, 2)
    among: tuple[float, float] = (-5, 15)
    voices_snr: tuple[float, float] = (-5, 20)
    shortest: float = 2.0
    longest: float = 10.0
    voices_of: tuple[str, ...] = ()
    other_speakers: bool = False
    speeds: tuple[float, ...] = (1.0,)
    folder: str | None = None
    noise_snr: tuple[float, ...] = (-5, 0, 5, 10, 15, 20, math.inf)

    def __post_init__(self) -> None:
        if not self.interferers or min(self.interferers) < 0:
            raise ValueError(f"interferers ({list(self.interferers)}) must be numbers of voices, 0 or more")
        for name in ("among", "voices_snr"):
            low, high = getattr(self, name)
            if not -math.inf < low <= high < math.inf:
                raise ValueError(f"{name} ({[low, high]}) must be two SNRs in decibels, the lower one first")
        if not self.speeds or not all(0.5 <= speed <= 2 for speed in self.speeds):
            raise ValueError(f"speeds ({list(self.speeds)}) must be from 0.5 to 2")
        if not 0 <= self.shortest <= self.longest:
            raise ValueError(f"shortest ({self.shortest:g}) must be seconds, at most longest ({self.longest:g})")
        if not self.noise_snr or not all(snr > -math.inf for snr in self.noise_snr):
            raise ValueError(f"noise_snr ({list(self.noise_snr)}) must be SNRs in decibels; .inf is no noise")


def at_snr(voice: np.ndarray, other: np.ndarray, snr: float) -> np.ndarray:
    """voice [S] + other [S], float32, `other` scaled so that their mean powers are `snr` decibels apart.

    Where one of them is silent, or `snr` is infinite, there is no such scale, and voice is all.
    """
    gain = gain_of(voice, other, snr)
    return voice + np.float32(gain) * other if gain else voice


def gain_of(voice: np.ndarray, other: np.ndarray, snr: float) -> float:
    """The factor of `other` that puts it `snr` decibels below `voice`; 0 where there is none."""
    powers = [float(np.mean(np.square(sound, dtype=np.float64))) for sound in (voice, other)]
    if not all(powers):
        return 0.0
    return math.sqrt(powers[0] / powers[1]) * 10 ** (-snr / 20)


def at_speed(sound: np.ndarray, speed: float) -> np.ndarray:
    """The sound [S] as float32 [S / speed], its pitch `speed` times as high, to a hundredth."""
    ratio = Fraction(speed).limit_denominator(100)
    if ratio == 1:
        return sound
    return scipy.signal.resample_poly(sound, ratio.denominator, ratio.numerator).astype(np.float32)


def fitted(sound: np.ndarray, samples: int, draw: np.random.Generator) -> np.ndarray:
    """A random part of `samples`, or, of a shorter sound, all of it with zeros after it."""
    if len(sound) <= samples:
        return np.pad(sound, (0, samples - len(sound)))
    start = int(draw.integers(len(sound) - samples + 1))
    return sound[start : start + samples]


class Voices:
    """Clips whose sound may be mixed into others. `sound` gives a clip's, float32 [S] in [-1, 1]."""

    def __init__(self, clips: Collection[SpeechClip], sound: Callable[[SpeechClip], np.ndarray]) -> None:
        # speaker by speaker, so that a speaker's clips are a range, and a clip has its place in it
        self.clips = sorted(clips, key=lambda clip: (_speaker(clip), clip.key))
        self.sound = sound
        self._ranges: dict[tuple[str, ...], tuple[int, int]] = {}
        self._places = {clip.key: place for place, clip in enumerate(self.clips)}
        for place, clip in enumerate(self.clips):
            first, _ = self._ranges.get(_speaker(clip), (place, place))
            self._ranges[_speaker(clip)] = first, place + 1

    def count(self, clip: SpeechClip, whom: Whom) -> int:
        """How many of them may be mixed into `clip`; never itself."""
        first, end = self._ranges.get(_speaker(clip), (0, 0))
        itself = clip.key in self._places
        if whom == "other":
            return len(self.clips) - (end - first)
        return (len(self.clips) if whom == "any" else end - first) - itself

    def draw(self, clip: SpeechClip, whom: Whom, count: int, draw: np.random.Generator) -> list[SpeechClip]:
        """`count` different clips; as many as there are, where there are fewer."""
        there = self.count(clip, whom)
        first, end = self._ranges.get(_speaker(clip), (0, 0))
        itself = self._places.get(clip.key, len(self.clips))
        found = []
        for place in map(int, draw.choice(there, min(count, there), replace=False) if there else ()):
            if whom == "other":
                place += end - first if place >= first else 0
            else:
                place += first if whom == "same" else 0
                place += place >= itself
            found.append(self.clips[place])
        return found


class NoiseFolder:
    """Sound files below a folder, which a parameter of that name gives. Raises InputError where there are none."""

    def __init__(self, folder: Path, name: str = "avsr.noise_folder") -> None:
        self.folder, self._name = folder, name
        if not folder.is_dir():
            raise InputError(f"{name} ({folder}): is no folder")
        self.files = sorted(path for path in folder.rglob("*") if path.suffix.lower() in SUFFIXES and path.is_file())
        if not self.files:
            raise InputError(f"{name} ({folder}): no sound file in it ({', '.join(SUFFIXES)})")
        self._read = lru_cache(_FILES)(_read_noise)

    @cached_property
    def digest(self) -> str:
        """Of all its files' names and bytes."""
        return item_key(files=[(path.relative_to(self.folder).as_posix(), sha256_file(path)) for path in self.files])

    def check(self) -> None:
        """Raise InputError that names each file that is no sound; their beginnings are read."""
        wrong = []
        for path in self.files:
            try:
                with opened(path) as container:
                    if not container.streams.audio:
                        raise MediaError("no audio stream")
            except MediaError as reason:
                wrong.append(f"{path}: {reason}")
        if wrong:
            raise InputError("\n  ".join([f"{self._name} ({self.folder}): {len(wrong)} files are no sound", *wrong]))

    def draw(self, samples: int, draw: np.random.Generator) -> tuple[np.ndarray, str]:
        """A random part of a random file, float32 [samples], repeated where the file is shorter, and where it is from.

        Raises InputError for a file that cannot be used.
        """
        path = self.files[int(draw.integers(len(self.files)))]
        sound = self._read(path)
        start = int(draw.integers(max(1, len(sound) - samples + 1)))
        part = np.resize(sound[start:], samples).astype(np.float32) / 32768
        return part, f"{path.relative_to(self.folder).as_posix()}@{start}"


class Mixer:
    """AddMultiSpk, then AddNoise, as the parameters say: one draw, whatever hears the result."""

    def __init__(self, p: NoiseParams, voices: Voices | None = None) -> None:
        self._p, self._voices = p, voices
        self._noise = NoiseFolder(Path(p.folder)) if p.folder else None

    def described(self) -> dict[str, Any]:
        """All that decides what is mixed in but the clips, as JSON values."""
        return vars(self._p) | {"folder": self._noise.digest if self._noise else None}

    def mix(self, clip: SpeechClip, voice: np.ndarray, draw: np.random.Generator) -> np.ndarray:
        """What is heard, float32 [S], for the clip's own voice [S]; it may leave [-1, 1]."""
        return self._with_noise(self._with_voices(clip, voice, draw), draw)

    def check(self, clips: Sequence[SpeechClip]) -> None:
        """Raise InputError where there is nothing to mix into some of the clips."""
        if self._noise is not None:
            self._noise.check()
        if not any(self._p.interferers):
            return
        lone = [clip for clip in clips if not self._voices or not self._voices.count(clip, self._whom)]
        if lone:
            of = f" of {', '.join(self._p.voices_of)}" if self._p.voices_of else ""
            by = " by another speaker" if self._p.other_speakers else ""
            long = f"{self._p.shortest:g} to {self._p.longest:g} s"
            raise InputError(
                f"avsr.interferers ({list(self._p.interferers)}): {len(lone)} of {len(clips)} clips, first "
                f"{lone[0].key}, have no other training clip{of}{by} of {long} ([0] mixes none in; SEANet by itself "
                "needs one: avsr.epochs.seanet 0 leaves that out)"
            )

    @property
    def _whom(self) -> Whom:
        return "other" if self._p.other_speakers else "any"

    def _speed(self, draw: np.random.Generator) -> float:
        """A draw only where there is a choice: published mixtures stay what they are."""
        return float(draw.choice(self._p.speeds)) if len(self._p.speeds) > 1 else self._p.speeds[0]

    def _with_voices(self, clip: SpeechClip, voice: np.ndarray, draw: np.random.Generator) -> np.ndarray:
        count = int(draw.choice(self._p.interferers))
        if not count or self._voices is None or len(voice) < self._p.shortest * RATE:
            return voice
        together = np.zeros_like(voice)
        for number, other in enumerate(self._voices.draw(clip, self._whom, count, draw)):
            sound = fitted(at_speed(self._voices.sound(other), self._speed(draw)), len(voice), draw)
            together = at_snr(together, sound, draw.uniform(*self._p.among)) if number else sound
        return at_snr(voice, together, draw.uniform(*self._p.voices_snr))

    def _with_noise(self, sound: np.ndarray, draw: np.random.Generator) -> np.ndarray:
        if self._noise is None:
            return sound
        snr = float(draw.choice(self._p.noise_snr))
        return sound if math.isinf(snr) else at_snr(sound, self._noise.draw(len(sound), draw)[0], snr)


def make_mixer(p: NoiseParams, training: Collection[SpeechClip], sound: Callable[[SpeechClip], np.ndarray]) -> Mixer:
    """The mixer of training clips, with interferers from among them."""
    usable = [
        clip
        for clip in training
        if p.shortest * FPS <= clip.frames <= p.longest * FPS and (not p.voices_of or clip.dataset_name in p.voices_of)
    ]
    return Mixer(p, Voices(usable, sound))


def _speaker(clip: SpeechClip) -> tuple[str, ...]:
    """Who is known to speak; a clip without a speaker's name is by one of its own."""
    return (clip.dataset_name, clip.speaker) if clip.speaker else (clip.dataset_name, "", clip.key)


def _read_noise(path: Path) -> np.ndarray:
    try:
        sound = read_sound(path)
    except MediaError as reason:
        raise InputError(f"{path}: {reason}") from None
    if not len(sound):
        raise InputError(f"{path}: has no whole second of sound")
    return sound
