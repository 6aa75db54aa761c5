"""Prepared clips as batches: what an epoch trains on, each clip's draw of crop, noise and masks, and checks before."""

from __future__ import annotations

import hashlib
import threading
from collections import defaultdict
from collections.abc import Callable, Collection, Iterable, Iterator, Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from functools import cached_property, partial
from typing import Any, Literal, NamedTuple

import joblib
import numpy as np
import torch
from torch import Tensor

from avs.avsr.avhubert import SIDE
from avs.avsr.batch import Batch
from avs.avsr.checks import check_all, check_labels, check_media, check_mixture, check_others, check_splits
from avs.avsr.conditions import CLEAN
from avs.avsr.mixtures import Mixtures
from avs.avsr.noise import NoiseParams, make_mixer
from avs.avsr.orders import Order, chosen, cut, shares_of, shuffled
from avs.avsr.separation import standardized
from avs.avsr.text import Tokenizer
from avs.core.errors import InputError
from avs.core.execute import ahead
from avs.core.footage import FPS, SAMPLES
from avs.core.params import params
from avs.core.speech import Word
from avs.lips.cache import MuseFeatures
from avs.lips.crops import SIDE as LIPS
from avs.lips.media import SpeechClip, SpeechShards
from avs.lips.preflight import AUDIO
from avs.lips.visual_frontend import DIM

VERSION = 1  # raise when batches of the same clips change
_SOUND, _PICTURE, _ORDER = range(3)  # draws of their own, so that one does not change with another
_MASKS = {"sound": (6400, 16000), "picture": (10, 25)}  # published: shorter than the first, one in each of the second


@params
class BatchParams:
    """train: splits; a batch has at most `clips` clips, and `frames` frames with its padding.

    mixture: data sets and their weights (`lrs2:0.3`); empty: all clips of all sets, once an epoch. time_masks: parts
    of sound and pictures are silent and black, as published; other_rates: clips of videos that were not at 25 frames a
    second may take part.
    """

    train: tuple[str, ...] = ("train",)
    clips: int = 8
    frames: int = 2000
    mixture: tuple[str, ...] = ()
    time_masks: bool = False
    other_rates: bool = False
    seed: int = 0

    def __post_init__(self) -> None:
        for name in ("clips", "frames"):
            if getattr(self, name) < 1:
                raise ValueError(f"{name} ({getattr(self, name)}) must be >= 1")
        if self.seed < 0:
            raise ValueError(f"seed ({self.seed}) must be >= 0")
        shares_of(self.mixture)


class Kept:
    """What was read first of prepared clips, up to `limit` bytes; several `SpeechData` may share it.

    In training each clip comes once an epoch, so that nothing is gained by making room for the last one.
    """

    def __init__(self, limit: int = 2 << 30) -> None:
        self._left = limit
        self._arrays: dict[Any, np.ndarray] = {}
        self._lock = threading.Lock()

    def get(self, key: Any, read: Callable[[], np.ndarray]) -> np.ndarray:
        if (there := self._arrays.get(key)) is not None:
            return there
        array = read()
        with self._lock:
            if array.nbytes <= self._left and key not in self._arrays:
                self._left -= array.nbytes
                self._arrays[key] = array
        return array


class _Row(NamedTuple):
    """One clip of a batch, as in `Batch`."""

    mixture: np.ndarray
    voice: np.ndarray
    lips: np.ndarray
    words: np.ndarray


