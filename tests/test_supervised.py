"""Learnt eventness: what each network finds, what it may know of whom, and its training by the published numbers."""

from __future__ import annotations

import json
from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
import torch
from golden_fill import noise

from avs.audio import supervised
from avs.audio.eventness import EventnessParams, eventness, make_backend, methods
from avs.audio.features import basic_features, fbank_features
from avs.audio.scoring import score_clips
from avs.audio.supervised import (
    Recipe,
    Supervised,
    class_loss,
    event_loss,
    fit,
    plan_lessons,
)
from avs.core.clips import Clip, Failed, write_table
from avs.core.errors import InputError
from avs.core.execute import ExecutionParams
from avs.core.params import build
from avs.core.store import ItemStore, item_key
from avs.datasets import DataParams, install, open_dataset
from avs.datasets.demo import DemoParams
from avs.datasets.local import LocalParams
from avs.preprocess import MediaShards, preprocess

LEARNT = [name for name in methods() if name.startswith("audio_")]
SECONDS, RATE = 6, 16000
INLINE = ExecutionParams(backend="inline")


def learner(method: str) -> Supervised:
    backend = make_backend(method)
    assert isinstance(backend, Supervised)
    return backend


def make_clips(train: int, test: int) -> list[Clip]:
    """Clips of three classes, two event seconds each, every one of a video of its own."""
    rng = np.random.default_rng(0)
    clips = []
    for number in range(train + test):
        start, split = float(rng.integers(0, SECONDS - 1)), "train" if number < train else "test"
        label = ("Bell", "Dog", "Saw")[number % 3]
        digest = f"{rng.integers(2**32):08x}"
        clips.append(Clip(str(number), split, label, start, start + 2, SECONDS, f"{number}.mp4", digest))
    return clips


def make_features(clips: Sequence[Clip], columns: int = 10) -> np.ndarray:
    """Noise, in which the events of a class raise three columns of its own."""
    features = np.stack([noise(f"features{c.key}", SECONDS * columns).reshape(SECONDS, columns) for c in clips])
    for row, clip in zip(features, clips, strict=True):
        first = 3 * ("Bell", "Dog", "Saw").index(clip.label)
        row[clip.event(), first : first + 3] += 1.5
    return features.astype(np.float32)


def scores(method: str, clips: Sequence[Clip], features: np.ndarray, folds: int = 4, epochs: int = 3) -> np.ndarray:
    return learner(method).learn(features, clips, plan_lessons(clips, folds), epochs=epochs)


def relabel(clips: Sequence[Clip], place: int) -> list[Clip]:
    """The same clips, one of them with another class and event."""
    clip = clips[place]
    changed = replace(clip, label="Organ", start=(clip.start + 2) % 4, end=(clip.start + 2) % 4 + 1)
    return [*clips[:place], changed, *clips[place + 1 :]]


def sounds(clips: Sequence[Clip]) -> np.ndarray:
    """[N,S]: a tone of the class in event seconds, and a louder hiss in two of the others."""
    waveforms = 0.001 * np.stack([noise(f"sound{clip.key}", SECONDS * RATE) for clip in clips])
    time = np.arange(RATE) / RATE
    for clip, waveform in zip(clips, waveforms, strict=True):
        second = waveform.reshape(SECONDS, RATE)
        pitch = 300 * 3 ** ("Bell", "Dog", "Saw").index(clip.label)
        second[clip.event()] += 0.1 * np.sin(2 * np.pi * pitch * time)
        second[np.flatnonzero(~clip.event())[:2]] += 0.4 * noise("hiss", RATE)
    return waveforms.astype(np.float32)


def found(clips: Sequence[Clip], scores: np.ndarray, split: str) -> float:
    """Share of the two best seconds that are event seconds."""
    chosen = [i for i, clip in enumerate(clips) if clip.split == split]
    return float(np.mean([clips[i].event()[np.argsort(-scores[i])[:2]] for i in chosen]))


def test_there_are_five() -> None:
    assert LEARNT == [
        "audio_basic_lr",
        "audio_basic_mlp",
        "audio_basic_mlp_cls",
        "audio_basic_mlp_cls_target",
        "audio_fbank_mlp",
    ]


@pytest.mark.parametrize("method", LEARNT)
def test_finds_the_planted_event_where_loudness_misleads(method: str) -> None:
    clips = make_clips(train=36, test=12)
    waveforms = sounds(clips)
    describe = fbank_features if learner(method).inputs == "fbank" else basic_features
    scored = scores(method, clips, describe(waveforms, num_seconds=SECONDS), epochs=500)
    assert scored.dtype == np.float32
    assert found(clips, eventness("energy", waveforms, num_seconds=SECONDS), "test") < 0.1
    assert found(clips, scored, "test") > 0.9
    assert found(clips, scored, "train") > 0.9


