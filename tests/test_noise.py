"""Interfering voices and noise: at the SNR that is asked for, of whom they may be, one draw for one clip."""

import math
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest
from speech_clips import clip_of

from avs.avsr.noise import Mixer, NoiseFolder, NoiseParams, Voices, Whom, at_snr, at_speed, fitted, make_mixer
from avs.core.errors import InputError
from avs.core.media import wav
from avs.core.params import build
from avs.lips.media import SpeechClip

FRAMES = 75
CLIPS = [clip_of(f"{name}{n}", FRAMES, speaker=name) for name in "abc" for n in range(4)]


def sound_of(clip: SpeechClip) -> np.ndarray:
    """A tone of its own for each clip: a spectrum tells who is there."""
    time = np.arange(640 * clip.frames) / 16000
    return (0.1 * np.sin(2 * np.pi * pitch(clip) * time)).astype(np.float32)


def pitch(clip: SpeechClip) -> int:
    return 400 + 100 * sorted(c.key for c in CLIPS).index(clip.key) if clip in CLIPS else 200


def heard(mixture: np.ndarray) -> list[str]:
    """The clips whose tones are in a sound of three seconds."""
    levels = np.abs(np.fft.rfft(mixture)) / len(mixture)
    return [clip.key for clip in CLIPS if levels[3 * pitch(clip)] > 1e-4]


def snr(voice: np.ndarray, mixture: np.ndarray) -> float:
    rest = mixture.astype(np.float64) - voice
    return float(10 * np.log10(np.mean(voice.astype(np.float64) ** 2) / np.mean(rest**2)))


def rng(seed: int = 0) -> np.random.Generator:
    return np.random.default_rng(seed)


def mixer(**changes: object) -> Mixer:
    return make_mixer(build(NoiseParams, changes, "test"), CLIPS, sound_of)


@pytest.mark.parametrize("wanted", [-5, 0, 12.5])
def test_the_snr_is_of_mean_powers(wanted: float) -> None:
    voice, other = (s * rng(1).standard_normal(48000).astype(np.float32) for s in (0.1, 3))
    other = np.roll(other, 7)
    assert snr(voice, at_snr(voice, other, wanted)) == pytest.approx(wanted, abs=1e-3)  # float32 rounds


def test_silence_has_no_snr() -> None:
    voice, nothing = np.ones(8, np.float32), np.zeros(8, np.float32)
    np.testing.assert_array_equal(at_snr(voice, nothing, 0), voice)
    np.testing.assert_array_equal(at_snr(nothing, voice, 0), nothing)
    np.testing.assert_array_equal(at_snr(voice, 2 * voice, math.inf), voice)


def test_longer_sounds_are_cut_anywhere_and_shorter_ones_padded() -> None:
    starts = {int(fitted(np.arange(10), 4, rng(seed))[0]) for seed in range(100)}
    assert starts == set(range(7))
    assert fitted(np.arange(3), 5, rng()).tolist() == [0, 1, 2, 0, 0]


@pytest.mark.parametrize(
    ("whom", "allowed"),
    [
        ("any", lambda clip, other: True),
        ("other", lambda clip, other: other.speaker != clip.speaker),
        ("same", lambda clip, other: other.speaker == clip.speaker),
    ],
)
def test_voices_are_of_whom_they_may_be_and_never_the_clip(whom: Whom, allowed: Callable[..., bool]) -> None:
    voices = Voices(CLIPS[::-1], sound_of)
    for clip in [*CLIPS, clip_of("stranger", FRAMES, speaker="z")]:
        wanted = {other.key for other in CLIPS if other.key != clip.key and allowed(clip, other)}
        assert voices.count(clip, whom) == len(wanted)
        assert {other.key for other in voices.draw(clip, whom, 99, rng())} == wanted
        pairs = [voices.draw(clip, whom, 2, rng(seed)) for seed in range(60)]
        assert {other.key for pair in pairs for other in pair} == wanted
        assert all(len({other.key for other in pair}) == min(2, len(wanted)) for pair in pairs)


def test_a_clip_without_a_speaker_is_by_one_of_its_own() -> None:
    clips = [clip_of(key, FRAMES) for key in "pqr"]
    voices = Voices(clips, sound_of)
    assert [voices.count(clips[0], whom) for whom in ("any", "other", "same")] == [2, 2, 0]


