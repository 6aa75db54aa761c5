"""Under what conditions speech is recognised: their names, and what each of them mixes into a clip.

`clean`; `snr_X`: babble of several voices at X decibels; `noise_X`: a file of the noise folder; `talker_X`: one other
speaker, `talker_X_same`: the clip's own speaker, saying something else, `talker_X_unseen`: a speaker whom training
has not heard, `talker_X_synthetic`: a voice of `avs.speech.talker`. Voices are of clips of the same data set and, but
for unseen speakers, of the same split, so that none of them was trained on.
"""

from __future__ import annotations

import hashlib
import math
import re
from collections import defaultdict
from collections.abc import Callable, Collection, Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np

from avs.avsr.noise import NoiseFolder, Voices, Whom, fitted
from avs.core.errors import InputError
from avs.core.media import RATE
from avs.core.params import params
from avs.core.store import item_key
from avs.lips.media import SpeechClip
from avs.speech.demo import WORDS, Script, spoken
from avs.speech.talker import speaker, voice

CLEAN = "clean"
FORMS = "clean, snr_X, noise_X, talker_X, talker_X_same, talker_X_unseen or talker_X_synthetic, X whole decibels"
_NAME = re.compile(r"(snr|noise|talker)_(0|-?[1-9]\d?)(?:_(same|unseen|synthetic))?")
_UNSEEN = "speakers that training has not heard"  # in the place of a split
_SECONDS = 0.35  # no synthetic word is shorter


@dataclass(frozen=True)
class Condition:
    """kind: clean, snr, noise, talker, same, unseen or synthetic."""

    name: str
    kind: str = CLEAN
    snr: float = math.inf


def condition_of(name: str) -> Condition:
    """Raises InputError for a name that is none."""
    if name == CLEAN:
        return Condition(name)
    found = _NAME.fullmatch(name)
    if not found or (found[3] and found[1] != "talker"):
        raise InputError(f"condition ({name!r}) must be {FORMS}")
    return Condition(name, found[3] or found[1], float(found[2]))


@params
class ConditionParams:
    """names: under which to evaluate; babble: voices of `snr_X`; noise: the folder of `noise_X`, if there is one."""

    names: tuple[str, ...] = (CLEAN, "snr_5", "snr_0", "snr_-5")
    babble: int = 6
    noise: str | None = None
    seed: int = 0

    def __post_init__(self) -> None:
        for name in self.names:
            condition_of(name)
        if not self.names or len(set(self.names)) < len(self.names):
            raise ValueError(f"conditions ({list(self.names)}) must be one at least, each once")
        if self.babble < 1:
            raise ValueError(f"babble ({self.babble}) must be >= 1")
        if self.seed < 0:
            raise ValueError(f"seed ({self.seed}) must be >= 0")