@pytest.mark.parametrize("method", LEARNT)
def test_no_network_scores_a_video_whose_labels_it_saw(method: str) -> None:
    clips = make_clips(train=10, test=4)
    clips[1] = replace(clips[1], sha256=clips[0].sha256)  # a second row of one video
    clips[12] = replace(clips[12], sha256=clips[0].sha256)  # and a third in another split
    features = make_features(clips)
    before, after = scores(method, clips, features), scores(method, relabel(clips, 0), features)
    unchanged = np.flatnonzero((before == after).all(axis=1)).tolist()
    assert {0, 1, 12} <= set(unchanged)
    assert unchanged == next(lesson.pupils.tolist() for lesson in plan_lessons(clips, 4) if 0 in lesson.pupils)
    assert not np.array_equal(scores(method, clips, features, 1)[0], scores(method, relabel(clips, 0), features, 1)[0])


def test_no_network_scores_a_video_whose_features_it_saw() -> None:
    """Not even their mean and deviation: one fold's features leave the scores of its own network's others alone."""
    clips = make_clips(8, 0)
    features = make_features(clips)
    before = scores("audio_basic_lr", clips, features, folds=2)
    (first, second) = plan_lessons(clips, 2)
    louder = features.copy()
    louder[second.pupils[0]] *= 100
    after = scores("audio_basic_lr", clips, louder, folds=2)
    others = second.pupils[1:]
    np.testing.assert_array_equal(after[others], before[others])
    assert (after[first.pupils] != before[first.pupils]).any()


@pytest.mark.parametrize("method", LEARNT)
def test_labels_outside_training_do_not_matter(method: str) -> None:
    clips = make_clips(train=8, test=4)
    clips[9] = replace(clips[9], split="val")
    features = make_features(clips)
    changed = relabel(relabel(clips, 9), 10)
    np.testing.assert_array_equal(scores(method, clips, features), scores(method, changed, features))


def test_labels_without_sense_are_learnt_by_heart_only_without_folds() -> None:
    """Events at random places: cross-fitted, training clips are at chance (1/3) as the others are."""
    clips = make_clips(train=60, test=30)
    features = np.stack([noise(f"nothing{c.key}", SECONDS * 80).reshape(SECONDS, 80) for c in clips], dtype=np.float32)
    by_heart = scores("audio_fbank_mlp", clips, features, folds=1, epochs=100)
    crossed = scores("audio_fbank_mlp", clips, features, folds=5, epochs=100)
    assert found(clips, by_heart, "train") > 0.9
    assert found(clips, crossed, "train") < 0.45  # 120 anchors: a standard error of 0.043
    assert found(clips, crossed, "test") < 0.5


@pytest.mark.parametrize("method", LEARNT)
def test_bits_depend_on_neither_threads_nor_chance(method: str, monkeypatch: pytest.MonkeyPatch) -> None:
    """Small networks hardly show what several threads may do, so that their number itself is looked at too."""
    used = []
    monkeypatch.setattr(supervised, "fit", lambda *given: used.append(torch.get_num_threads()) or fit(*given))
    clips = make_clips(train=12, test=2)
    features = make_features(clips)
    torch.manual_seed(1)
    threads, state = torch.get_num_threads(), torch.random.get_rng_state()
    first = scores(method, clips, features)
    assert torch.equal(torch.random.get_rng_state(), state)
    torch.manual_seed(2)
    try:
        torch.set_num_threads(3)
        np.testing.assert_array_equal(first, scores(method, clips, features))
        assert (set(used), torch.get_num_threads()) == ({1}, 3)
    finally:
        torch.set_num_threads(threads)


def test_folds_are_even_and_known_by_the_video_alone() -> None:
    clips = make_clips(train=11, test=3)
    lessons = plan_lessons(clips, 4)
    assert sorted(np.concatenate([lesson.pupils for lesson in lessons])) == list(range(14))
    assert [len(lesson.pupils) for lesson in lessons] == [3, 3, 3, 3, 2]
    assert lessons[0].learners.tolist() == list(range(11))
    for lesson in lessons[1:]:
        assert not set(lesson.learners) & set(lesson.pupils)
        assert len(lesson.learners) + len(lesson.pupils) == 11


