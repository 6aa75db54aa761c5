"""AST: the published layout, shorter spectrograms, and the original's reading, against transformers' own model."""

import re
from pathlib import Path

import numpy as np
import pytest
import safetensors.torch
import torch
from golden_fill import fill_array, wave

from avs.audio import ast_tagger
from avs.audio.ast_tagger import AstNetwork, AstTagger
from avs.audio.eventness import make_backend
from avs.core.errors import InputError

TINY = {"hidden_size": 24, "num_hidden_layers": 2, "num_attention_heads": 3, "intermediate_size": 40}
# What the file of transformers 4, the published one, calls what transformers 5 renamed.
PUBLISHED = (
    (r"\.layers\.", ".encoder.layer."),
    (r"\.attention\.q_proj\.", ".attention.attention.query."),
    (r"\.attention\.k_proj\.", ".attention.attention.key."),
    (r"\.attention\.v_proj\.", ".attention.attention.value."),
    (r"\.attention\.o_proj\.", ".attention.output.dense."),
    (r"\.mlp\.fc1\.", ".intermediate.dense."),
    (r"\.mlp\.fc2\.", ".output.dense."),
)


def published_name(name: str) -> str:
    for pattern, replacement in PUBLISHED:
        name = re.sub(pattern, replacement, name)
    return name


@pytest.fixture(scope="module")
def tensors() -> dict[str, torch.Tensor]:
    state = AstNetwork(**TINY).model.state_dict()
    return {published_name(name): torch.from_numpy(fill_array(name, value.shape)) for name, value in state.items()}


@pytest.fixture
def backend(tensors: dict[str, torch.Tensor], tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> AstTagger:
    """A small AST, read from a file as it is published."""
    safetensors.torch.save_file(tensors, tmp_path / "model.safetensors")
    monkeypatch.setattr(AstTagger, "_build", lambda self: AstNetwork(**TINY))
    return AstTagger(weights=f"file:{tmp_path / 'model.safetensors'}")


def theirs(tensors: dict[str, torch.Tensor], sounds: np.ndarray) -> torch.Tensor:
    """Logits of transformers' own model, feature extractor, and loading of the published names."""
    from transformers import ASTConfig, ASTFeatureExtractor, ASTForAudioClassification

    model, report = ASTForAudioClassification.from_pretrained(
        None, config=ASTConfig(num_labels=527, **TINY), state_dict=dict(tensors), output_loading_info=True
    )
    assert not any(report.values())
    inputs = ASTFeatureExtractor()(list(sounds), sampling_rate=16000, return_tensors="pt")
    with torch.inference_mode():
        return model.eval()(**inputs).logits


def test_names_are_those_of_the_published_file(tensors: dict[str, torch.Tensor]) -> None:
    assert "audio_spectrogram_transformer.encoder.layer.1.attention.attention.query.weight" in tensors
    assert "audio_spectrogram_transformer.encoder.layer.0.output.dense.bias" in tensors
    assert {"classifier.layernorm.bias", "classifier.dense.weight"} <= tensors.keys()


def test_softmax_padded_is_the_original(backend: AstTagger, tensors: dict[str, torch.Tensor]) -> None:
    clip = wave("clip", (48000,), scale=0.4)
    original = AstTagger(weights=backend.weights, reading="softmax_padded")
    expected = theirs(tensors, clip.reshape(3, 16000)).softmax(-1).amax(-1)
    np.testing.assert_allclose(original(clip[None], num_seconds=3)[0], expected, rtol=0, atol=1e-5)


def test_short_sounds_take_the_middle_positions(backend: AstTagger) -> None:
    """Two seconds are 19 columns of patches: those from 50 - 9 on, of every row of the table."""
    seen = backend.network.model.audio_spectrogram_transformer.embeddings
    table = seen.position_embeddings[0, 2:].reshape(12, 101, -1)
    with torch.no_grad():
        seen.patch_embeddings.projection.weight.zero_()
        seen.patch_embeddings.projection.bias.zero_()
        embedded = seen(torch.zeros(1, 198, 128))[0]
    torch.testing.assert_close(embedded[2:].reshape(12, 19, -1), table[:, 41:60])
    torch.testing.assert_close(
        embedded[:2], torch.cat([seen.cls_token, seen.distillation_token], 1)[0] + seen.position_embeddings[0, :2]
    )


def test_windows_matter(backend: AstTagger) -> None:
    clip = wave("clip", (1, 80000), scale=0.4)
    near, far = (AstTagger(weights=backend.weights, window=w)(clip, num_seconds=5) for w in (1.0, 4.5))
    assert near.std() > 1e-3
    assert far.std() < near.std()  # nearly all of the clip is around every second


def test_files_that_do_not_fit_are_refused_by_name(tensors: dict[str, torch.Tensor]) -> None:
    network = AstNetwork(**TINY)
    name = "audio_spectrogram_transformer.encoder.layer.0.attention.attention.key.weight"
    renamed = r"audio_spectrogram_transformer\.layers\.0\.attention\.k_proj\.weight"
    for change, message in (
        ({name: None}, rf"1 missing from the file: {renamed}"),
        ({"decoder.bias": torch.zeros(2)}, r"1 left over in the file: decoder\.bias"),
        ({name: torch.zeros(3, 4)}, rf"1 of another shape: {renamed} is 3×4 in the file"),
    ):
        wrong = {key: value for key, value in (tensors | change).items() if value is not None}
        with pytest.raises(InputError, match=message):
            network.load(wrong)


def test_options() -> None:
    assert make_backend("ast", reading="softmax_padded").identity["reading"] == "softmax_padded"
    assert make_backend("ast").weights_digest == ast_tagger.WEIGHTS.rpartition("=")[2]
    with pytest.raises(InputError, match=r"eventness.reading \('softmax'\) must be one of sigmoid, softmax_padded"):
        make_backend("ast", reading="softmax")
    with pytest.raises(InputError, match="'panns' has no option reading"):
        make_backend("panns", reading="sigmoid")