def test_published_numbers_are_the_defaults() -> None:
    p = NoiseParams()
    assert (p.interferers, p.among, p.voices_snr, p.shortest, p.longest) == ((0, 0, 1, 2), (-5, 15), (-5, 20), 2, 10)
    assert p.noise_snr == (-5, 0, 5, 10, 15, 20, math.inf)


def test_interferers_are_as_many_and_as_loud_as_drawn() -> None:
    clip, mix = CLIPS[0], mixer(interferers=[0, 0, 1, 3], voices_snr=[-5, 20]).mix
    voice, counts, ratios = sound_of(clip), [], []
    for seed in range(200):
        mixture = mix(clip, voice, rng(seed))
        others = [key for key in heard(mixture) if key != clip.key]
        counts.append(len(others))
        if others:
            ratios.append(snr(voice, mixture))
    shares = [counts.count(number) / len(counts) for number in range(4)]
    assert shares == pytest.approx([0.5, 0.25, 0, 0.25], abs=0.1)  # 200 draws: three standard errors
    assert -5.001 < min(ratios) < -3
    assert 18 < max(ratios) < 20.001


def test_interferers_among_themselves_are_at_their_own_snr() -> None:
    clip = CLIPS[0]
    mixture = mixer(interferers=[2], among=[6, 6], voices_snr=[0, 0]).mix(clip, sound_of(clip), rng())
    levels = np.abs(np.fft.rfft(mixture))
    first, second = sorted((levels[3 * pitch(c)] for c in CLIPS if c.key in heard(mixture) and c != clip), reverse=True)
    assert 20 * np.log10(first / second) == pytest.approx(6, abs=0.01)
    assert 10 * np.log10(levels[3 * pitch(clip)] ** 2 / (first**2 + second**2)) == pytest.approx(0, abs=0.01)


@pytest.mark.parametrize(("speed", "samples"), [(0.5, 96000), (0.8, 60000), (1.25, 38400), (2.0, 24000)])
def test_a_faster_voice_is_shorter_and_higher(speed: float, samples: int) -> None:
    tone = sound_of(CLIPS[3])
    found = at_speed(tone, speed)
    assert (len(found), found.dtype) == (samples, np.float32)
    levels = np.abs(np.fft.rfft(found))
    assert np.argmax(levels) * 16000 / samples == pytest.approx(speed * pitch(CLIPS[3]), abs=0.5)
    assert np.std(found) == pytest.approx(np.std(tone), rel=0.01)
    assert at_speed(tone, 1.0) is tone


def test_voices_at_other_speeds_are_drawn_and_one_speed_changes_no_draw() -> None:
    """Tones of speeds 1 and 2 in turn; published mixtures are what they were before there were speeds."""
    clip, other = CLIPS[0], CLIPS[1]
    pitches = set()
    for seed in range(40):
        p = NoiseParams(interferers=(1,), speeds=(1.0, 2.0))
        added = make_mixer(p, [clip, other], sound_of).mix(clip, sound_of(clip), rng(seed)) - sound_of(clip)
        pitches.add(round(np.argmax(np.abs(np.fft.rfft(added))) / 3 / pitch(other)))
    assert pitches == {1, 2}
    drawn = rng(3)
    mixture = mixer(interferers=[1], voices_snr=[0, 0]).mix(clip, sound_of(clip), drawn)
    expected = rng(3)
    expected.choice((1,))
    (interferer,) = Voices(CLIPS, sound_of).draw(clip, "any", 1, expected)
    assert heard(mixture) == sorted([clip.key, interferer.key])
    expected.uniform(0, 0)
    assert drawn.bit_generator.state == expected.bit_generator.state


def test_one_draw_is_one_mixture() -> None:
    clip = CLIPS[0]
    one, again, other = (mixer(interferers=[2]).mix(clip, sound_of(clip), rng(seed)) for seed in (0, 0, 1))
    np.testing.assert_array_equal(one, again)
    assert not np.array_equal(one, other)
    assert one.dtype == np.float32