def test_a_clip_without_sound_teaches_nothing_and_is_scored() -> None:
    clips = make_clips(train=9, test=2)
    clips[4] = replace(clips[4], flags="short_video,no_audio")
    features = make_features(clips)
    scored = scores("audio_basic_mlp", clips, features)
    np.testing.assert_array_equal(scored, scores("audio_basic_mlp", relabel(clips, 4), features))
    assert np.isfinite(scored).all()
    assert all(4 not in lesson.learners for lesson in plan_lessons(clips, 4))


def test_too_little_to_learn_from() -> None:
    clips = make_clips(train=3, test=3)
    with pytest.raises(InputError, match=r"folds \(5\) must be at most the number of training videos with sound \(3\)"):
        plan_lessons(clips, 5)
    with pytest.raises(InputError, match=r"training videos with sound \(0\)"):
        plan_lessons([replace(clip, split="val") for clip in clips], 1)
    with pytest.raises(InputError, match="no background second in 3 training clips"):
        plan_lessons([replace(clip, start=0, end=SECONDS) for clip in clips], 3)
    with pytest.raises(InputError, match="no event second in 3 training clips"):
        plan_lessons([replace(clip, end=clip.start) for clip in clips], 3)
    one = [replace(clip, end=clip.start) for clip in clips[1:]]
    with pytest.raises(InputError, match="no event second in 2 training clips"):
        plan_lessons([clips[0], *one], 3)


def test_published_numbers() -> None:
    assert {name: learner(name).recipe for name in LEARNT} == {
        "audio_basic_lr": Recipe(lr=0.02, hidden=None, epochs=50),
        "audio_basic_mlp": Recipe(lr=0.002, hidden=64, epochs=50),
        "audio_fbank_mlp": Recipe(lr=0.002, hidden=128, epochs=50),
        "audio_basic_mlp_cls": Recipe(lr=0.001, hidden=64, epochs=30, classes=True),
        "audio_basic_mlp_cls_target": Recipe(lr=0.001, hidden=64, epochs=30, classes=True),
    }


def test_event_loss() -> None:
    """Mean over the batch; an event weighs as many times more as background is more frequent in all rows."""
    logits, batch, everything = (
        torch.tensor([[0.5], [-1.0], [2.0]]),
        torch.tensor([3, 0, 1]),
        torch.tensor([3, 0, 1, 0, 0]),
    )
    event, background = np.log1p(np.exp([-0.5, -2.0])), np.log1p(np.exp(-1.0))
    expected = (1.5 * event.sum() + background) / 3
    assert event_loss(logits, batch, everything).item() == pytest.approx(expected, rel=1e-6)


def test_class_loss() -> None:
    """Each row weighs total / (classes * rows of its class), and the sum is over the batch's weight."""
    logits, batch, everything = (
        torch.tensor([[0.5, 1, -1], [0, 2, 0.3]]),
        torch.tensor([0, 1]),
        torch.tensor([0, 0, 0, 1, 2]),
    )
    weight = 5 / (3 * np.array([3, 1]))
    nll = np.log(np.exp(logits.numpy()).sum(1)) - np.array([0.5, 2])
    expected = (weight * nll).sum() / weight.sum()
    assert class_loss(logits, batch, everything).item() == pytest.approx(expected, rel=1e-6)


def test_training_is_adamw_on_the_whole_loss() -> None:
    """Logistic regression of rows that fit into one batch, against AdamW written out (decay 0.01, betas 0.9, 0.999)."""
    x = noise("x", 60).reshape(20, 3)
    y = (np.arange(20) % 4 == 0).astype(np.int64)
    trained = fit(torch.tensor(x, dtype=torch.float32), torch.from_numpy(y), Recipe(lr=0.02, epochs=30))
    torch.manual_seed(0)
    drawn = torch.nn.Linear(3, 1)
    theta = np.append(drawn.weight.detach().numpy()[0], drawn.bias.item()).astype(np.float64)
    rows, first, second = np.column_stack([x, np.ones(20)]), 0, 0
    for step in range(1, 31):
        residual = np.where(y == 1, -3 / (1 + np.exp(rows @ theta)), 1 / (1 + np.exp(-rows @ theta)))
        gradient = rows.T @ residual / 20
        first, second = 0.9 * first + 0.1 * gradient, 0.999 * second + 0.001 * gradient**2
        theta = theta * (1 - 0.02 * 0.01)
        theta -= 0.02 * first / (1 - 0.9**step) / (np.sqrt(second / (1 - 0.999**step)) + 1e-8)
    found = [*trained.weight.detach().numpy()[0], trained.bias.item()]
    np.testing.assert_allclose(found, theta, rtol=0, atol=1e-5)


