from dataclasses import replace
from itertools import pairwise
from pathlib import Path

import numpy as np
import pytest

from avs.core.footage import read_footage
from avs.core.store import sha256_file
from avs.speech.demo import WORDS, SpeechDemoParams, render, scripts, spoken
from avs.speech.talker import PHONES, speaker

SMALL = SpeechDemoParams(train=3, val=1, test=2, speakers=2, words=3)


@pytest.fixture(scope="module")
def video(tmp_path_factory: pytest.TempPathFactory) -> Path:
    path = tmp_path_factory.mktemp("demo") / "a.mp4"
    render(scripts(SMALL)[0], path)
    return path


def test_the_same_script_gives_the_same_bytes(video: Path, tmp_path: Path) -> None:
    render(scripts(SMALL)[0], tmp_path / "b.mp4")
    assert sha256_file(video) == sha256_file(tmp_path / "b.mp4")
    render(scripts(replace(SMALL, seed=1))[0], tmp_path / "c.mp4")
    assert sha256_file(video) != sha256_file(tmp_path / "c.mp4")


def test_a_larger_demo_keeps_the_clips_of_a_smaller_one() -> None:
    larger = scripts(replace(SMALL, train=8, test=9))
    assert set(scripts(SMALL)) < set(larger)
    assert len({script.key for script in larger}) == 18


def test_defaults_are_short_sentences_of_a_small_vocabulary() -> None:
    p = SpeechDemoParams()
    assert len(scripts(p)) == 84
    assert {script.speaker for script in scripts(p)} == {f"synthetic{n}" for n in range(6)}
    assert {word for script in scripts(p) for word in script.words} == set(WORDS)
    frames = [spoken(script)[0].frames for script in scripts(p)]
    assert 50 <= min(frames) <= max(frames) <= 85


def test_every_letter_of_a_word_is_a_phone() -> None:
    assert {letter for word in WORDS for letter in word} <= set(PHONES)
    assert len(set(WORDS)) == len(WORDS)


def test_words_follow_each_other_within_the_clip() -> None:
    for script in scripts(SMALL):
        speech, words = spoken(script)
        assert tuple(word.word for word in words) == script.words
        edges = [0.0, *(edge for word in words for edge in (word.start, word.end)), speech.frames / 25]
        assert all(before < after for before, after in pairwise(edges))


def test_sound_and_mouth_are_in_step(video: Path) -> None:
    """It sounds during words only, and the mouth is darker, which is more open, where the voice is louder."""
    speech, words = spoken(scripts(SMALL)[0])
    footage = read_footage(video, lambda n, picture: float((picture[..., 0] < 60).mean()))
    assert (len(footage.seen), footage.flags) == (speech.frames, ())
    loudness = np.sqrt(np.square(footage.audio.reshape(-1, 640).astype(float)).mean(axis=1))
    times = (np.arange(speech.frames) + 0.5) / 25
    during = np.any([(word.start < times) & (times < word.end) for word in words], axis=0)
    assert loudness[during].mean() > 10 * loudness[~during].mean()
    lags = {lag: np.corrcoef(loudness[5:-5], np.roll(footage.seen, lag)[5:-5])[0, 1] for lag in range(-4, 5)}
    assert lags[0] > 0.3
    assert max(lags, key=lambda lag: lags[lag]) == 0


def test_speakers_differ() -> None:
    people = [speaker(str(n), np.random.default_rng(n)) for n in range(20)]
    assert 90 < min(p.pitch for p in people) < 130 < 160 < max(p.pitch for p in people) < 225
