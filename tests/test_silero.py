"""Silero's detector: parity with the model that its package runs, and speech found in real clips."""

from pathlib import Path

import numpy as np
import pytest
import torch
from golden_fill import wave

from avs.audio import silero
from avs.audio.eventness import eventness, make_backend
from avs.audio.silero import SileroNetwork
from avs.core.errors import InputError
from avs.core.media import read_media
from avs.core.weights import fetch

FACES = Path(__file__).resolve().parents[2] / "shared" / "grid" / "faces"
needs_faces = pytest.mark.skipif(not FACES.is_dir(), reason="the GRID clips are not on this machine")


def spoken() -> np.ndarray:
    return read_media(min(FACES.iterdir()), 3).audio.astype(np.float32) / 32768


def theirs(file: Path, sound: np.ndarray) -> np.ndarray:
    """The package's own TorchScript model, chunk by chunk."""
    model = torch.jit.load(file).eval()
    chunks = torch.from_numpy(np.pad(sound, (0, -len(sound) % 512))).reshape(-1, 1, 512)
    with torch.no_grad():
        return np.array([model(chunk, 16000).item() for chunk in chunks])


@pytest.mark.weights
def test_parity_on_made_sound() -> None:
    file = fetch(silero.WEIGHTS)
    sound = wave("made", (32000,), scale=0.4) * np.repeat([1.0, 0.1], 16000).astype(np.float32)
    np.testing.assert_allclose(SileroNetwork(file).speech(sound), theirs(file, sound), rtol=0, atol=1e-5)


@pytest.mark.weights
@needs_faces
def test_parity_on_speech() -> None:
    file = fetch(silero.WEIGHTS)
    found, sound = SileroNetwork(file).speech(spoken()), spoken()
    np.testing.assert_allclose(found, theirs(file, sound), rtol=0, atol=1e-5)
    assert found.max() > 0.99


@pytest.mark.weights
@needs_faces
def test_a_spoken_second_stands_out() -> None:
    quiet = np.zeros(16000, np.float32)
    clip = np.concatenate([quiet, quiet, spoken()[16000:32000], quiet])[None]
    scores = eventness("silero_vad", clip, num_seconds=4)[0]
    assert scores[2] > 0.8
    assert scores[[0, 1]].max() < 0.1


@pytest.mark.weights
def test_every_length_has_its_seconds() -> None:
    backend = make_backend("silero_vad")
    for seconds in (1, 2, 16, 17):
        scores = backend(wave("clip", (1, 16000 * seconds)), num_seconds=seconds)
        assert scores.shape == (1, seconds)
        assert np.isfinite(scores).all()


def test_other_files_are_refused(tmp_path: Path) -> None:
    torch.save({"a": torch.zeros(2)}, tmp_path / "net.pt")
    with pytest.raises(InputError, match=r"net\.pt: tensors do not fit .*15 missing from the file"):
        SileroNetwork(tmp_path / "net.pt")
    torch.jit.script(torch.nn.Conv1d(1, 2, 3)).save(str(tmp_path / "conv.jit"))
    with pytest.raises(InputError, match=r"conv\.jit: tensors do not fit .*15 missing from the file"):
        SileroNetwork(tmp_path / "conv.jit")


def test_refuses_other_sample_rates() -> None:
    with pytest.raises(InputError, match=r"sample_rate \(8000\) must be 16000"):
        eventness("silero_vad", np.zeros((1, 8000), np.float32), sample_rate=8000, num_seconds=1)
