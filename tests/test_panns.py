"""Cnn14: parity with the published code, and its file as it is published."""

import zipfile
from pathlib import Path

import numpy as np
import pytest
import torch
from golden_fill import fill_array, wave

from avs.audio import panns
from avs.audio.eventness import make_backend
from avs.audio.panns import Cnn14, PannsTagger
from avs.core.errors import InputError

GOLDEN = np.load(Path(__file__).parent / "golden/cnn14_narrow.npz")


def tensors() -> dict[str, torch.Tensor]:
    """A Cnn14 of a sixteenth of the width: spectrum by its formula, mel bands as published, weights by name."""
    angle = 2 * np.pi * (np.outer(np.arange(513), np.arange(1024)) % 1024) / 1024
    hann = 0.5 - 0.5 * np.cos(2 * np.pi * np.arange(1024) / 1024)
    given = {
        "spectrogram_extractor.stft.conv_real.weight": (np.cos(angle) * hann)[:, None],
        "spectrogram_extractor.stft.conv_imag.weight": (-np.sin(angle) * hann)[:, None],
        "logmel_extractor.melW": GOLDEN["melW"],
    }
    shapes = {name: value.shape for name, value in Cnn14(width=16).state_dict().items()}
    filled = {name: given[name] if name in given else fill_array(name, shape) for name, shape in shapes.items()}
    return {
        name: torch.as_tensor(value, dtype=None if value.dtype.kind == "i" else torch.float32)
        for name, value in filled.items()
    }


@pytest.mark.parametrize(("key", "samples"), [("one_second", 32000), ("two_seconds", 64000)])
def test_parity_with_the_published_code(key: str, samples: int) -> None:
    """Probabilities of panns_inference 0.1.1 with torchlibrosa 0.1.0, its blocks narrowed; they vary by 0.05."""
    network = Cnn14(width=16).eval()
    network.load_state_dict(tensors())
    with torch.inference_mode():
        found = network(torch.from_numpy(wave(f"clip{samples}", (2, samples), scale=0.5))).sigmoid()
    np.testing.assert_allclose(found, GOLDEN[key], rtol=0, atol=1e-5)


def test_full_size_has_the_published_names_and_shapes() -> None:
    with torch.device("meta"):
        state = Cnn14().state_dict()
    shapes = {name: tuple(value.shape) for name, value in state.items()}
    assert len(shapes) == 84
    assert shapes["bn0.running_var"] == (64,)
    assert shapes["conv_block6.conv2.weight"] == (2048, 2048, 3, 3)
    assert shapes["spectrogram_extractor.stft.conv_real.weight"] == (513, 1, 1024)
    assert shapes["fc_audioset.weight"] == (527, 2048)
    assert sum(value.numel() for name, value in state.items() if "extractor" not in name) == pytest.approx(80.7e6, 0.01)


def checkpoint(path: Path, **beside: object) -> PannsTagger:
    torch.save({"iteration": 600000, "model": tensors()} | beside, path)
    return PannsTagger(weights=f"file:{path}")


def age(path: Path) -> None:
    """Rewrite a checkpoint as it was when numpy's function had another name."""
    with zipfile.ZipFile(path) as archive:
        members = {info: archive.read(info) for info in archive.infolist()}
    with zipfile.ZipFile(path, "w") as archive:
        for info, content in members.items():
            archive.writestr(info, content.replace(b"numpy._core", b"numpy.core"))


def test_reads_the_file_with_its_samplers_state(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(PannsTagger, "_build", lambda self: Cnn14(width=16))
    path = tmp_path / "net.pth"
    new = checkpoint(path, sampler={"indexes_per_class": [np.arange(5)], "queue": [1]})
    clip = wave("clip", (1, 48000))
    scores = new(clip, num_seconds=3)
    assert scores.std() > 1e-4
    age(path)
    np.testing.assert_array_equal(PannsTagger(weights=f"file:{path}")(clip, num_seconds=3), scores)


def test_runs_no_code(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    class Hostile:
        def __reduce__(self) -> tuple:
            return print, ("run",)

    monkeypatch.setattr(PannsTagger, "_build", lambda self: Cnn14(width=16))
    backend = checkpoint(tmp_path / "net.pth", sampler=Hostile())
    with pytest.raises(InputError, match=r"net.pth: wants to run .*print, which is refused"):
        backend(wave("clip", (1, 48000)), num_seconds=3)


def test_digest_needs_no_weights() -> None:
    assert make_backend("panns").weights_digest == panns.WEIGHTS.rpartition("=")[2]