def test_short_clips_stay_as_they_are_and_interfere_with_none() -> None:
    short = clip_of("s", 49, speaker="s")
    mixed = make_mixer(NoiseParams(interferers=(1,)), [*CLIPS[:1], short, clip_of("l", 251)], sound_of)
    np.testing.assert_array_equal(mixed.mix(short, sound_of(short), rng()), sound_of(short))
    with pytest.raises(InputError, match=r"1 of 1 clips, first a0, have no other training clip of 2 to 10 s"):
        mixed.check(CLIPS[:1])


def test_the_clips_own_speaker_and_other_sets_can_be_kept_out() -> None:
    clip, alien = CLIPS[0], clip_of("x", FRAMES, dataset_name="lrs2")
    others = mixer(interferers=[9], other_speakers=True).mix(clip, sound_of(clip), rng())
    assert [key for key in heard(others) if key != clip.key] == [c.key for c in CLIPS[4:]]
    mixed = make_mixer(NoiseParams(interferers=(1,), voices_of=("lrs2",)), [*CLIPS, alien], sound_of)
    mixed.check(CLIPS)
    with pytest.raises(InputError, match="first x, have no other training clip of lrs2 of 2 to 10 s"):
        mixed.check([alien])


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    """Two files of noise, one shorter than a clip."""
    (tmp_path / "deep").mkdir()
    for name, seconds in (("one.wav", 5), ("deep/two.wav", 1)):
        samples = 3000 * rng(seconds).standard_normal(16000 * seconds)
        (tmp_path / name).write_bytes(wav(samples.astype(np.int16)))
    (tmp_path / "readme.txt").write_text("no sound")
    return tmp_path


def test_noise_of_a_folder_comes_at_the_drawn_snr(folder: Path) -> None:
    mix = mixer(interferers=[0], folder=str(folder)).mix
    voice, found = sound_of(CLIPS[0]), set()
    for seed in range(100):
        mixture = mix(CLIPS[0], voice, rng(seed))
        found.add(math.inf if np.array_equal(mixture, voice) else float(round(snr(voice, mixture), 2)))
    assert found == {-5, 0, 5, 10, 15, 20, math.inf}


def test_a_noise_file_is_drawn_at_any_place_and_repeated_where_it_is_short(folder: Path) -> None:
    noise = NoiseFolder(folder)
    parts = dict(reversed(noise.draw(32000, rng(seed))) for seed in range(40))
    assert {name.split("@")[0] for name in parts} == {"one.wav", "deep/two.wav"}
    assert len(parts) > 15
    short = parts["deep/two.wav@0"]
    np.testing.assert_array_equal(short[:16000], short[16000:])
    assert short.std() == pytest.approx(3000 / 32768, rel=0.05)


def test_wrong_noise_folders_are_told(folder: Path, tmp_path: Path) -> None:
    with pytest.raises(InputError, match=r"^avsr\.noise_folder \(.*nowhere\): is no folder"):
        NoiseFolder(tmp_path / "nowhere")
    digest = NoiseFolder(folder).digest
    (folder / "three.wav").write_bytes(b"RIFF no sound at all")
    noise = NoiseFolder(folder)
    assert noise.digest != digest
    with pytest.raises(InputError, match=r"1 files are no sound\n  .*three\.wav: "):
        noise.check()


@pytest.mark.parametrize(
    ("key", "value", "message"),
    [
        ("interferers", [], "must be numbers of voices"),
        ("interferers", [-1], "must be numbers of voices"),
        ("among", [5, -5], "the lower one first"),
        ("voices_snr", [0, math.inf], "must be two SNRs"),
        ("shortest", 11.0, r"shortest \(11\) must be seconds, at most longest \(10\)"),
        ("noise_snr", [], "must be SNRs"),
        ("speeds", [], "must be from 0.5 to 2"),
        ("speeds", [1, 0], r"speeds \(\[1.0, 0.0\]\) must be from 0.5 to 2"),
    ],
)
def test_wrong_parameters_are_refused(key: str, value: object, message: str) -> None:
    with pytest.raises(InputError, match=message):
        build(NoiseParams, {key: value}, "params.yaml")


def test_an_infinite_snr_may_stand_in_the_parameters() -> None:
    assert build(NoiseParams, {"noise_snr": [5, math.inf]}, "params.yaml").noise_snr == (5, math.inf)
