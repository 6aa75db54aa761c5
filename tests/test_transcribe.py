"""A clip to words: what is read of a file, noise, what the encoder is given, times of words, the command."""

from __future__ import annotations

import json
import re
import shlex
from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from avhubert_golden import ESPNET, FAIRSEQ, SHARED, SMALL, filled
from golden_fill import noise, tokens
from safetensors.torch import save_file

from avs.avsr.avhubert import AVHubertEncoder
from avs.avsr.beam import Hypothesis
from avs.avsr.checkpoints import convert
from avs.avsr.fbank import INT16, log_fbank
from avs.avsr.recognizers import CtcAttention, SearchParams, Seq2Seq
from avs.avsr.text import FAIRSEQ_SPECIAL, SPACE, Tokenizer
from avs.avsr.transcribe import (
    Clip,
    Word,
    describe,
    features,
    load_recognizer,
    read_clip,
    timed,
    transcribe,
    with_noise,
)
from avs.cli import main
from avs.core.errors import InputError
from avs.core.execute import one_thread
from avs.core.media import write_media
from avs.lips.crops import MEAN_FACE

FRAMES = 12
LETTERS = [f"{SPACE}{chr(97 + n)}" if n % 2 else chr(97 + n) for n in range(26)]
TOKENIZER = Tokenizer((*FAIRSEQ_SPECIAL, *LETTERS, *(f"x{n}" for n in range(10))))
UNITS = Tokenizer(
    ("<blank>", "<unk>", *LETTERS, *(f"x{n}" for n in range(11)), "<eos>"), None, True, ("<blank>", "<unk>", "<eos>")
)


@pytest.fixture(autouse=True)
def _one_thread() -> Iterator[None]:
    with one_thread():
        yield


def sound(name: str = "voice", count: int = 640 * FRAMES) -> np.ndarray:
    return (0.1 * noise(name, count)).astype(np.float32)


def video(path: Path, side: int = 96, fps: int = 25) -> Path:
    pictures = tokens("mouth", (FRAMES, side, side, 3), 0, 256).astype(np.uint8)
    write_media(path, pictures, fps, (sound() * 32767).astype(np.int16))
    return path


def clip() -> Clip:
    return Clip(tokens("mouth", (FRAMES, 96, 96), 0, 256).astype(np.uint8), sound(), ())


def test_sound_alone_needs_no_mouth(tmp_path: Path) -> None:
    face = video(tmp_path / "face.mkv", side=128)
    with pytest.raises(InputError, match="not mouths of 96x96"):
        read_clip(face)
    found = read_clip(face, sound_only=True)
    assert found.lips.shape == (FRAMES, 96, 96)
    np.testing.assert_array_equal(found.sound, read_clip(video(tmp_path / "mouth.mkv")).sound)


def seq2seq() -> Seq2Seq:
    model = filled(Seq2Seq(SMALL, FAIRSEQ))
    model.tokenizer = TOKENIZER
    return model


def saved(folder: Path, model: Seq2Seq | CtcAttention | AVHubertEncoder) -> Path:
    """As `weights convert` writes a model."""
    config = {"encoder": {"heads": 4}}
    if not isinstance(model, AVHubertEncoder):
        config |= {"decoder": {"heads": 4}}
        config |= {"tokenizer": model.tokenizer.described()} if model.tokenizer else {}
    path = folder / "net.safetensors"
    save_file(model.state_dict(), path, {"config": json.dumps({"sizes": config})})
    return path


def test_reads_mouths_and_640_samples_for_each(tmp_path: Path) -> None:
    found = read_clip(video(tmp_path / "a.mp4"))
    assert (found.lips.shape, found.sound.shape) == ((FRAMES, 96, 96), (640 * FRAMES,))
    assert float(np.abs(found.sound).max()) < 1


def test_a_full_picture_needs_landmarks_or_a_detector(tmp_path: Path) -> None:
    with pytest.raises(InputError, match=r"a\.mp4: pictures of 128x128, not mouths of 96x96: give landmarks"):
        read_clip(video(tmp_path / "a.mp4", side=128))
    with pytest.raises(InputError, match=r"absent\.mp4"):
        read_clip(tmp_path / "absent.mp4")