class Interference:
    """What conditions mix into clips. everything: all of the data, of which `trained` splits were trained on."""

    def __init__(
        self,
        p: ConditionParams,
        everything: Collection[SpeechClip],
        sound: Callable[[SpeechClip], np.ndarray],
        trained: Collection[str] = ("train",),
    ) -> None:
        self.p, self.sound = p, sound
        self.conditions = [condition_of(name) for name in p.names]
        self._clips = list(everything)
        known = {(clip.dataset_name, clip.speaker) for clip in everything if clip.split in trained}
        pools: dict[tuple[str, str], list[SpeechClip]] = defaultdict(list)
        for clip in everything:
            pools[clip.dataset_name, clip.split].append(clip)
            if clip.speaker and (clip.dataset_name, clip.speaker) not in known:
                pools[clip.dataset_name, _UNSEEN].append(clip)
        self._pools = {name: Voices(clips, sound) for name, clips in pools.items()}
        self._nobody = Voices((), sound)
        self._noise = NoiseFolder(Path(p.noise), "avsr.heard_noise") if p.noise else None

    def key(self, clips: Sequence[SpeechClip]) -> str:
        """The digest of all that decides what is mixed into these clips."""
        there = [(clip.key, clip.media, clip.dataset_name, clip.split, clip.speaker) for clip in self._clips]
        return item_key(
            params=vars(self.p) | {"noise": self._noise.digest if self._noise else None},
            everything=there,
            clips=[clip.key for clip in clips],
        )

    def check(self, clips: Sequence[SpeechClip]) -> None:
        """Raise InputError that names each condition that the data cannot give, and why."""
        wrong = [self._wrong(clips, condition) for condition in self.conditions]
        if any(wrong):
            raise InputError("\n".join(filter(None, wrong)))
        if self._noise is not None:
            self._noise.check()

    def draw(self, clip: SpeechClip, condition: Condition, samples: int) -> tuple[np.ndarray, str]:
        """What is mixed in, float32 [samples], before its gain, and where it is from. Of one draw at any SNR."""
        own = int(hashlib.sha256(f"{condition.kind} {clip.key}".encode()).hexdigest()[:16], 16)
        draw = np.random.default_rng((self.p.seed, own))
        if condition.kind == "noise" and self._noise is not None:
            return self._noise.draw(samples, draw)
        if condition.kind == "synthetic":
            return synthetic(samples, draw)
        voices, whom, count = self._voices(clip, condition)
        others = voices.draw(clip, whom, count, draw)
        together = sum(_level(fitted(self.sound(other), samples, draw), other) for other in others)
        return np.asarray(together, np.float32), " ".join(other.key for other in others)

    def _voices(self, clip: SpeechClip, condition: Condition) -> tuple[Voices, Whom, int]:
        """From which voices, whose, and how many."""
        split = _UNSEEN if condition.kind == "unseen" else clip.split
        whom: Whom = {"snr": "any", "same": "same"}.get(condition.kind, "other")  # type: ignore[assignment]
        count = self.p.babble if condition.kind == "snr" else 1
        return self._pools.get((clip.dataset_name, split), self._nobody), whom, count

    def _wrong(self, clips: Sequence[SpeechClip], condition: Condition) -> str:
        """Why the condition cannot be had; nothing where it can."""
        if condition.kind == "noise":
            return "" if self._noise else f"{condition.name}: no folder of noise (set avsr.heard_noise)"
        if condition.kind in (CLEAN, "synthetic"):
            return ""
        lone = []
        for clip in clips:
            voices, whom, count = self._voices(clip, condition)
            if voices.count(clip, whom) < count:
                lone.append((clip, count, voices.count(clip, whom)))
        if not lone:
            return ""
        clip, count, there = lone[0]
        return f"{condition.name}: {len(lone)} of {len(clips)} clips, first {clip.key}, have no such voices: " + (
            _LACKS[condition.kind].format(count=count, there=there, split=clip.split, speaker=clip.speaker or "unknown")
        )


_LACKS = {
    "snr": "babble of {count} needs as many other clips of split {split}, where {there} are (set avsr.babble)",
    "talker": "split {split} has no other speaker than {speaker} (take talker_X_same, _unseen or _synthetic)",
    "same": "split {split} has no other clip of its speaker, {speaker}",
    "unseen": "every known speaker is in training, or is the clip's own ({speaker}) (set avsr.conditions without it)",
}


def synthetic(samples: int, draw: np.random.Generator) -> tuple[np.ndarray, str]:
    """A synthetic voice that says made-up words, float32 [samples], and the numbers that it was made of."""
    words = tuple(str(word) for word in draw.choice(WORDS, 1 + math.ceil(samples / RATE / _SECONDS)))
    seeds = [int(number) for number in draw.integers(2**31, size=2)]
    speech, _ = spoken(Script("", "", "", words, seeds[0], seeds[1]))
    sound = voice(speech, speaker("", np.random.default_rng(seeds[1])), draw)
    return sound[:samples].astype(np.float32) / 32768, f"synthetic:{seeds[0]}:{seeds[1]}"


def _level(sound: np.ndarray, clip: SpeechClip) -> np.ndarray:
    """The sound at a mean power of 1."""
    power = float(np.mean(np.square(sound, dtype=np.float64)))
    if not power:
        raise InputError(f"{clip.key}: is silent where it was drawn to be mixed into another clip (remove it)")
    return sound / np.float32(math.sqrt(power))
