"""Both kinds of recognizers: published numbers of whole models, their losses, what they refuse."""

from __future__ import annotations

from collections.abc import Iterator
from functools import cache

import pytest
import torch
from avhubert_golden import (
    ESPNET,
    FAIRSEQ,
    GOLDEN,
    LOSS,
    NARROW,
    SCORE,
    SMALL,
    TOLERANCE,
    filled,
    golden,
    inputs,
    largest,
    padding,
    table,
)
from golden_fill import wave

from avs.avsr.avhubert_checkpoints import _named
from avs.avsr.recognizers import CtcAttention, SearchParams, Seq2Seq, smoothed_cross_entropy
from avs.core.errors import InputError
from avs.core.execute import one_thread


@pytest.fixture(autouse=True)
def _one_thread() -> Iterator[None]:
    """The networks are small: on a busy machine, threads that wait for each other take many times as long."""
    with one_thread():
        yield


PORT = golden("port_decoder")
KINDS = {"small": ESPNET, "small_proj": NARROW}


@cache
def seq2seq() -> Seq2Seq:
    return filled(Seq2Seq(SMALL, FAIRSEQ))


@cache
def port(kind: str) -> CtcAttention:
    """Names of the formula are those of the port's files; of the projection too."""
    known = [*table(GOLDEN / "avhubert_small.port.keys.tsv"), "avsr.proj_decoder.weight", "avsr.proj_decoder.bias"]
    ours = _named({name: torch.zeros(1) for name in known}, GOLDEN)
    formula = {own: name for own, name in zip(ours, known, strict=True) if not own.startswith("encoder.")}
    return filled(CtcAttention(SMALL, KINDS[kind]), formula)


@pytest.mark.parametrize("case", ["a", "b"])
@pytest.mark.parametrize("kind", KINDS)
@torch.no_grad()
def test_losses_of_the_port(kind: str, case: str) -> None:
    lengths, labels = PORT[f"{kind}.{case}.video_lengths"], torch.from_numpy(PORT[f"{kind}.{case}.labels"])
    audio, video = inputs(f"port.audio.{case}", f"port.video.{case}", len(lengths), int(lengths.max()))
    model = port(kind)
    found = model.loss(audio, video, padding(lengths), labels)
    expected = {name: float(PORT[f"{kind}.{case}.{name}"]) for name in ("loss", "loss_ctc", "loss_att", "acc")}
    assert float(found.total) == pytest.approx(expected["loss"], rel=LOSS)
    assert float(found.parts["ctc"]) == pytest.approx(expected["loss_ctc"], rel=LOSS)
    assert float(found.parts["attention"]) == pytest.approx(expected["loss_att"], rel=LOSS)
    assert float(found.parts["accuracy"]) == pytest.approx(expected["acc"])
    frames = model.ctc(model.encoder(audio, video, padding(lengths))).log_softmax(dim=-1)
    assert largest(frames, PORT[f"{kind}.{case}.ctc_log_softmax"]) < TOLERANCE


@pytest.mark.parametrize("kind", KINDS)
@torch.no_grad()
def test_decoder_of_the_port(kind: str) -> None:
    decoder, prefix = port(kind).decoder, torch.from_numpy(PORT[f"{kind}.prefix"])
    memory = torch.from_numpy(wave("port.memory", (2, 9, KINDS[kind].width)))
    found = decoder(prefix, memory, padding(PORT[f"{kind}.memory_lengths"]))
    assert largest(found, PORT[f"{kind}.prefix_logits"]) < TOLERANCE
    past = decoder.start(memory)
    said = [decoder.step(prefix[:, place : place + 1], past) for place in range(prefix.shape[1])]
    assert largest(said[-1][:, 0].log_softmax(dim=-1), PORT[f"{kind}.one_step_logp_full_memory"]) < TOLERANCE


@pytest.mark.parametrize("used", ["av", "audio", "video"])
@torch.no_grad()
def test_whole_fairseq_model(used: str) -> None:
    known = golden("fairseq_decoder")
    audio, video = inputs("fss2s.audio", "fss2s.video", 2, 8)
    mask = padding(known["full.lengths"], 8)
    model = seq2seq()
    memory = model.encoder(None if used == "video" else audio, None if used == "audio" else video, mask)
    found = model.decoder(torch.from_numpy(known["full.prefix"]), memory, mask)
    assert largest(found, known[f"full_{used}.logits"]) < TOLERANCE


