"""bfloat16 beside float32: near, float32 where it matters, and the model as it was."""

from __future__ import annotations

from collections.abc import Iterator

import pytest
import torch
from avhubert_golden import FAIRSEQ, SMALL, filled, inputs, largest, padding

from avs.avsr.avhubert import AVHubertConfig, AVHubertEncoder
from avs.avsr.precision import reduced
from avs.avsr.recognizers import Seq2Seq
from avs.core.execute import one_thread


@pytest.fixture(autouse=True)
def _one_thread() -> Iterator[None]:
    with one_thread():
        yield


@torch.inference_mode()
def test_bfloat16_is_near_and_leaves_the_model_as_it_was() -> None:
    model = filled(Seq2Seq(SMALL, FAIRSEQ))
    before = {name: value.clone() for name, value in model.state_dict().items()}
    given = (*inputs("fss2s.audio", "fss2s.video", 2, 8), padding([8, 5]))
    prefix = torch.tensor([[2, 5, 6], [2, 7, 8]])
    exact = model.encoder(*given)
    said = model.decoder(prefix, exact)
    with reduced(model):
        assert model.decoder.layers[0].fc1.weight.dtype == torch.bfloat16
        assert model.decoder.layers[0].final_layer_norm.weight.dtype == torch.float32
        near = model.encoder(*given)
        logits = model.decoder(prefix, exact)
    assert near.dtype == torch.float32
    assert 0 < float((near - exact).abs().mean()) < 0.05  # values are around 1; bfloat16 has 8 bits
    assert 0 < float((logits - said).abs().mean()) < 0.05
    assert all(torch.equal(value, before[name]) for name, value in model.state_dict().items())
    with reduced(model, active=False):
        assert largest(model.encoder(*given), exact) == 0


def test_tiny_in_bfloat16_is_near_too() -> None:
    """Its position convolution has 8 channels a group, which bfloat16 kernels were seen to compute wrongly."""
    torch.manual_seed(0)
    encoder = AVHubertEncoder(AVHubertConfig.preset("tiny")).eval()
    audio = torch.randn(2, 75, 104)
    with torch.inference_mode():
        exact = encoder(audio, None)
        with torch.autocast("cpu", torch.bfloat16):
            near = encoder(audio, None)
    assert 0 < float((near - exact).abs().mean()) < 0.05


def test_weights_come_back_after_an_error() -> None:
    model = filled(Seq2Seq(SMALL, FAIRSEQ))
    with pytest.raises(RuntimeError), reduced(model):
        raise RuntimeError
    assert {value.dtype for value in model.parameters()} == {torch.float32}
