"""Evaluation's conditions: what each mixes in and at what SNR, written once and the same for every rerun."""

from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
from scipy.signal import correlate
from speech_clips import clip_of, hiss

from avs.avsr.conditions import ConditionParams, Interference, condition_of, synthetic
from avs.avsr.mixtures import Mixtures, write_mixtures
from avs.core.errors import InputError
from avs.core.media import wav
from avs.core.params import build
from avs.lips.media import SpeechClip

# two speakers are trained on and tested, a third is only in a split of its own
CLIPS = [
    *(clip_of(key, 75, split="train", speaker=who) for key, who in zip("abcd", "mnmn", strict=True)),
    *(clip_of(key, 60, split="test", speaker=who) for key, who in zip("efgh", "mnmn", strict=True)),
    *(clip_of(key, 75, split="unseen", speaker="o") for key in "ij"),
]
TEST = CLIPS[4:8]
BY_KEY = {clip.key: clip for clip in CLIPS}
VOICES = ("clean", "snr_5", "snr_-5", "talker_0", "talker_0_same", "talker_0_unseen", "talker_0_synthetic")


def sound(clip: SpeechClip) -> np.ndarray:
    return hiss(clip).astype(np.float32) / 32768


def interference(*names: str, clips: list[SpeechClip] = CLIPS, **changes: object) -> Interference:
    return Interference(build(ConditionParams, {"names": names, "babble": 3} | changes, "test"), clips, sound)


def content(folder: Path) -> dict[str, bytes]:
    return {path.name: path.read_bytes() for path in sorted(folder.iterdir())}


@pytest.mark.parametrize(
    ("name", "kind", "snr"),
    [
        ("clean", "clean", np.inf),
        ("snr_-5", "snr", -5),
        ("noise_10", "noise", 10),
        ("talker_0", "talker", 0),
        ("talker_-3_unseen", "unseen", -3),
    ],
)
def test_names_say_what_is_mixed_in(name: str, kind: str, snr: float) -> None:
    condition = condition_of(name)
    assert (condition.name, condition.kind, condition.snr) == (name, kind, snr)


@pytest.mark.parametrize("name", ["", "Clean", "snr", "snr_05", "snr_-0", "snr_5_same", "snr_1.5", "talker_0_other"])
def test_other_names_are_refused(name: str) -> None:
    with pytest.raises(InputError, match=r"condition \('.*'\) must be clean, snr_X"):
        condition_of(name)


def test_each_condition_mixes_in_what_it_says(tmp_path: Path) -> None:
    assert write_mixtures(tmp_path / "out", TEST, interference(*VOICES)) == len(TEST) * len(VOICES)
    mixtures = Mixtures(tmp_path / "out")
    assert mixtures.conditions == VOICES
    for clip in TEST:
        np.testing.assert_array_equal(mixtures.load(clip.key, "clean"), sound(clip))
        for name in VOICES[1:]:
            row = mixtures.rows[clip.key, name]
            voice, mixture = sound(clip), mixtures.load(clip.key, name)
            assert mixture.dtype == np.float32
            added = mixture - voice
            ratio = 10 * np.log10(np.mean(voice**2) / np.mean(added**2))
            assert ratio == pytest.approx(condition_of(name).snr, abs=0.01)  # 16 bits
            if name.endswith("synthetic"):
                continue
            sources = [BY_KEY[key] for key in row.sources.split()]
            assert clip not in sources
            whole = sum(s / np.sqrt(np.mean(s**2)) for s in (part(other, clip, added) for other in sources))
            np.testing.assert_allclose(added, row.gain * whole, atol=2e-4)
            splits, speakers = ({getattr(other, field) for other in sources} for field in ("split", "speaker"))
            assert splits == {"unseen" if name.endswith("unseen") else "test"}
            if name.startswith("talker"):
                assert speakers == {"talker_0": {"m", "n"} - {clip.speaker}, "talker_0_same": {clip.speaker}}.get(
                    name, {"o"}
                )
        assert mixtures.rows[clip.key, "snr_5"].sources == mixtures.rows[clip.key, "snr_-5"].sources
        assert len(mixtures.rows[clip.key, "snr_5"].sources.split()) == 3


def part(other: SpeechClip, clip: SpeechClip, added: np.ndarray) -> np.ndarray:
    """Where the sound of a longer clip was cut, found by correlation."""
    whole = sound(other)
    start = int(np.argmax(correlate(whole, added, "valid"))) if len(whole) > len(added) else 0
    return whole[start : start + len(added)]


def test_mixtures_are_written_once_and_alike(tmp_path: Path) -> None:
    write_mixtures(tmp_path / "one", TEST, interference(*VOICES))
    before = content(tmp_path / "one")
    assert write_mixtures(tmp_path / "one", TEST, interference(*VOICES)) == 0
    assert write_mixtures(tmp_path / "two", TEST, interference(*VOICES)) > 0
    assert before == content(tmp_path / "one") == content(tmp_path / "two")


def test_mixtures_are_written_anew_when_something_changes(tmp_path: Path) -> None:
    def written(clips: list[SpeechClip] = TEST, **changes: object) -> int:
        everything = [*CLIPS[:4], *clips, *CLIPS[8:]]
        return write_mixtures(tmp_path / "out", clips, interference("snr_5", clips=everything, **changes))

    assert written() == 4
    assert written(seed=1) == 4
    assert written(seed=1, babble=2) == 4
    assert written([replace(TEST[0], media="x"), *TEST[1:]], seed=1, babble=2) == 4
    assert written([*TEST, clip_of("k", 60, split="test", speaker="m")], seed=1, babble=2) == 5
    (tmp_path / "out/meta.json").write_text("torn")
    assert written() == 4


