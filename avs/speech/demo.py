"""Generated speech: sentences of made-up words by synthetic voices, with drawn mouths in step. All of it is synthetic.

It serves to prove the kit and to try it out in a minute; no result on it says anything about recognising speech.
"""

from __future__ import annotations

import hashlib
from dataclasses import dataclass
from functools import partial
from pathlib import Path

import numpy as np

from avs.core.errors import InputError
from avs.core.execute import ExecutionParams, Failure, map_items
from avs.core.footage import FPS
from avs.core.media import write_media
from avs.core.params import params
from avs.core.speech import Utterance, Word
from avs.core.store import item_key, raw_root
from avs.speech.talker import PHONES, Speech, mouths, speaker, voice

VERSION = 1  # raise when the videos change
NAME = "synthetic"  # as dataset_name
# Spelt as they sound: each letter is a phone. Lips that look alike (b, m) and sounds that are alike (f, s) part them.
WORDS = ("bafu", "lomi", "sona", "tiba", "mule", "faso", "nebo", "lute", "sabi", "fimo", "nulo", "tesa")


@params
class SpeechDemoParams:
    """train, val, test: clips of a split; speakers: synthetic ones, all of them in each split; words: of a sentence."""

    train: int = 48
    val: int = 12
    test: int = 24
    speakers: int = 6
    words: int = 4
    seed: int = 0

    def __post_init__(self) -> None:
        for name in ("train", "val", "test", "speakers", "words"):
            if getattr(self, name) < 1:
                raise ValueError(f"{name} ({getattr(self, name)}) must be >= 1")
        if self.seed < 0:
            raise ValueError(f"seed ({self.seed}) must be >= 0")


@dataclass(frozen=True)
class Script:
    """All that decides a clip: who says which words, after how many seconds of silence, from which draw."""

    key: str
    split: str
    speaker: str
    words: tuple[str, ...]
    seed: int
    voice_seed: int


def scripts(p: SpeechDemoParams) -> list[Script]:
    """The clips, split by split; speakers take turns. A larger split keeps the clips of a smaller one."""
    counts = (("train", p.train), ("val", p.val), ("test", p.test))
    return [_script(p, split, number) for split, count in counts for number in range(count)]


def _script(p: SpeechDemoParams, split: str, number: int) -> Script:
    seed = _seed(p.seed, split, number)
    chosen = np.random.default_rng(seed).choice(WORDS, p.words)
    who = f"synthetic{number % p.speakers}"
    key = f"{split}{number:04d}_{who}"
    return Script(key, split, who, tuple(map(str, chosen)), seed, _seed(p.seed, who))


def _seed(*parts: object) -> int:
    return int(hashlib.sha256(" ".join(map(str, parts)).encode()).hexdigest()[:12], 16)


def spoken(script: Script) -> tuple[Speech, list[Word]]:
    """The phones of a script, with silence between words and at both ends, and when its words are said."""
    rng = np.random.default_rng((script.seed, 0))
    pace = speaker(script.speaker, np.random.default_rng(script.voice_seed)).pace
    phones, lengths, words = [PHONES[" "]], [rng.uniform(0.2, 0.4)], []
    for word in script.words:
        start = sum(lengths)
        phones += [PHONES[letter] for letter in word]
        lengths += [PHONES[letter].seconds * pace * rng.uniform(0.85, 1.15) for letter in word]
        words.append(Word(script.key, word, round(start, 3), round(sum(lengths), 3)))
        phones.append(PHONES[" "])
        lengths.append(rng.uniform(0.03, 0.15))
    lengths[-1] += rng.uniform(0.15, 0.3)
    return Speech(phones, np.array(lengths)), words


def render(script: Script, path: Path) -> None:
    """Draw, synthesise and write a clip; the same script gives the same bytes."""
    who = speaker(script.speaker, np.random.default_rng(script.voice_seed))
    speech, _ = spoken(script)
    sound = voice(speech, who, np.random.default_rng((script.seed, 1)))
    write_media(path, mouths(speech, who, np.random.default_rng((script.seed, 2))), FPS, sound)


class SpeechDemo:
    """The generated sentences as a data set: videos are made where they are missing, and stay in the raw folder."""

    def __init__(self, p: SpeechDemoParams) -> None:
        self._p = p

    def folder(self) -> Path:
        return raw_root() / f"speech-demo-{item_key(version=VERSION, **vars(self._p))[:12]}"

    def prepare(self, execution: ExecutionParams) -> None:
        self.folder().mkdir(parents=True, exist_ok=True)
        absent = [script for script in scripts(self._p) if not self._path(script).exists()]
        for result in map_items(partial(_make, self.folder()), absent, execution, "synthetic speech"):
            if isinstance(result, Failure):
                raise InputError(f"{self.folder()}: a demo video cannot be made: {result.reason}")

    def utterances(self) -> list[Utterance]:
        return [
            Utterance(s.key, NAME, s.split, self._path(s).name, 0, 0, " ".join(s.words), s.speaker, "")
            for s in scripts(self._p)
        ]

    def words(self) -> list[Word]:
        return [word for script in scripts(self._p) for word in spoken(script)[1]]

    def _path(self, script: Script) -> Path:
        return self.folder() / f"{script.key}.mp4"


def _make(folder: Path, script: Script) -> None:
    render(script, folder / f"{script.key}.mp4")