def test_raw_features_are_another_choice() -> None:
    clips = make_clips(train=8, test=2)
    features, lessons = 100 * make_features(clips), plan_lessons(clips, 2)
    backend = learner("audio_basic_lr")
    raw, standard = (backend.learn(features, clips, lessons, standardize=choice) for choice in (False, True))
    assert np.abs(raw).max() > 10 * np.abs(standard).max()


def test_a_sound_alone_cannot_be_scored() -> None:
    with pytest.raises(InputError, match=r"learns from labelled training clips"):
        eventness("audio_basic_lr", np.zeros((1, 16000), dtype=np.float32))


def test_params() -> None:
    assert build(EventnessParams, {"method": "audio_fbank_mlp", "folds": 1, "epochs": 9}, "params").epochs == 9
    for tree, message in (({"folds": 0}, r"folds \(0\) must be >= 1"), ({"epochs": 0}, r"epochs \(0\) must be >= 1")):
        with pytest.raises(InputError, match=message):
            build(EventnessParams, tree, "params")


@pytest.fixture
def media(tiny_videos: Path, tmp_path: Path) -> Path:
    """Six clips of three seconds with the event in the second one, the last two for testing."""
    table = tiny_videos / "rows.tsv"
    rows = [f"v{n}.mp4\tDog\t1\t2\t{'train' if n < 4 else 'test'}" for n in range(6)]
    table.write_text("\n".join(["video\tlabel\tstart\tend\tsplit", *rows]))
    local = LocalParams(str(tiny_videos), str(table), seconds=3)
    clips, _ = install(open_dataset("local", DataParams(DemoParams(), local)), INLINE)
    preprocess(clips, tiny_videos, tmp_path / "media", INLINE)
    write_table(tmp_path / "media/failures.tsv", [], Failed)
    return tmp_path / "media"


def test_the_stage_keeps_features_and_not_scores(media: Path, tmp_path: Path) -> None:
    lr = EventnessParams("audio_basic_lr", folds=2)
    assert score_clips(media, tmp_path / "a", lr, INLINE)["computed"] == 6
    assert np.load(tmp_path / "a/scores.npy").argmax(1).tolist() == [1] * 6
    assert np.load(tmp_path / "a/features.npy").shape == (6, 3, 10)
    meta = json.loads((tmp_path / "a/meta.json").read_text())
    assert (meta["scale"]["unit"], meta["folds"], meta["epochs"]) == ("logit", 2, 50)
    assert score_clips(media, tmp_path / "b", replace(lr, folds=4), INLINE)["computed"] == 0
    assert score_clips(media, tmp_path / "c", replace(lr, method="audio_basic_mlp_cls"), INLINE)["computed"] == 0
    assert score_clips(media, tmp_path / "d", replace(lr, method="audio_fbank_mlp"), INLINE)["computed"] == 6
    assert (tmp_path / "a/scores.npy").read_bytes() != (tmp_path / "b/scores.npy").read_bytes()
    assert score_clips(media, tmp_path / "e", lr, INLINE)["computed"] == 0
    assert (tmp_path / "a/scores.npy").read_bytes() == (tmp_path / "e/scores.npy").read_bytes()


def test_the_stage_refuses_before_any_work(media: Path, tmp_path: Path) -> None:
    with pytest.raises(InputError, match=r"folds \(5\)"):
        score_clips(media, tmp_path / "a", EventnessParams("audio_fbank_mlp"), INLINE)
    assert not list(ItemStore("eventness").folder.rglob("*"))


def test_scores_that_basic_features_hold_keep_their_keys(media: Path, tmp_path: Path) -> None:
    score_clips(media, tmp_path / "a", EventnessParams(), INLINE)
    first = MediaShards(media).clips[0]
    key = item_key(method="basic", features=2, media=first.media)
    assert ItemStore("eventness").load_array(key).shape == (3, 10)


def test_what_is_described_in_another_way_is_computed_again(
    media: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    fbank = EventnessParams("audio_fbank_mlp", folds=2)
    assert score_clips(media, tmp_path / "a", fbank, INLINE)["computed"] == 6
    monkeypatch.setattr("avs.audio.features.FBANK_VERSION", 99)
    assert score_clips(media, tmp_path / "b", fbank, INLINE)["computed"] == 6
    monkeypatch.setattr("avs.audio.features.VERSION", 99)
    assert score_clips(media, tmp_path / "c", fbank, INLINE)["computed"] == 6
