"""What the speech page's inspector shows: lips and sounds of the chosen clips as files, all else as data."""

from __future__ import annotations

import io
import wave
from collections import defaultdict
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np
from PIL import Image

from avs.avsr.scores import Heard
from avs.avsr.voices import kept_voices
from avs.core.errors import InputError
from avs.core.footage import FPS
from avs.core.media import unwav, wav
from avs.core.store import atomic
from avs.report.site import folder_name
from avs.report.speech_results import SpeechResults, marks
from avs.report.speech_words import condition_text, conditions_in_order, model_text, models_in_order

QUALITY = 80  # of the lips, as JPEG
_MOST = 60  # seconds of lips: a picture of more is too large for browsers
_MEDIA = "media"


def choose_speech(results: SpeechResults, limit: int) -> tuple[list[str], str]:
    """Keys of the clips to show, in their order, and the rule in words.

    All where they fit; else those whose sounds were kept before the others, spread evenly over either.
    """
    keys = results.clips
    if len(keys) <= limit:
        return keys, f"All {len(keys)} judged clips are shown."
    kept = [key for key in keys if kept_voices(results.voices, key)]
    rest = [key for key in keys if key not in set(kept)]
    first = _spread(kept, limit)
    chosen = {*first, *_spread(rest, limit - len(first))}
    rule = f"{limit} of {len(keys)} judged clips are shown, spread evenly and not chosen by their results"
    return [key for key in keys if key in chosen], rule + "; those whose sounds were kept come first." * bool(kept)


def _spread(keys: Sequence[str], count: int) -> list[str]:
    count = min(count, len(keys))
    return [keys[number * len(keys) // count] for number in range(count)]


def write_clip(results: SpeechResults, key: str, out: Path) -> set[str]:
    """Write `clean.wav`, `lips.jpg`, and what was kept of each condition; the names of the files, from `out`."""
    clip, folder = results.of_media[key], f"{_MEDIA}/{folder_name(key)}"
    files = {"clean.wav": wav(results.media.audio(clip)), "lips.jpg": strip(results.media.lips(clip))}
    for place, sounds in enumerate(_sounds(results, key).values()):
        files |= {f"{name}-{place}.wav": wav(_sound(path)) for name, path in sounds.items()}
    for name, content in files.items():
        with atomic(out / folder / name) as file:
            file.write(content)
    return {f"{folder}/{name}" for name in files}


def _sound(path: Path) -> np.ndarray:
    """Read and later written anew: whatever lies there, a sound is what comes out."""
    try:
        return unwav(path.read_bytes())
    except (ValueError, EOFError, wave.Error) as error:
        raise InputError(f"{path}: is no sound of stage avsr_train's (run: dvc repro): {error}") from None


def strip(lips: np.ndarray) -> bytes:
    """Pictures uint8 [T,H,W] as one JPEG, a second (25 of them) a row."""
    count, height, width = lips[: _MOST * FPS].shape
    rows = -(-count // FPS)
    tiles = np.zeros((rows * FPS, height, width), np.uint8)
    tiles[:count] = lips[:count]
    whole = tiles.reshape(rows, FPS, height, width).swapaxes(1, 2).reshape(rows * height, FPS * width)
    buffer = io.BytesIO()
    Image.fromarray(whole).save(buffer, "JPEG", quality=QUALITY)
    return buffer.getvalue()


def speech_data(results: SpeechResults, keys: Sequence[str]) -> dict[str, Any]:
    """What the page's script reads."""
    conditions, models = names_of(results.answers)
    of_clip: dict[str, list[Heard]] = defaultdict(list)
    for answer in results.answers:
        of_clip[answer.clip].append(answer)
    return {
        "results": results.fingerprint,
        "media": _MEDIA,
        "rate": FPS,
        "conditions": [{"name": name, "text": condition_text(name)} for name in conditions],
        "models": [{"name": name, "text": model_text(name)} for name in models],
        "clips": [_clip(results, key, of_clip[key], conditions) for key in keys],
    }


def names_of(answers: Sequence[Heard]) -> tuple[list[str], list[str]]:
    """The conditions and the models, each in their order."""
    return (
        conditions_in_order(answer.condition for answer in answers),
        models_in_order(answer.model for answer in answers),
    )


def _clip(results: SpeechResults, key: str, answers: Sequence[Heard], conditions: Sequence[str]) -> dict[str, Any]:
    clip, first = results.of_media[key], answers[0]
    made: dict[str, dict[str, Any]] = {name: {} for name in conditions}
    for answer in answers:
        row = {"errors": answer.errors, "words": answer.words, "edits": marks(answer)}
        made[answer.condition][answer.model] = row
    sounds = enumerate(_sounds(results, key).items())
    return {
        "key": key,
        "folder": folder_name(key),
        "dataset": first.dataset_name,
        "speaker": first.speaker,
        "split": clip.split,
        "flags": clip.flags,
        "reference": first.reference,
        "frames": min(clip.frames, _MOST * FPS),
        "seconds": clip.frames / FPS,
        "said": [[word.word, word.start, word.end] for word in results.media.words.get(key, [])],
        "sounds": {name: {kind: f"{kind}-{place}.wav" for kind in files} for place, (name, files) in sounds},
        "answers": {name: rows for name, rows in made.items() if rows},
    }


def _sounds(results: SpeechResults, key: str) -> Mapping[str, Mapping[str, Path]]:
    judged = {answer.condition for answer in results.answers}
    return {name: files for name, files in kept_voices(results.voices, key).items() if name in judged}
