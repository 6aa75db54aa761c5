"""Kaldi's filter bank, against the feature extractor that AST was published with."""

import numpy as np
import pytest
import torch
from golden_fill import wave

from avs.audio import kaldi
from avs.audio.mel import mel_triangles
from avs.core.import_shims import mend_imports


def test_it_is_the_input_of_ast() -> None:
    """transformers has it from torchaudio where that loads, else from its own code: both to 1e-4 of values near 1."""
    mend_imports()
    from transformers import ASTFeatureExtractor

    sounds = np.stack([wave("a", (20000,), scale=0.5), wave("b", (20000,), scale=1e-3), np.zeros(20000)])
    sounds = sounds.astype(np.float32)
    extractor = ASTFeatureExtractor()
    padded = extractor(list(sounds), sampling_rate=16000, return_tensors="np")["input_values"]
    ours = kaldi.audioset_input(torch.from_numpy(sounds)).numpy()
    assert ours.shape == (3, 1 + (20000 - 400) // 160, 128)
    np.testing.assert_allclose(ours, padded[:, : ours.shape[1]], rtol=0, atol=1e-4)


def test_a_tone_lies_in_its_band() -> None:
    tone = torch.sin(2 * torch.pi * 1000 * torch.arange(16000) / 16000)[None]
    bands = kaldi.log_mel(tone)[0]
    edges = 700 * np.expm1(np.linspace(np.log1p(20 / 700), np.log1p(8000 / 700), 130))
    assert (bands.argmax(1) == np.abs(edges[1:-1] - 1000).argmin()).all()


@pytest.mark.parametrize(("low", "high", "bands"), [(20.0, 8000.0, 40), (125.0, 7500.0, 64)])
def test_triangles_share_out_each_bin(low: float, high: float, bands: int) -> None:
    weights = mel_triangles(16000, 512, bands, low, high)
    edges = 700 * np.expm1(np.linspace(np.log1p(low / 700), np.log1p(high / 700), bands + 2))
    hertz = np.arange(257) * 31.25
    inner = (hertz > edges[1]) & (hertz < edges[-2])
    np.testing.assert_allclose(weights[inner].sum(1), 1, atol=1e-6)
    assert not weights[(hertz <= low) | (hertz >= high)].any()
