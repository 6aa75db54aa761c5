"""Batches of prepared clips: who is in them, what is drawn for each clip, and what is told before training."""

import re
from collections import Counter
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
import torch
from scipy.signal import correlate
from speech_clips import clip_of, hiss, write_clips, write_muse

from avs.avsr.avhubert import SIDE
from avs.avsr.conditions import ConditionParams, Interference
from avs.avsr.data import BatchParams, Kept, SpeechData, frame_words, masked
from avs.avsr.mixtures import Mixtures, write_mixtures
from avs.avsr.noise import NoiseParams
from avs.avsr.orders import chosen, cut, shares_of, shuffled
from avs.avsr.text import word_tokenizer
from avs.core.errors import InputError
from avs.core.params import build
from avs.core.speech import Word
from avs.lips.cache import MuseFeatures
from avs.lips.media import SpeechClip, SpeechShards

CLIPS = [
    clip_of("a", 50, transcript="one two", speaker="m"),
    clip_of("b", 52, transcript="two", speaker="m", dataset_name="mcorec"),
    clip_of("c", 55, transcript="three one two", speaker="n"),
    clip_of("d", 51, transcript="one four", split="test", speaker="m"),
    clip_of("e", 50, transcript="two", split="test", speaker="n"),
]
WORDS = [Word("a", "one", 0.1, 0.5), Word("a", "two", 0.5, 0.9), Word("c", "two", 1.0, 1.2), Word("d", "four", 0, 0.1)]
TWO = NoiseParams(interferers=(2,), voices_snr=(0, 0))
NONE = NoiseParams(interferers=(0,))


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return write_clips(tmp_path_factory.mktemp("media"), CLIPS, WORDS, hiss)


@pytest.fixture(scope="module")
def muse(tmp_path_factory: pytest.TempPathFactory) -> MuseFeatures:
    return MuseFeatures(write_muse(tmp_path_factory.mktemp("muse"), CLIPS))


def data_of(folder: Path, p: BatchParams | None = None, noise: NoiseParams = TWO, **options: object) -> SpeechData:
    media = SpeechShards(folder)
    tokenizer = word_tokenizer(clip.transcript for clip in CLIPS if clip.split == "train")
    return SpeechData(media, options.pop("muse", None), tokenizer, p or BatchParams(), noise, **options)


def of(data: SpeechData, names: str) -> list[SpeechClip]:
    there = {clip.key: clip for clip in data.media.clips}
    return [there[name] for name in names]


def keys(orders: list[tuple[SpeechClip, ...]]) -> list[str]:
    return ["".join(clip.key for clip in order) for order in orders]


def equal(one: object, other: object) -> bool:
    tensors = ("mixture", "voice", "lips", "labels", "words", "seanet")
    return all(torch.equal(getattr(one, name), getattr(other, name)) for name in tensors)


# which clips


def lengths(*frames: int) -> list[SpeechClip]:
    return [clip_of(f"k{number}", count) for number, count in enumerate(frames)]


def test_batches_keep_both_limits() -> None:
    clips = lengths(10, 10, 10, 30, 30, 200, 10)
    assert [[clip.frames for clip in order] for order in cut(clips, 3, 70)] == [[10, 10, 10], [30, 30], [200], [10]]
    assert cut([], 3, 70) == []


def test_clips_of_one_length_come_together_and_every_time_otherwise() -> None:
    clips = lengths(*np.random.default_rng(0).integers(20, 400, 500))
    orders = [shuffled(clips, 8, 2000, np.random.default_rng(seed)) for seed in (0, 0, 1)]
    assert orders[0] == orders[1] != orders[2]
    for batches in orders:
        assert Counter(clip for order in batches for clip in order) == Counter(clips)
        padded = sum(len(order) * max(clip.frames for clip in order) for order in batches)
        assert padded < 1.1 * sum(clip.frames for clip in clips)
    firsts = [order[0].frames for order in orders[0]]
    assert firsts != sorted(firsts)
    neighbours = [
        {frozenset((order[0].key, clip.key)) for order in batches for clip in order} for batches in orders[1:]
    ]
    assert len(neighbours[0] & neighbours[1]) < len(clips) / 4  # other clips in a batch


def test_shares_are_of_one() -> None:
    assert shares_of(["lrs2:0.3", "vox2:0.1"]) == pytest.approx({"lrs2": 0.75, "vox2": 0.25}, abs=1e-12)
    assert shares_of([]) == {}