@torch.no_grad()
def test_smoothed_cross_entropy_is_fairseqs() -> None:
    known = golden("fairseq_decoder")
    wanted = torch.from_numpy(known["target"])
    wanted = wanted.masked_fill(wanted == 1, -1)
    smoothed, plain = smoothed_cross_entropy(torch.from_numpy(known["logits"]), wanted)
    assert int((wanted >= 0).sum()) == int(known["ntokens"])
    assert float(smoothed) == pytest.approx(float(known["ls_loss_sum"]), rel=LOSS)
    assert float(plain) == pytest.approx(float(known["nll_sum"]), rel=LOSS)


@torch.no_grad()
def test_seq2seq_loss_is_that_of_its_logits_a_mean_over_clips() -> None:
    audio, video = inputs("fss2s.audio", "fss2s.video", 2, 8)
    labels = torch.tensor([[5, 6, 7], [8, -1, -1]])
    model = seq2seq()
    logits = model.decoder(torch.tensor([[2, 5, 6, 7], [2, 8, 1, 1]]), model.encoder(audio, video))
    wanted = torch.tensor([[5, 6, 7, 2], [8, 2, -1, -1]])
    found = model.loss(audio, video, None, labels)
    smoothed, plain = smoothed_cross_entropy(logits, wanted)
    assert float(found.total) == pytest.approx(float(smoothed) / 2, rel=LOSS)
    assert float(found.parts["nll"]) == pytest.approx(float(plain) / 2, rel=LOSS)


@torch.no_grad()
def test_too_few_frames_add_no_ctc_loss() -> None:
    audio, video = inputs("port.audio.b", "port.video.b", 1, 8)
    found = port("small").loss(audio, video, None, torch.arange(4, 14)[None])
    assert float(found.parts["ctc"]) == 0
    assert bool(found.total.isfinite())


@pytest.mark.parametrize("kind", ["seq2seq", "port"])
def test_decode_in_a_batch_is_decode_alone(kind: str) -> None:
    model = seq2seq() if kind == "seq2seq" else port("small")
    audio, video = inputs("port.audio.a", "port.video.a", 2, 10)
    audio[1, 6:], video[1, :, 6:] = 0, 0
    params = SearchParams(beam=4)
    with torch.inference_mode():
        together = model.decode(audio, video, padding([10, 6]), params)
        alone = model.decode(audio[1:, :6], video[1:, :, :6], None, params)
    assert [one.tokens for one in together[1]] == [one.tokens for one in alone[0]]
    scores = [one.score for one in alone[0]]
    assert [one.score for one in together[1]] == pytest.approx(scores, abs=SCORE)
    assert scores == sorted(scores, reverse=True)


@pytest.mark.parametrize(
    ("labels", "message"),
    [
        (torch.tensor([[1, -1, 2]]), "padded by -1 at the end only"),
        (torch.tensor([1, 2]), r"must be \[B,L\]"),
        (torch.tensor([[40]]), "from 0 to 39, found 40..40"),
        (torch.tensor([[-2]]), "from 0 to 39, found -2"),
    ],
)
def test_refuses_labels(labels: torch.Tensor, message: str) -> None:
    audio, video = inputs("fss2s.audio", "fss2s.video", 1, 3)
    for model in (seq2seq(), port("small")):
        with pytest.raises(InputError, match=message):
            model.loss(audio, video, None, labels)


@pytest.mark.parametrize("labels", [torch.zeros(2, 0, dtype=torch.int64), torch.tensor([[-1, -1], [5, 6]])])
def test_clips_in_which_nothing_is_said_have_a_loss(labels: torch.Tensor) -> None:
    """All of them, or one beside another: with gradients, and that of CTC is of blanks only."""
    audio, video = inputs("fss2s.audio", "fss2s.video", 2, 3)
    for model in (seq2seq(), port("small")):
        features = model.encoder(audio, video).detach().requires_grad_()
        found = model.loss_of(features, None, labels)
        found.total.backward()
        assert torch.isfinite(found.total)
        assert features.grad is not None
        assert bool(features.grad.isfinite().all())
        assert bool(features.grad[0].any())
    assert isinstance(model, CtcAttention)
    with torch.no_grad():
        blank = -model.ctc(features[:1]).log_softmax(dim=-1)[..., 0].sum()
        ctc = model.loss_of(features[:1], None, labels[:1]).parts["ctc"]
    assert float(ctc) == pytest.approx(float(blank), rel=LOSS)


def test_refuses_a_decoder_of_the_other_style() -> None:
    with pytest.raises(InputError, match="style fairseq and as wide as the encoder"):
        Seq2Seq(SMALL, ESPNET)
    with pytest.raises(InputError, match="style espnet, not fairseq"):
        CtcAttention(SMALL, FAIRSEQ)
