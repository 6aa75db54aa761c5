"""One video file to words: mouth and sound, noise if asked, a checkpoint's hypothesis, and when each word is said."""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Literal, NamedTuple, get_args

import numpy as np
import torch
from torch import Tensor

from avs.avsr.avhubert import MEAN, SIDE, STD
from avs.avsr.avhubert_checkpoints import load_avhubert
from avs.avsr.beam import Hypothesis
from avs.avsr.ctc import align
from avs.avsr.fbank import log_fbank
from avs.avsr.precision import reduced
from avs.avsr.recognizers import CtcAttention, Recognizer, SearchParams
from avs.avsr.text import SPACE, Tokenizer, unigram_folder
from avs.core.errors import InputError
from avs.core.footage import FPS, SAMPLES, read_footage
from avs.core.media import MediaError, read_sound
from avs.lips.crops import SIDE as LIPS
from avs.lips.crops import read_landmarks
from avs.lips.preprocess import LipsParams, mouths

Used = Literal["both", "audio", "lips"]
MAX_SECONDS = 60  # attention looks at all frames at once
_HINTS = {
    "give landmarks": " (here: --landmarks FILE or --detector mediapipe)",
    "s long": " (cut it into sentences)",
}


class Clip(NamedTuple):
    """lips: grey mouths, uint8 [T,96,96] at 25 fps; sound: float32 [640 T] at 16 kHz in [-1, 1]; what is odd."""

    lips: np.ndarray
    sound: np.ndarray
    flags: tuple[str, ...]


@dataclass(frozen=True)
class Word:
    """A word said in [start, end) seconds."""

    word: str
    start: float
    end: float


@dataclass(frozen=True)
class Transcript:
    """The best hypothesis, its score, all that the beam found, and words with times where CTC gives them."""

    text: str
    score: float
    others: tuple[tuple[str, float], ...]
    words: tuple[Word, ...]


def load_recognizer(path: Path, tokenizer: Path | None = None) -> Recognizer:
    """A checkpoint that can decode: a model with a decoder, and a tokenizer of its own or in the folder `tokenizer`."""
    found = load_avhubert(path, unigram_folder(tokenizer) if tokenizer else None)
    if not isinstance(found, Recognizer):
        raise InputError(f"{path}: is an encoder without a decoder, from pre-training: give a fine-tuned checkpoint")
    if found.tokenizer is None:
        raise InputError(f"{path}: has no tokenizer: give a folder with *units.txt and *.model (--tokenizer DIR)")
    return found


def read_clip(
    path: Path, landmarks: Path | None = None, lips: LipsParams | None = None, *, sound_only: bool = False
) -> Clip:
    """The mouth and sound of a video: 96×96 mouths as they are, faces by landmarks or a detector.

    sound_only: whatever the pictures show, and black mouths. Raises InputError where no use can be made of the file,
    and for one longer than a minute.
    """
    points = read_landmarks(landmarks) if landmarks else None
    try:
        if sound_only:
            footage = read_footage(path, lambda n, picture: np.zeros((LIPS, LIPS), np.uint8), longest=MAX_SECONDS)
        else:
            footage = mouths(path, points, lips or LipsParams(), longest=MAX_SECONDS)
    except MediaError as reason:
        hint = next((hint for phrase, hint in _HINTS.items() if phrase in str(reason)), "")
        raise InputError(f"{path}: {reason}{hint}") from None
    return Clip(np.stack(footage.seen), footage.audio.astype(np.float32) / 32768, footage.flags)