@pytest.mark.parametrize("entry", ["lrs2", "lrs2:", ":1", "lrs2:0", "lrs2:-1", "lrs2:nan", "lrs2:inf", "vox2:1"])
def test_wrong_mixtures_are_refused(entry: str) -> None:
    with pytest.raises(InputError, match=r"mixture \('.*'\) must be a data set and its weight"):
        build(BatchParams, {"mixture": ["vox2:1", entry]}, "params.yaml")


def test_an_epoch_has_its_shares_of_each_set_and_goes_round_in_the_large_one() -> None:
    sets = {"small": lengths(*10 * [20]), "large": [clip_of(f"L{n}", 20) for n in range(35)]}
    shares = {"small": 0.5, "large": 0.5}
    epochs = [chosen(sets, shares, 3, number) for number in range(7)]
    for clips in epochs:
        assert Counter(clip.key[0] for clip in clips) == {"k": 10, "L": 10}
        assert len(set(clips)) == 20
    of_large = Counter(clip for clips in epochs for clip in clips if clip.key[0] == "L")
    assert set(of_large.values()) == {2}  # 7 epochs of 10 are twice 35
    assert chosen(sets, shares, 3, 2) == epochs[2] != chosen(sets, shares, 4, 2)
    assert len(chosen(sets, {"large": 1.0}, 3, 0)) == 35
    assert len(chosen(sets, {}, 3, 0)) == 45


def test_an_epoch_is_the_training_clips_in_an_order_of_its_own(folder: Path) -> None:
    data = data_of(folder, BatchParams(clips=1))
    orders = [keys(data.epoch(number)) for number in range(6)]
    assert {tuple(sorted(order)) for order in orders} == {("a", "b", "c")}
    assert len({tuple(order) for order in orders}) > 1
    assert orders == [keys(data_of(folder, BatchParams(clips=1)).epoch(number)) for number in range(6)]
    assert keys(data_of(folder, BatchParams(mixture=("mcorec:1",))).epoch(0)) == ["b"]
    assert keys(data.evaluation("test")) == ["e", "d"]


# what is in a batch


def test_a_batch_for_evaluation_is_the_clips_padded(folder: Path, muse: MuseFeatures) -> None:
    data = data_of(folder, muse=muse)
    batch = data.batch(of(data, "de"))
    assert (batch.clips, batch.frames) == (("d", "e"), (51, 50))
    edge = (96 - SIDE) // 2
    assert batch.muse is not None
    for row, clip in enumerate(of(data, "de")):
        sound = hiss(clip).astype(np.float32) / 32768
        np.testing.assert_array_equal(batch.voice[row, : len(sound)], sound)
        np.testing.assert_array_equal(batch.mixture[row, : len(sound)], sound)
        lips = data.lips(clip)[:, edge : edge + SIDE, edge : edge + SIDE]
        np.testing.assert_array_equal(batch.lips[row, : clip.frames], lips)
        np.testing.assert_array_equal(batch.muse[row, : clip.frames], muse.load(clip))
    for tensor in (batch.mixture[1, 32000:], batch.voice[1, 32000:], batch.lips[1, 50:], batch.muse[1, 50:]):
        assert tensor.numel() > 0
        assert not tensor.any()
    assert (batch.mixture.shape, batch.mixture.dtype) == ((2, 640 * 51), torch.float32)
    assert (batch.lips.dtype, batch.labels.dtype, batch.words.dtype) == (torch.uint8, torch.int64, torch.int64)
    one, two = (data.tokenizer.encode(word)[0] for word in ("one", "two"))
    assert batch.labels.tolist() == [[one, 1], [two, -1]]  # "four" is in no training clip
    assert batch.seanet.tolist() == [True, True]


@pytest.mark.parametrize(("scope", "wanted"), [("all", [True, True]), ("mcorec", [False, True])])
def test_the_scope_says_which_rows_go_through_seanet(
    folder: Path, muse: MuseFeatures, scope: str, wanted: list[bool]
) -> None:
    data = data_of(folder, muse=muse, seanet_scope=scope)
    batch = data.batch(of(data, "ab"))
    assert batch.seanet.tolist() == wanted
    assert batch.muse is not None
    assert [bool(row.any()) for row in batch.muse] == wanted
    without = data_of(folder, seanet_scope=scope).batch(of(data, "ab"))
    assert (without.seanet.tolist(), without.muse) == ([False, False], None)