class SpeechData:
    """Prepared clips for training and evaluation.

    muse None: no row goes through SEANet; else those of `seanet_scope`, with features `standardize`d clip by clip or as
    they are. mixed: mixtures written for evaluation. kept: where small sets stay in memory. `words` are those of
    training clips whose times are known: the classes of frames.
    """

    def __init__(
        self,
        media: SpeechShards,
        muse: MuseFeatures | None,
        tokenizer: Tokenizer,
        p: BatchParams,
        noise: NoiseParams,
        *,
        mixed: Mixtures | None = None,
        seanet_scope: Literal["all", "mcorec"] = "all",
        standardize: bool = False,
        kept: Kept | None = None,
    ) -> None:
        self.media, self.muse, self.tokenizer, self.mixed = media, muse, tokenizer, mixed
        self._p, self._scope = p, seanet_scope
        self._kept = kept or Kept()
        self._standardize = standardize
        self._readers = ThreadPoolExecutor(joblib.cpu_count())  # pictures are decoded outside Python's lock
        self.training = [clip for clip in media.clips if clip.split in p.train]
        self.words = tuple(sorted({word.word for clip in self.training for word in media.words.get(clip.key, ())}))
        self._classes = {word: number for number, word in enumerate(self.words)}
        self._mixer = make_mixer(noise, self.training, self.voice)

    def check(self, splits: Collection[str] = ()) -> None:
        """Raise InputError with all that would stop training on the way, or the evaluation of `splits`."""
        evaluated = [clip for split in splits for clip in self.clips(split)]
        clips = list(dict.fromkeys([*self.training, *evaluated]))
        check_all(
            [
                partial(check_splits, self.media.clips, [*self._p.train, *splits]),
                partial(check_mixture, shares_of(self._p.mixture), self.training),
                partial(check_media, self.media, clips, other_rates=self._p.other_rates),
                partial(check_labels, self.tokenizer, self.training, self._p.frames),
                partial(self._mixer.check, self.training),
                *([] if self.muse is None else self._of_muse(self.muse, clips, evaluated)),
                *([partial(self.mixed.check, evaluated)] if self.mixed else []),
            ]
        )

    def _of_muse(
        self, muse: MuseFeatures, clips: Sequence[SpeechClip], evaluated: Sequence[SpeechClip]
    ) -> list[Callable[[], None]]:
        within = [clip for clip in clips if self._in_scope(clip)]
        return [partial(muse.check, within), partial(check_others, evaluated, self._others)]

    def described(self) -> dict[str, Any]:
        """All that decides what training sees, as JSON values."""
        return {
            "version": VERSION,
            "params": vars(self._p),
            "noise": self._mixer.described(),
            "scope": self._scope,
            "standardize": self._standardize,
            "muse": None if self.muse is None else self.muse.meta,
            "tokenizer": self.tokenizer.described(),
            "clips": told(self.training),
            "words": [vars(word) for clip in self.training for word in self.media.words.get(clip.key, ())],
        }

    def clips(self, split: str) -> list[SpeechClip]:
        return [clip for clip in self.media.clips if clip.split == split]

    def epoch(self, number: int) -> list[Order]:
        """An epoch's batches, the same for the same number and seed."""
        sets: dict[str, list[SpeechClip]] = defaultdict(list)
        for clip in self.training:
            sets[clip.dataset_name].append(clip)
        clips = chosen(sets, shares_of(self._p.mixture), self._p.seed, number)
        draw = np.random.default_rng((self._p.seed, _ORDER, number))
        return shuffled(clips, self._p.clips, self._p.frames, draw)

    def evaluation(self, split: str) -> list[Order]:
        """All clips of a split as batches, by length."""
        clips = sorted(self.clips(split), key=lambda clip: (clip.frames, clip.key))
        return cut(clips, self._p.clips, self._p.frames)

    def batch(
        self, clips: Sequence[SpeechClip], epoch: int = 0, training: bool = False, condition: str = CLEAN
    ) -> Batch:
        """Clips side by side. In training each has the draw of its key and the epoch; else mouths are the middle,
        and what is heard is as `condition` has it."""
        frames = tuple(clip.frames for clip in clips)
        rows = [
            self._drawn(clip, lips, epoch) if training else self._still(clip, lips, condition)
            for clip, lips in zip(clips, self._readers.map(self.lips, clips), strict=True)
        ]
        mixture, voice, lips, words = (
            _padded([getattr(row, name) for row in rows], -1 if name == "words" else 0) for name in _Row._fields
        )
        seanet = [self.muse is not None and self._in_scope(clip) for clip in clips]
        labels = [np.array(self.tokenizer.encode(clip.transcript), np.int64) for clip in clips]
        return Batch(
            clips=tuple(clip.key for clip in clips),
            frames=frames,
            mixture=mixture,
            voice=voice,
            lips=lips,
            muse=self._features(clips, seanet),
            seanet=torch.tensor(seanet),
            labels=_padded(labels, -1),
            words=words,
            wrong_muse=None if training else self._features(clips, seanet, self._others),
        )

    def batches(self, split: str, condition: str) -> Iterator[Batch]:
        """All clips of a split as evaluation hears them, each batch made by a thread while that before it is used."""
        return ahead(partial(self.batch, condition=condition), self.evaluation(split))

    def voice(self, clip: SpeechClip) -> np.ndarray:
        """The clip's own sound, float32 [640 T] in [-1, 1]. Raises InputError for another length."""
        sound = self._kept.get(("sound", clip.key), lambda: self.media.audio(clip))
        if len(sound) != (expected := clip.frames * SAMPLES):
            raise InputError(f"{clip.key}: {AUDIO}: wav={len(sound)}, expected={expected}")
        return sound.astype(np.float32) / 32768

    def lips(self, clip: SpeechClip) -> np.ndarray:
        """uint8 [T,96,96]. Raises InputError for another shape."""
        lips = self._kept.get(("lips", clip.key), lambda: self.media.lips(clip))
        if lips.shape != (clip.frames, LIPS, LIPS):
            raise InputError(f"{clip.key}: pictures {list(lips.shape)}, expected {[clip.frames, LIPS, LIPS]}")
        return lips

    def _still(self, clip: SpeechClip, lips: np.ndarray, condition: str) -> _Row:
        edge = (LIPS - SIDE) // 2
        voice = self.voice(clip)
        if condition == CLEAN:
            mixture = voice
        elif self.mixed is None:
            raise InputError(f"condition ({condition!r}) needs mixtures, and none were written")
        else:
            mixture = self.mixed.load(clip.key, condition)
        return _Row(mixture, voice, lips[:, edge : edge + SIDE, edge : edge + SIDE], self._frame_words(clip))

    def _drawn(self, clip: SpeechClip, lips: np.ndarray, epoch: int) -> _Row:
        sound, picture = (self._generator(clip, epoch, kind) for kind in (_SOUND, _PICTURE))
        voice = self.voice(clip)
        y, x = picture.integers(LIPS - SIDE + 1, size=2)
        lips = lips[:, y : y + SIDE, x : x + SIDE]
        if picture.random() < 0.5:
            lips = lips[..., ::-1]
        if self._p.time_masks:
            voice, lips = masked(voice, *_MASKS["sound"], sound), masked(lips, *_MASKS["picture"], picture)
        return _Row(self._mixer.mix(clip, voice, sound), voice, lips, self._frame_words(clip))

    def _generator(self, clip: SpeechClip, epoch: int, kind: int) -> np.random.Generator:
        own = int(hashlib.sha256(clip.key.encode()).hexdigest()[:16], 16)
        return np.random.default_rng((self._p.seed, kind, epoch, own))

    def _in_scope(self, clip: SpeechClip) -> bool:
        return self._scope == "all" or clip.dataset_name == "mcorec"

    def _features(
        self, clips: Sequence[SpeechClip], wanted: Sequence[bool], others: Mapping[str, SpeechClip] | None = None
    ) -> Tensor | None:
        """MuSE's, of the clips, or of `others` in their place, in rows that are wanted; zeros elsewhere."""
        if self.muse is None:
            return None
        found = torch.zeros(len(clips), max(clip.frames for clip in clips), DIM)
        for row, clip, use in zip(found, clips, wanted, strict=True):
            if use:
                features = self.muse.load(clip if others is None else others[clip.key])
                features = standardized(features) if self._standardize else features
                row[: clip.frames] = torch.from_numpy(np.resize(features, (clip.frames, DIM)))
        return found

    @cached_property
    def _others(self) -> dict[str, SpeechClip]:
        """Of each clip that goes through SEANet, the next one of its split: whose lips are the wrong ones."""
        by_split: dict[str, list[SpeechClip]] = defaultdict(list)
        for clip in self.media.clips:
            if self._in_scope(clip):
                by_split[clip.split].append(clip)
        return {
            clip.key: other
            for clips in by_split.values()
            for clip, other in zip(clips, [*clips[1:], clips[0]], strict=True)
        }

    def _frame_words(self, clip: SpeechClip) -> np.ndarray:
        return frame_words(self.media.words.get(clip.key, ()), clip.frames, self._classes)