def test_an_interrupted_writing_is_begun_again(tmp_path: Path) -> None:
    write_mixtures(tmp_path / "out", TEST, interference("snr_5"))

    def stop(clip: SpeechClip) -> np.ndarray:
        if clip.key == "h":
            raise KeyboardInterrupt
        return sound(clip)

    broken = Interference(ConditionParams(("snr_0",), babble=1), CLIPS, stop)
    with pytest.raises(KeyboardInterrupt):
        write_mixtures(tmp_path / "out", TEST, broken)
    assert write_mixtures(tmp_path / "out", TEST, interference("snr_5")) == 4


def test_loud_mixtures_keep_their_peaks(tmp_path: Path) -> None:
    def loud(clip: SpeechClip) -> np.ndarray:
        return 16 * sound(clip)

    write_mixtures(tmp_path, TEST, Interference(ConditionParams(("snr_0",), babble=1), CLIPS, loud))
    mixtures = Mixtures(tmp_path)
    for clip in TEST:
        row = mixtures.rows[clip.key, "snr_0"]
        (other,) = row.sources.split()
        wanted = loud(clip) + row.gain * loud(BY_KEY[other]) / np.sqrt(np.mean(loud(BY_KEY[other]) ** 2))
        assert row.scale > 1
        np.testing.assert_allclose(mixtures.load(clip.key, "snr_0"), wanted, atol=row.scale / 32768)


def test_noise_of_a_folder(tmp_path: Path) -> None:
    (tmp_path / "noise").mkdir()
    (tmp_path / "noise/one.wav").write_bytes(wav(hiss(clip_of("z", 100))))
    write_mixtures(tmp_path / "out", TEST, interference("noise_0", noise=str(tmp_path / "noise")))
    row = Mixtures(tmp_path / "out").rows["e", "noise_0"]
    name, start = row.sources.split("@")
    assert name == "one.wav"
    wanted = sound(TEST[0]) + row.gain * hiss(clip_of("z", 100))[int(start) :][:38400] / 32768
    np.testing.assert_allclose(Mixtures(tmp_path / "out").load("e", "noise_0"), wanted, atol=1e-4)


def test_what_the_data_cannot_give_is_told_at_once() -> None:
    alone = [clip for clip in CLIPS if clip.split != "unseen" and clip.speaker == "m"]
    names = (*VOICES[:-1], "noise_0")
    with pytest.raises(InputError) as told:
        interference(*names, clips=alone).check([clip for clip in alone if clip.split == "test"])
    assert str(told.value).splitlines() == [
        f"{name}: 2 of 2 clips, first e, have no such voices: {why}"
        for name, why in [
            ("snr_5", "babble of 3 needs as many other clips of split test, where 1 are (set avsr.babble)"),
            ("snr_-5", "babble of 3 needs as many other clips of split test, where 1 are (set avsr.babble)"),
            ("talker_0", "split test has no other speaker than m (take talker_X_same, _unseen or _synthetic)"),
            (
                "talker_0_unseen",
                "every known speaker is in training, or is the clip's own (m) (set avsr.conditions without it)",
            ),
        ]
    ] + ["noise_0: no folder of noise (set avsr.heard_noise)"]


def test_a_clip_of_an_unknown_speaker_has_none_of_the_same() -> None:
    clips = [clip_of(key, 60, split="test") for key in "pq"]
    with pytest.raises(InputError, match="split test has no other clip of its speaker, unknown"):
        interference("talker_0_same", clips=clips).check(clips)
    interference("talker_0", clips=clips).check(clips)


def test_silence_is_told_by_name(tmp_path: Path) -> None:
    def quiet(clip: SpeechClip) -> np.ndarray:
        return sound(clip) * (clip.key != "f")

    for names, message in ((("snr_0",), "f: is silent where"), (("talker_0_synthetic",), "^f: it, or what .* silent")):
        with pytest.raises(InputError, match=message):
            write_mixtures(tmp_path, TEST, Interference(ConditionParams(names, babble=3), CLIPS, quiet))


def test_synthetic_voices_fill_a_clip_and_differ() -> None:
    one, again, other = (synthetic(48000, np.random.default_rng(seed)) for seed in (0, 0, 1))
    np.testing.assert_array_equal(one[0], again[0])
    assert one[1] == again[1] != other[1]
    assert len(one[0]) == 48000
    assert all(np.abs(one[0][start : start + 16000]).max() > 0.05 for start in (0, 16000, 32000))


def test_missing_and_stale_mixtures_are_told(tmp_path: Path) -> None:
    write_mixtures(tmp_path, TEST, interference("clean"))
    mixtures = Mixtures(tmp_path)
    mixtures.check(TEST)
    with pytest.raises(InputError, match=r"no mixture 'snr_5' of clip 'e'"):
        mixtures.load("e", "snr_5")
    with pytest.raises(InputError, match=r"no mixture of clip 'a' for clean"):
        mixtures.check(CLIPS)
    with pytest.raises(InputError, match=r"a mixture of other media of clip 'e' for clean"):
        mixtures.check([replace(TEST[0], media="x")])


@pytest.mark.parametrize(
    ("key", "value", "message"),
    [
        ("names", [], r"conditions \(\[.*\]\) must be one at least, each once"),
        ("names", ["clean", "clean"], r"conditions \(\[.*\]\) must be one at least, each once"),
        ("names", ["loud"], r"condition \('loud'\) must be"),
        ("babble", 0, "must be >= 1"),
        ("seed", -1, "must be >= 0"),
    ],
)
def test_wrong_parameters_are_refused(key: str, value: object, message: str) -> None:
    with pytest.raises(InputError, match=message):
        build(ConditionParams, {key: value}, "params.yaml")
