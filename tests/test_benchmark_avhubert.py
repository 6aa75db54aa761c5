"""The committed figures of AV-HuBERT: of the command that is named, and of the same graph written plainly."""

import json
from pathlib import Path

import torch
from avhubert_golden import ESPNET, FAIRSEQ, SMALL, TOLERANCE, filled, inputs, largest

from avs.avsr.beam import search_attention, search_joint
from avs.avsr.recognizers import CtcAttention, Seq2Seq
from avs.core.execute import one_thread
from benchmarks import avhubert as benchmark
from benchmarks.plain_avhubert import PlainDecoder, plain_encoder

FIGURES = json.loads((Path(__file__).resolve().parents[1] / "docs/results/avhubert.json").read_text())


def test_the_figures_are_complete() -> None:
    assert FIGURES["command"] == "python -m benchmarks.avhubert"
    assert list(FIGURES["models"]) == sorted(benchmark.MODELS)
    for row in FIGURES["models"].values():
        assert set(benchmark.FIGURES) < set(row)
        assert row["few_ratio"] > 1  # what a cache is for
    assert benchmark.table(FIGURES).count("\n") == 1 + len(benchmark.MODELS)


@torch.inference_mode()
def test_both_say_the_same() -> None:
    model = filled(Seq2Seq(SMALL, FAIRSEQ))
    with one_thread():
        given = inputs("fss2s.audio", "fss2s.video", 2, 8)
        memory = model.encoder(*given)
        assert largest(plain_encoder(model.encoder, *given), memory) < TOLERANCE
        plain = PlainDecoder(model.decoder)
        ours, other = (search_attention(way, memory, None, [6, 6], beam=3) for way in (model.decoder, plain))  # type: ignore[arg-type]
    assert [[one.tokens for one in clip] for clip in ours] == [[one.tokens for one in clip] for clip in other]


@torch.inference_mode()
def test_both_say_the_same_with_ctc() -> None:
    model = filled(CtcAttention(SMALL, ESPNET))
    memory = torch.randn(1, 8, 64)
    ways = (model.decoder, PlainDecoder(model.decoder))
    with one_thread():
        ours, other = (search_joint(way, memory, None, model.ctc(memory), [8]) for way in ways)  # type: ignore[arg-type]
    assert [one.tokens for one in ours[0]] == [one.tokens for one in other[0]]