def test_wrong_lips_are_those_of_the_next_clip_of_the_split(folder: Path, muse: MuseFeatures) -> None:
    """From their start again where they end, whatever else is in the batch; in training nobody asks for them."""
    data = data_of(folder, muse=muse)
    found = {key: data.batch(of(data, key)).wrong_muse for key in "abcde"}
    for key, other in zip("abcde", "bcaed", strict=True):
        clip, features = of(data, key)[0], muse.load(*of(data, other))
        wanted = np.concatenate([features, features])[: clip.frames]
        np.testing.assert_array_equal(found[key][0], wanted)  # type: ignore[index]
    together = data.batch(of(data, "de")).wrong_muse
    assert together is not None
    assert torch.equal(together[0], found["d"][0])  # type: ignore[index]
    assert not together[1, 50:].any()
    assert data.batch(of(data, "ab"), 0, True).wrong_muse is None
    assert data_of(folder).batch(of(data, "ab")).wrong_muse is None
    in_scope = data_of(folder, muse=muse, seanet_scope="mcorec").batch(of(data, "ab")).wrong_muse
    np.testing.assert_array_equal(in_scope[1], muse.load(*of(data, "b")))  # type: ignore[index]
    assert not in_scope[0].any()  # type: ignore[index]


def test_frames_have_the_word_that_is_said_in_their_middle(folder: Path) -> None:
    data = data_of(folder)
    assert data.words == ("one", "two")
    words = data.batch(of(data, "abcd")).words
    assert words[0].tolist() == [2] * 2 + [0] * 10 + [1] * 10 + [2] * 28 + [-1] * 5
    assert set(words[1].tolist()) == {-1}  # no times are known
    assert words[2].tolist() == [2] * 25 + [1] * 5 + [2] * 25
    assert words[3, :4].tolist() == [-1, -1, 2, 2]  # a word that no training clip has
    assert frame_words([], 3, {}).tolist() == [-1, -1, -1]


def test_training_draws_by_seed_epoch_and_clip_alone(folder: Path) -> None:
    data = data_of(folder)
    pair = data.batch(of(data, "ab"), 3, True)
    assert equal(pair, data_of(folder).batch(of(data, "ab"), 3, True))
    alone = data.batch(of(data, "a"), 3, True)
    np.testing.assert_array_equal(alone.mixture[0], pair.mixture[0, :32000])
    np.testing.assert_array_equal(alone.lips[0], pair.lips[0, :50])
    for other in (
        data.batch(of(data, "a"), 4, True),
        data_of(folder, BatchParams(seed=1)).batch(of(data, "a"), 3, True),
    ):
        assert not torch.equal(alone.mixture, other.mixture)
        assert not torch.equal(alone.lips, other.lips)
        assert torch.equal(alone.voice, other.voice)


def test_interferers_change_no_crop_and_come_from_training(folder: Path) -> None:
    quiet, loud = (data.batch(of(data, "a"), 0, True) for data in (data_of(folder, noise=NONE), data_of(folder)))
    assert torch.equal(quiet.mixture, quiet.voice)
    assert torch.equal(quiet.lips, loud.lips)
    added = (loud.mixture - loud.voice)[0].numpy()
    assert np.mean(added**2) == pytest.approx(np.mean(loud.voice.numpy() ** 2), rel=1e-3)  # 0 dB
    parts = {clip.key: np.abs(correlate(hiss(clip) / 32768, added, "valid")).max() for clip in CLIPS[1:4]}
    assert min(parts["b"], parts["c"]) > 5 * parts["d"]


def test_crops_go_everywhere_and_half_of_them_are_turned(folder: Path) -> None:
    data = data_of(folder, noise=NONE)
    whole = data.lips(*of(data, "a"))
    corners, turned = set(), 0
    for epoch in range(60):
        mouth = data.batch(of(data, "a"), epoch, True).lips[0].numpy()
        places = [
            (y, x, flip)
            for y in range(9)
            for x in range(9)
            for flip in (1, -1)
            if np.array_equal(mouth[0], whole[0, y : y + SIDE, x : x + SIDE][:, ::flip])
        ]
        assert len(places) == 1
        y, x, flip = places[0]
        np.testing.assert_array_equal(mouth, whole[:, y : y + SIDE, x : x + SIDE][..., ::flip])
        corners.add((y, x))
        turned += flip < 0
    assert {y for y, _ in corners} == {x for _, x in corners} == set(range(9))
    assert 15 < turned < 45  # of 60: four standard errors