def with_noise(sound: np.ndarray, path: Path, snr: float, seed: int = 0) -> np.ndarray:
    """Sound float32 [S] with noise of a file at `snr` decibels, from a place drawn by `seed`; short noise is repeated.

    The ratio is of mean powers over the whole clip. Raises InputError for noise that is not there or silent.
    """
    if not math.isfinite(snr) or seed < 0:
        raise InputError(f"snr ({snr:g}) must be decibels, seed ({seed}) >= 0")
    try:
        noise = read_sound(path).astype(np.float32) / 32768
    except MediaError as reason:
        raise InputError(f"{path}: {reason}") from None
    power = float(np.mean(sound**2))
    if not len(noise):
        raise InputError(f"{path}: has no whole second of sound")
    if not power:
        raise InputError("the clip is silent: no noise has an SNR to it")
    start = int(np.random.default_rng(seed).integers(len(noise)))
    noise = np.resize(np.roll(noise, -start), len(sound))
    if not (own := float(np.mean(noise**2))):
        raise InputError(f"{path}: is silent where it was drawn (seed {seed})")
    return sound + noise * np.float32(np.sqrt(power / own / 10 ** (snr / 10)))


def features(clip: Clip, scale: float) -> tuple[Tensor, Tensor]:
    """What the encoder takes: log filter banks [1,T,104] of the sound times `scale`, and mouths [1,1,T,88,88]."""
    if len(clip.sound) != SAMPLES * len(clip.lips):
        raise InputError(f"{len(clip.sound)} samples of sound do not go with {len(clip.lips)} pictures")
    heard = log_fbank(torch.from_numpy(clip.sound)[None], scale=scale)
    edge = (clip.lips.shape[1] - SIDE) // 2
    mouth = torch.from_numpy(clip.lips[:, edge : edge + SIDE, edge : edge + SIDE])
    return heard, ((mouth.float() / 255 - MEAN) / STD)[None, None]


@torch.inference_mode()
def transcribe(
    model: Recognizer, clip: Clip, *, use: Used = "both", params: SearchParams | None = None, bfloat16: bool = False
) -> Transcript:
    """What is said in a clip, from sound, lips or both. bfloat16: see `avs.avsr.precision`."""
    if use not in get_args(Used):
        raise InputError(f"use ({use!r}) must be one of {', '.join(get_args(Used))}")
    tokenizer = model.tokenizer
    assert tokenizer is not None
    heard, seen = features(clip, model.sound_scale)
    audio, video = (None if use == "lips" else heard), (None if use == "audio" else seen)
    with reduced(model, bfloat16):
        encoded = model.encoder(audio, video)
        (found,) = model.search(encoded, None, params or SearchParams())
        if not found:
            raise InputError("no text has a finite score: the checkpoint's weights are damaged")
        frames = model.ctc(encoded)[0] if isinstance(model, CtcAttention) else None
    texts = tuple((tokenizer.decode(one.tokens), one.score) for one in found)
    words = () if frames is None else timed(found[0], frames, tokenizer)
    return Transcript(*texts[0], texts[1:], words)


def timed(said: Hypothesis, frames: Tensor, tokenizer: Tokenizer) -> tuple[Word, ...]:
    """Words of a hypothesis and their times by CTC's likeliest path, from its logits [T,V]; to a frame of 40 ms."""
    words: list[Word] = []
    for token, (first, end) in zip(said.tokens, align(frames, said.tokens), strict=False):
        piece = tokenizer.symbols[token]
        if piece in tokenizer.special:
            continue
        if piece.startswith(SPACE) or not words:
            words.append(Word(piece.replace(SPACE, ""), first / FPS, end / FPS))
        else:
            words[-1] = Word(words[-1].word + piece.replace(SPACE, " "), words[-1].start, end / FPS)
    return tuple(word for word in words if word.word)


def describe(found: Transcript, flags: Sequence[str] = (), best: int = 1) -> str:
    """Lines for a person: the text and its score, other hypotheses, words and their seconds."""
    lines = [f"{found.text}", f"score {found.score:.3f}"]
    lines += [f"or {text!r}, score {score:.3f}" for text, score in found.others[: best - 1]]
    lines += [f"{word.start:6.2f} {word.end:6.2f}  {word.word}" for word in found.words]
    return "\n".join(lines + ([f"note: {', '.join(flags)}"] if flags else []))
