"""Beam searches: fairseq's and ESPnet's hypotheses and scores, and an exhaustive search."""

from __future__ import annotations

from collections.abc import Iterator
from itertools import product

import pytest
import torch
from avhubert_golden import SCORE, golden, inputs, padding
from golden_fill import wave
from test_recognizers import port, seq2seq

from avs.avsr.beam import Hypothesis, search_attention, search_joint
from avs.avsr.decoders import Decoder, DecoderConfig
from avs.core.errors import InputError
from avs.core.execute import one_thread


@pytest.fixture(autouse=True)
def _one_thread() -> Iterator[None]:
    """The networks are small: on a busy machine, threads that wait for each other take many times as long."""
    with one_thread():
        yield


@pytest.mark.parametrize("number", [0, 1])
@torch.no_grad()
def test_fairseqs_hypotheses(number: int) -> None:
    known = golden("fairseq_decoder")
    beam, penalty, _, limit = known[f"beam{number}.cfg"].tolist()
    mask = padding(known["full.lengths"], 8)
    memory = seq2seq().encoder(*inputs("fss2s.audio", "fss2s.video", 2, 8), mask)
    found = search_attention(seq2seq().decoder, memory, mask, [int(limit)] * 2, beam=int(beam), length_penalty=penalty)
    for clip, place in product(range(2), range(3)):
        name = f"beam{number}.b{clip}"
        assert [*found[clip][place].tokens, 2] == known[f"{name}.hyp{place}"].tolist()
        assert found[clip][place].score == pytest.approx(float(known[f"{name}.score{place}"]), abs=SCORE)


@pytest.mark.parametrize("number", [0, 1])
@torch.no_grad()
def test_espnets_hypotheses(number: int) -> None:
    known, model = golden("port_decoder"), port("small")
    name = f"small.beam{number}"
    frames, beam = known[f"{name}.cfg"].tolist()
    features = torch.from_numpy(wave(f"port.beam.{number}", (1, frames, 64)))
    weight = float(known[f"{name}.ctc_weight"])
    (found,) = search_joint(model.decoder, features, None, model.ctc(features), [frames], beam=beam, ctc_weight=weight)
    assert len(found) == int(known[f"{name}.n"])
    for place in range(3):
        said = known[f"{name}.hyp{place}"].tolist()
        while said[-1] == 39:  # the end, which may be there twice
            said.pop()
        assert [39, *found[place].tokens] == said
        assert found[place].score == pytest.approx(float(known[f"{name}.score{place}"]), abs=SCORE)


TINY = DecoderConfig(vocabulary=6, width=8, layers=1, heads=2, inner=8, style="fairseq")


@torch.no_grad()
def test_a_wide_beam_finds_the_best_of_all_texts() -> None:
    torch.manual_seed(3)
    decoder = Decoder(TINY).eval()
    decoder.embed_tokens.weight *= 3
    memory = torch.randn(1, 4, 8)

    def score(text: tuple[int, ...]) -> float:
        said = decoder(torch.tensor([[2, *text]]), memory)[0].log_softmax(dim=-1)
        return float(said[range(len(text) + 1), [*text, 2]].sum()) / (len(text) + 1)

    texts = [text for length in (1, 2, 3) for text in product((0, 3, 4, 5), repeat=length)]
    best = max(texts, key=score)
    (found,) = search_attention(decoder, memory, None, [3], beam=64)
    assert found[0].tokens == best
    assert found[0].score == pytest.approx(score(best), abs=SCORE)
    assert len({one.tokens for one in found}) == len(found)


@torch.no_grad()
def test_without_ctc_the_decoder_alone_decides() -> None:
    model = port("small")
    features = torch.from_numpy(wave("port.beam.0", (1, 12, 64)))
    (found,) = search_joint(model.decoder, features, None, model.ctc(features), [12], beam=3, ctc_weight=0)
    tokens = [39, *found[0].tokens]
    said = model.decoder(torch.tensor([tokens]), features)[0].log_softmax(dim=-1)
    whole = float(said[range(len(tokens) - 1), tokens[1:]].sum())
    ended = whole + float(said[-1, 39])
    # a text as long as the clip ends without having said so
    assert found[0].score == pytest.approx(whole if len(tokens) == 13 else ended, abs=SCORE)


def test_one_beam_is_greedy() -> None:
    torch.manual_seed(1)
    decoder = Decoder(TINY).eval()
    memory = torch.randn(1, 4, 8)
    (found,) = search_attention(decoder, memory, None, [2], beam=1)
    assert len(found) == 1
    assert isinstance(found[0], Hypothesis)


@pytest.mark.parametrize(
    ("settings", "message"),
    [({"beam": 0}, r"beam \(0\)"), ({"beam": 2, "ctc_weight": 1.5}, r"ctc_weight \(1.5\) must be in \[0, 1\]")],
)
def test_refuses_settings(settings: dict[str, float], message: str) -> None:
    model, features = port("small"), torch.zeros(1, 3, 64)
    with pytest.raises(InputError, match=message):
        search_joint(model.decoder, features, None, model.ctc(features), [3], **settings)  # type: ignore[arg-type]