def test_masks_are_shorter_than_the_window_one_for_each_stride() -> None:
    counts = []
    for seed in range(200):
        found = masked(np.ones(100), 10, 25, np.random.default_rng(seed))
        counts.append(int((found == 0).sum()))
    assert max(counts) <= 36
    assert np.mean(counts) == pytest.approx(4 * 4.5 * 0.92, rel=0.15)  # where masks meet, they count once
    assert masked(np.ones(1), 10, 25, np.random.default_rng(0)).tolist() == [1]


def test_time_masks_are_of_sound_and_picture(folder: Path) -> None:
    data = data_of(folder, BatchParams(time_masks=True), noise=NONE)
    plain = data_of(folder, noise=NONE)
    silent = black = 0
    for epoch in range(10):
        drawn, without = (one.batch(of(data, "a"), epoch, True) for one in (data, plain))
        assert torch.equal(drawn.mixture, drawn.voice)
        gone = (drawn.voice == 0) & (without.voice != 0)
        assert torch.equal(drawn.voice[~gone], without.voice[~gone])
        silent += int(gone.sum())
        dark = (drawn.lips == 0).flatten(2).all(dim=2)
        assert torch.equal(drawn.lips[~dark], without.lips[~dark])
        black += int(dark.sum())
        assert torch.equal(data.batch(of(data, "a"), epoch).voice, plain.batch(of(data, "a")).voice)
    assert 0.1 < silent / 320000 < 0.3  # two masks of 0.2 s on average in 2 s
    assert 0.1 < black / 500 < 0.3


def test_conditions_are_what_was_written(folder: Path, tmp_path: Path) -> None:
    data = data_of(folder)
    with pytest.raises(InputError, match="needs mixtures, and none were written"):
        data.batch(of(data, "de"), condition="talker_0")
    interference = Interference(ConditionParams(("talker_0",)), data.media.clips, data.voice)
    write_mixtures(tmp_path, data.clips("test"), interference)
    data.mixed = Mixtures(tmp_path)
    data.check(["test"])
    batch = data.batch(of(data, "d"), condition="talker_0")
    np.testing.assert_array_equal(batch.mixture[0], data.mixed.load("d", "talker_0"))
    assert not torch.equal(batch.mixture, batch.voice)


def test_batches_made_ahead_are_the_same_in_order(folder: Path) -> None:
    data = data_of(folder, BatchParams(clips=1))
    orders = data.evaluation("train")
    found = list(data.batches("train", "clean"))
    assert [batch.clips for batch in found] == [tuple(clip.key for clip in order) for order in orders]
    assert all(equal(batch, data.batch(order)) for batch, order in zip(found, orders, strict=True))