def told(clips: Iterable[SpeechClip]) -> list[tuple[str, ...]]:
    """What of clips decides about a training: by speakers, too, voices are drawn."""
    return [(clip.key, clip.media, clip.dataset_name, clip.speaker, clip.transcript) for clip in clips]


def frame_words(words: Iterable[Word], frames: int, classes: dict[str, int]) -> np.ndarray:
    """The class of the word said in the middle of each frame, int64 [frames]; `len(classes)` where none is, -1 where
    it is no class or no word's times are known."""
    times = (np.arange(frames) + 0.5) / FPS
    said = list(words)
    found = np.full(frames, len(classes) if said else -1)
    for word in said:
        found[(word.start <= times) & (times < word.end)] = classes.get(word.word, -1)
    return found


def masked(values: np.ndarray, window: int, stride: int, draw: np.random.Generator) -> np.ndarray:
    """A copy with zeros in random parts shorter than `window`, one for each `stride` begun."""
    values = values.copy()
    for _ in range(-(-len(values) // stride)):
        length = int(draw.integers(min(window, len(values))))
        start = int(draw.integers(len(values) - length))
        values[start : start + length] = 0
    return values


def _padded(rows: Sequence[np.ndarray], value: int) -> Tensor:
    """Rows [T,…] of different lengths as one tensor [B,T,…]."""
    longest = max(len(row) for row in rows)
    whole = np.full((len(rows), longest, *rows[0].shape[1:]), value, rows[0].dtype)
    for place, row in zip(whole, rows, strict=True):
        place[: len(row)] = row
    return torch.from_numpy(whole)
