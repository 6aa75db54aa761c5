"""A small speech study on disk, as stage `avsr_train` leaves it, with texts that no one should trust."""

from __future__ import annotations

import tarfile
from pathlib import Path
from typing import Any

import numpy as np
from page_study import HOSTILE, LONG, RTL
from speech_clips import clip_of

from avs.avsr.scores import Heard
from avs.avsr.voices import write_voices
from avs.avsr.wer import word_errors
from avs.core.clips import Failed, write_table
from avs.core.media import wav
from avs.core.shards import add_member, write_shards
from avs.core.speech import Word
from avs.core.store import atomic, write_json
from avs.lips.media import SpeechClip, film

CLIPS, FRAMES, KEPT = 9, 30, 4
CONDITIONS = ("clean", "snr_5", "snr_0", "snr_-5", "talker_0", "talker_0_same")
MODELS = ("audio", "video", "av", "audio_seanet", "av_seanet")
HOSTILE_KEY = """'"><img_src=x_onerror="window.hacked=3">%2e#&{{7*7}}"""
WORDS = ("bin", "blue", "at", "f", "two", "now", "please", "set", "white", "by", "nine", "again")
_WRONG = {"audio": 0.08, "video": 0.3, "av": 0.06, "audio_seanet": 0.09, "av_seanet": 0.06}
_HARDER = {"clean": 0, "snr_5": 1, "snr_0": 2, "snr_-5": 4, "talker_0": 3, "talker_0_same": 4}


def write_speech_study(folder: Path, *, clips: int = CLIPS, dataset: str = "grid") -> Path:
    """`media` and `results` below `folder`."""
    rng = np.random.default_rng(0)
    texts = [" ".join(rng.choice(WORDS, 6)) for _ in range(clips)]
    texts[1:4] = [f"{HOSTILE} now", f"{RTL} two", f"{LONG} at f"]
    keys = [HOSTILE_KEY, *(f"s1-clip{number}" for number in range(1, clips))]
    _write_media(folder / "media", keys, texts, dataset)
    answers = [
        _answer(rng, key, dataset, text, condition, model)
        for model in MODELS
        for condition in CONDITIONS
        for key, text in zip(keys, texts, strict=True)
    ]
    results = folder / "results"
    write_table(results / "hypotheses.tsv", answers, Heard)
    write_json(results / "metrics.json", metrics_of(answers))
    for phase, name in (("audio", "train/loss"), ("both", "train/loss"), ("both", "val/wer")):
        rows = "".join(f"{step}\t{np.exp(-step / 30) + 0.1}\n" for step in range(0, 100, 5))
        with atomic(results / f"curves/{phase}/plots/metrics/{name}.tsv") as file:
            file.write(f"step\tvalue\n{rows}".encode())
    for key in keys[:KEPT]:
        for number, condition in enumerate(("snr_0", "talker_0")):
            mixture = _tone(number, len(key)) + 0.3 * rng.normal(size=640 * FRAMES)
            write_voices(results / "voices", key, condition, mixture.astype(np.float32), 40 * _tone(number, len(key)))
    return folder


def metrics_of(answers: list[Heard]) -> dict[str, Any]:
    """Rates with made-up intervals and contrasts, in the form that the page reads."""
    wer = {model: {c: _rate(answers, model, c) for c in CONDITIONS} for model in MODELS}
    contrasts = {
        condition: {
            f"{a}-{b}": _contrast(wer[a][condition]["wer"] - wer[b][condition]["wer"])
            for a, b in (("av", "audio"), ("audio_seanet", "audio"), ("av_seanet", "av"))
        }
        for condition in CONDITIONS
    }
    gain = {"mixture": 0.1, "seanet": 6.3, "improvement": {"mean": 6.2, "low": 5.0, "high": 7.4}}
    wrong = {"improvement": {"mean": -1.9, "low": -3.0, "high": -0.8}}
    same = {"improvement": {"mean": 5.5, "low": 4.0, "high": 7.0}}
    noisy = {"talker_0": gain | {"wrong_lips": wrong}, "talker_0_same": gain | {"wrong_lips": same}}
    intelligible = {"talker_0": {"mixture": 0.61, "seanet": 0.78, "improvement": {"mean": 0.17}}}
    clips = len({answer.clip for answer in answers})
    return {"clips": clips, "wer": wer, "contrasts": contrasts, "si_sdr": noisy, "stoi": intelligible}


def _rate(answers: list[Heard], model: str, condition: str) -> dict[str, float]:
    rows = [answer for answer in answers if (answer.model, answer.condition) == (model, condition)]
    wer = sum(row.errors for row in rows) / sum(row.words for row in rows)
    return {"wer": wer, "low": max(0.0, wer - 0.05), "high": wer + 0.06}


def _contrast(diff: float) -> dict[str, float]:
    p_holm = 0.02 if abs(diff) > 0.1 else 0.4
    return {"diff": diff, "ci_low": diff - 0.06, "ci_high": diff + 0.06, "p": 0.01, "p_holm": p_holm}


def _answer(rng: np.random.Generator, key: str, dataset: str, text: str, condition: str, model: str) -> Heard:
    harder = 1 if model == "video" else 1 + _HARDER[condition] * (0.4 if model.startswith("av") else 1.2)
    heard: list[str] = []
    for word in text.split():
        wrong = rng.random() < _WRONG[model] * harder
        heard += [[], [str(rng.choice(WORDS))], [word, HOSTILE]][rng.integers(3)] if wrong else [word]
    hypothesis = " ".join(heard)
    errors, words = word_errors(text, hypothesis)
    return Heard(key, dataset, "s1", condition, model, text, hypothesis, errors, words)


def _write_media(folder: Path, keys: list[str], texts: list[str], dataset: str) -> None:
    def append(tar: tarfile.TarFile, shard: str, clip: SpeechClip) -> SpeechClip:
        start = tar.offset
        add_member(tar, f"{clip.key}/lips.mkv", film(mouths(len(clip.key))))
        add_member(tar, f"{clip.key}/audio.wav", wav((20000 * _tone(0, len(clip.key))).astype(np.int16)))
        return SpeechClip(**vars(clip) | {"shard": shard, "offset": start})

    clips = [
        clip_of(key, FRAMES, transcript=text, speaker="s1", split="test", dataset_name=dataset)
        for key, text in zip(keys, texts, strict=True)
    ]
    write_table(folder / "index.tsv", write_shards(clips, folder, append), SpeechClip)
    write_table(folder / "failures.tsv", [], Failed)
    write_table(folder / "words.tsv", [Word(keys[0], HOSTILE, 0.2, 0.6)], Word)


def mouths(seed: int) -> np.ndarray:
    """uint8 [T,96,96]: a dark mouth that opens and closes."""
    y, x = np.mgrid[-48:48, -48:48]
    open_ = 8 + 7 * np.sin(np.arange(FRAMES) * 0.9 + seed)[:, None, None]
    return np.where((x / 30) ** 2 + (y / open_) ** 2 < 1, 40, 150).astype(np.uint8)


def _tone(kind: int, seed: int) -> np.ndarray:
    times = np.arange(640 * FRAMES) / 16000
    return (0.4 * np.sin(2 * np.pi * (200 + 20 * seed % 300 + 100 * kind) * times)).astype(np.float32)