def test_landmarks_may_lie_anywhere(tmp_path: Path) -> None:
    """Those of the mean face in a picture of 256 pixels cut it where the patch's middle is the mouth's."""
    np.save(tmp_path / "points.npy", np.repeat(MEAN_FACE[None], FRAMES, axis=0))
    (tmp_path / "videos").mkdir()
    found = read_clip(video(tmp_path / "videos/a.mp4", side=256), tmp_path / "points.npy")
    assert found.lips.shape == (FRAMES, 96, 96)
    with pytest.raises(InputError, match=r"absent\.npy: cannot be read"):
        read_clip(tmp_path / "videos/a.mp4", tmp_path / "absent.npy")


def test_a_long_clip_is_refused_before_it_is_decoded(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("avs.avsr.transcribe.MAX_SECONDS", 0.4)
    monkeypatch.setattr("avs.core.footage._read", lambda *_, **__: pytest.fail("decoded"))
    with pytest.raises(InputError, match=r"a\.mp4: clip of 0\.48 s must be .* at most 0\.4 s long \(cut it into"):
        read_clip(video(tmp_path / "a.mp4"))


def test_the_encoder_is_given_the_middle_of_the_mouth() -> None:
    found = clip()
    heard, seen = features(found, INT16)
    assert torch.equal(heard, log_fbank(torch.from_numpy(found.sound)[None], scale=INT16))
    expected = (found.lips[:, 4:92, 4:92].astype(np.float64) / 255 - 0.421) / 0.165
    assert seen.shape == (1, 1, FRAMES, 88, 88)
    assert np.abs(seen[0, 0].numpy() - expected).max() < 1e-5
    with pytest.raises(InputError, match="7679 samples of sound do not go with 12 pictures"):
        features(found._replace(sound=found.sound[1:]), INT16)


@pytest.mark.parametrize("snr", [-5.0, 0.0, 10.0])
def test_noise_is_as_loud_as_told(snr: float, tmp_path: Path) -> None:
    path = tmp_path / "noise.mp4"
    write_media(path, np.zeros((25, 32, 32, 3), np.uint8), 25, (0.2 * noise("hiss", 16000) * 32767).astype(np.int16))
    clean = sound(count=24000)
    added = with_noise(clean, path, snr) - clean
    assert 10 * np.log10(np.mean(clean**2) / np.mean(added**2)) == pytest.approx(snr, abs=0.01)
    assert np.array_equal(with_noise(clean, path, snr), with_noise(clean, path, snr))
    assert not np.array_equal(with_noise(clean, path, snr, seed=1), with_noise(clean, path, snr))


def test_noise_must_be_there(tmp_path: Path) -> None:
    write_media(tmp_path / "mute.mp4", np.zeros((25, 32, 32, 3), np.uint8), 25, np.zeros(16000, np.int16))
    with pytest.raises(InputError, match=r"mute\.mp4: is silent"):
        with_noise(sound(), tmp_path / "mute.mp4", 0)
    with pytest.raises(InputError, match="the clip is silent"):
        with_noise(0 * sound(), tmp_path / "mute.mp4", 0)
    with pytest.raises(InputError, match=r"absent\.wav"):
        with_noise(sound(), tmp_path / "absent.wav", 0)
    for snr, seed in ((float("nan"), 0), (0, -1)):
        with pytest.raises(InputError, match=r"snr \(.*\) must be decibels, seed \(.*\) >= 0"):
            with_noise(sound(), tmp_path / "absent.wav", snr, seed)


@pytest.mark.parametrize("use", ["both", "audio", "lips"])
def test_says_what_the_search_finds(use: Any) -> None:
    model, given = seq2seq(), clip()
    found = transcribe(model, given, use=use, params=SearchParams(beam=3))
    heard, seen = features(given, INT16)
    with torch.inference_mode():
        (best,) = model.decode(
            None if use == "lips" else heard, None if use == "audio" else seen, None, SearchParams(3)
        )
    assert (found.text, found.score) == (TOKENIZER.decode(best[0].tokens), best[0].score)
    assert len(found.others) == 2
    assert found.words == ()
    assert describe(found, ["no_audio"], best=2).splitlines()[-1] == "note: no_audio"


def test_ctc_gives_times() -> None:
    model = filled(CtcAttention(SMALL, ESPNET))
    model.tokenizer = UNITS
    found = transcribe(model, clip())
    times = [time for word in found.words for time in (word.start, word.end)]
    assert times == sorted(times)
    assert " ".join(word.word for word in found.words) == found.text
    assert 0 <= times[0] < times[-1] <= FRAMES / 25


def test_times_of_words_are_those_of_their_pieces() -> None:
    path = [0, 3, 3, 0, 4, 0, 0, 5, 4, 0]  # ▁b, c, ▁d, c
    frames = 9 * torch.nn.functional.one_hot(torch.tensor(path), 40).float()
    assert timed(Hypothesis((3, 4, 5, 4), 0.0), frames, UNITS) == (Word("bc", 0.04, 0.2), Word("dc", 0.28, 0.36))


def test_what_is_no_text_is_no_word() -> None:
    """Pieces <unk> and a lone space before a word, one a frame with blanks between."""
    symbols = ("<blank>", "<unk>", SPACE, f"{SPACE}a", "b", "<eos>")
    frames = torch.full((8, 6), -9.0)
    for frame, token in enumerate((3, 0, 1, 0, 4, 2, 3, 0)):
        frames[frame, token] = 9.0
    words = timed(Hypothesis((3, 1, 4, 2, 3), 0.0), frames, Tokenizer(symbols, special=("<blank>", "<unk>", "<eos>")))
    assert words == (Word("ab", 0.0, 0.2), Word("a", 0.24, 0.28))


def test_weights_that_are_no_numbers_are_told() -> None:
    model = seq2seq()
    model.decoder.embed_tokens.weight.data.fill_(torch.nan)
    with pytest.raises(InputError, match="no text has a finite score: the checkpoint's weights are damaged"):
        transcribe(model, clip())


def test_a_checkpoint_must_be_able_to_decode(tmp_path: Path) -> None:
    with pytest.raises(InputError, match="is an encoder without a decoder"):
        load_recognizer(saved(tmp_path, filled(AVHubertEncoder(SMALL))))
    model = seq2seq()
    model.tokenizer = None
    with pytest.raises(InputError, match=r"has no tokenizer: give a folder with \*units\.txt"):
        load_recognizer(saved(tmp_path, model))


def test_the_command_prints_text_score_and_the_rest(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    path, checkpoint = video(tmp_path / "a.mp4"), saved(tmp_path, seq2seq())
    hiss = tmp_path / "hiss.mp4"
    write_media(hiss, np.zeros((25, 32, 32, 3), np.uint8), 25, (0.2 * noise("hiss", 16000) * 32767).astype(np.int16))
    options = f"--checkpoint {checkpoint} --beam 2 --best 2 --noise {hiss} --snr 5"
    main(shlex.split(f"transcribe {path} {options}"))
    lines = capsys.readouterr().out.splitlines()
    assert re.fullmatch(r"score -\d+\.\d{3}", lines[1])
    assert lines[2].startswith("or ")
    with pytest.raises(SystemExit, match=r"a\.mp4"):
        main(shlex.split(f"transcribe {tmp_path}/absent/a.mp4 {options}"))


def test_a_clip_of_grid_with_formula_made_weights(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    grid = SHARED.parent / "grid/lips/bbal9a.mp4"
    if not grid.exists():
        pytest.skip("needs ../shared/grid")
    source = SHARED / "dev/fairseq_finetuned_tiny.pt"
    convert(source, tmp_path / "net.safetensors")
    for checkpoint in (source, tmp_path / "net.safetensors"):
        main(shlex.split(f"transcribe {grid} --checkpoint {checkpoint} --beam 2"))
    first, second = (part.splitlines() for part in re.split(r"(?<=\d)\n(?=\D)", capsys.readouterr().out.strip()))
    assert first == second
    assert len(first) == 2


def test_settings_are_checked_early(tmp_path: Path) -> None:
    with pytest.raises(InputError, match=r"use \('eyes'\) must be one of both, audio, lips"):
        transcribe(seq2seq(), clip(), use="eyes")  # type: ignore[arg-type]
    with pytest.raises(InputError, match=r"beam \(0\)"):
        transcribe(seq2seq(), clip(), params=replace(SearchParams(), beam=0))
