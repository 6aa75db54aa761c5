"""Decoders: numbers of fairseq's and ESPnet's, and one token at a time against all at once."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

import pytest
import torch
from avhubert_golden import ESPNET, FAIRSEQ, TOLERANCE, golden, largest, padding
from golden_fill import fill_array, wave

from avs.avsr.decoders import Decoder, DecoderConfig
from avs.core.errors import InputError
from avs.core.execute import one_thread


@pytest.fixture(autouse=True)
def _one_thread() -> Iterator[None]:
    """The networks are small: on a busy machine, threads that wait for each other take many times as long."""
    with one_thread():
        yield


def fairseq() -> Decoder:
    found = Decoder(FAIRSEQ)
    state = {name: torch.from_numpy(fill_array(f"decoder.{name}", x.shape)) for name, x in found.state_dict().items()}
    found.load_state_dict(state)
    return found.eval()


@torch.no_grad()
def test_fairseq_logits() -> None:
    known = golden("fairseq_decoder")
    memory, prefix = torch.from_numpy(wave("fsdec.memory", (2, 9, 64))), torch.from_numpy(known["prefix"])
    found = fairseq()(prefix, memory, padding(known["memory_lengths"]))
    said = prefix != 1  # what is said after padding means nothing
    assert largest(found[said], known["logits"][said.numpy()]) < TOLERANCE


@pytest.mark.parametrize("config", [FAIRSEQ, ESPNET])
@torch.no_grad()
def test_one_token_at_a_time_is_all_at_once(config: DecoderConfig) -> None:
    """Three beginnings of each of two clips, in an order that changes on the way."""
    torch.manual_seed(0)
    decoder = Decoder(config).eval()
    memory, mask = torch.randn(2, 7, 64), padding([7, 4])
    tokens = torch.randint(4, 40, (2, 3, 5))
    order = torch.tensor([[2, 0, 0], [1, 1, 2]])
    past = decoder.start(memory, mask)
    for place in range(3):
        decoder.step(tokens[..., place], past)
    past.reorder(order)
    decoder.step(tokens[..., 3], past)
    past.reorder(torch.tensor([[0, 1, 2], [0, 1, 2]]))
    found = decoder.step(tokens[..., 4], past)
    texts = torch.cat([tokens[torch.arange(2)[:, None], order, :3], tokens[..., 3:]], dim=-1).flatten(0, 1)
    at_once = decoder(texts, memory.repeat_interleave(3, dim=0), mask.repeat_interleave(3, dim=0))
    assert largest(found.flatten(0, 1), at_once[:, -1]) < TOLERANCE


@torch.no_grad()
def test_a_token_does_not_see_those_after_it() -> None:
    decoder = fairseq()
    memory = torch.randn(1, 4, 64)
    tokens = torch.tensor([[2, 5, 6, 7]])
    other = torch.tensor([[2, 5, 8, 9]])
    assert largest(decoder(tokens, memory)[:, :2], decoder(other, memory)[:, :2]) < 1e-6


@pytest.mark.parametrize(
    ("settings", "message"),
    [
        ({"vocabulary": 0}, r"vocabulary \(0\)"),
        ({"width": 1000}, r"width \(1000\) must be even and a multiple of heads"),
    ],
)
def test_refuses_settings(settings: dict[str, Any], message: str) -> None:
    with pytest.raises(InputError, match=message):
        DecoderConfig(**settings)