def test_what_was_read_stays_in_memory_up_to_its_limit(folder: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    read: list[str] = []
    lips = SpeechShards.lips
    monkeypatch.setattr(SpeechShards, "lips", lambda self, clip: read.append(clip.key) or lips(self, clip))
    for kept, wanted in ((Kept(), {"a": 1, "c": 1}), (Kept(50 * 96 * 96), {"a": 1, "c": 3})):
        read.clear()
        for data in (data_of(folder, kept=kept), data_of(folder, kept=kept), data_of(folder, kept=kept)):
            for clip in of(data, "ac"):
                np.testing.assert_array_equal(data.lips(clip), lips(data.media, clip))
        assert Counter(read) == wanted


# what is told before


def test_good_data_passes(folder: Path, muse: MuseFeatures) -> None:
    data_of(folder, muse=muse).check(["test"])


def test_all_that_is_wrong_is_told_at_once(muse: MuseFeatures, tmp_path: Path) -> None:
    clips = [
        clip_of("a", 50, transcript="one two", media="other"),
        clip_of("b", 52, transcript="", dataset_name=""),
        clip_of("c", 2, transcript="one one"),
        clip_of("f", 60, transcript="two", flags="other_rate"),
        clip_of("g", 900, transcript="two"),
    ]

    def torn(clip: SpeechClip) -> np.ndarray:
        return hiss(clip)[: -1 if clip.key == "f" else None]

    write_clips(tmp_path, clips, (), torn)
    p = BatchParams(frames=800, mixture=("lrs2:1",))
    with pytest.raises(InputError) as told:
        data_of(tmp_path, p, muse=muse).check(["test"])
    text = str(told.value)
    for line in (
        r"split test: no clip \(splits there: train\)",
        r"avsr\.mixture: no training clip of lrs2 \(data sets there: , grid\)",
        r"dataset_name is missing: 1 of 5 clips, first b",
        r"video was not at 25 frames a second: 1 of 5 clips, first f: video=f\.mp4",
        r"Audio/MuSE length mismatch: 1 of 5 clips, first f: wav=38399, expected=38400",
        r"more labels than frames: 1 of 5 clips, first c: labels=2, frames=2",
        r"longer than a batch: 1 of 5 clips, first g: frames=900, at most 800",
        r"MuSE cache miss: 2 of 5 clips, first f",
        r"MuSE feature length mismatch: 1 of 5 clips, first c: video_len=2, muse_len=55",
        r"MuSE cache entry of other media: 1 of 5 clips, first a",
    ):
        assert re.search(f"^{line}", text, re.MULTILINE), line


def test_clips_in_which_nobody_speaks_are_trained_on(tmp_path: Path) -> None:
    """AVYT's `silent`: alone in a batch and beside others. A set without any word is refused."""
    data = data_of(write_clips(tmp_path, [CLIPS[0], replace(CLIPS[1], transcript="")], WORDS, hiss))
    data.check()
    assert data.batch(of(data, "b"), 0, True).labels.shape == (1, 0)
    assert data.batch(of(data, "ba"), 0, True).labels[0].tolist() == [-1, -1]
    write_clips(tmp_path, [replace(clip, transcript=" ") for clip in CLIPS[:2]])
    with pytest.raises(InputError, match="no words: all 2 training clips have an empty transcript"):
        data_of(tmp_path, noise=NONE).check()


def test_a_clip_that_is_alone_with_seanet_has_no_wrong_lips(folder: Path, muse: MuseFeatures) -> None:
    data_of(folder, muse=muse, seanet_scope="mcorec").check(["test"])
    with pytest.raises(InputError, match="split train: only b goes through SEANet, and its control, wrong lips"):
        data_of(folder, muse=muse, seanet_scope="mcorec").check(["train"])


def test_without_training_clips_or_interferers_nothing_starts(folder: Path) -> None:
    with pytest.raises(InputError, match=r"split dev: no clip \(splits there: test, train\)"):
        data_of(folder, BatchParams(train=("dev",))).check()
    with pytest.raises(InputError, match="1 of 3 clips, first b, have no other training clip of mcorec by another"):
        data_of(folder, noise=replace(TWO, voices_of=("mcorec",), other_speakers=True)).check()


def test_torn_media_is_told_by_name_when_it_is_read(tmp_path: Path) -> None:
    write_clips(tmp_path, CLIPS[:1], (), lambda clip: hiss(clip)[1:])
    with pytest.raises(InputError, match=r"^a: Audio/MuSE length mismatch: wav=31999, expected=32000"):
        data_of(tmp_path).batch(SpeechShards(tmp_path).clips)
    longer = replace(SpeechShards(tmp_path).clips[0], frames=51)
    with pytest.raises(InputError, match=r"^a: pictures \[50, 96, 96\], expected \[51, 96, 96\]"):
        data_of(tmp_path).lips(longer)


def test_what_decides_a_training_is_described(folder: Path, muse: MuseFeatures, tmp_path: Path) -> None:
    known = data_of(folder).described()
    assert data_of(folder, kept=Kept(0)).described() == known
    others = [
        data_of(folder, BatchParams(seed=1)),
        data_of(folder, noise=NONE),
        data_of(folder, muse=muse),
        *(
            data_of(write_clips(tmp_path / name, [replace(CLIPS[0], **{name: "x"}), *CLIPS[1:]], WORDS, hiss))
            for name in ("media", "speaker")
        ),
    ]
    assert all(data.described() != known for data in others)


@pytest.mark.parametrize("key", ["clips", "frames", "seed"])
def test_wrong_parameters_are_refused(key: str) -> None:
    with pytest.raises(InputError, match=rf"{key} \(-1\) must be >= "):
        build(BatchParams, {key: -1}, "params.yaml")
