"""What `benchmarks.parity` measures: numbers of this kit beside those of the originals, which the tests have."""

from __future__ import annotations

import importlib.util
import os
import subprocess
import sys
import tempfile
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np
import test_fbank as fbank
import test_seanet as seanet
import test_visual_frontend as muse
import torch
from avhubert_golden import LOSS, SCORE, SHARED, SMALL, TOLERANCE, filled, golden, inputs, largest, padding
from golden_fill import tokens, wave
from test_recognizers import KINDS, PORT, port, seq2seq

from avs.avsr.avhubert import AVHubertConfig, AVHubertEncoder
from avs.avsr.avhubert_checkpoints import load_avhubert
from avs.avsr.beam import Hypothesis, search_attention, search_joint
from avs.avsr.fbank import log_bands, log_fbank
from avs.avsr.recognizers import Seq2Seq, smoothed_cross_entropy
from avs.lips.features import Extractor
from avs.lips.visual_frontend import VisualFrontend

TINY = SHARED / "dev/fairseq_finetuned_tiny.pt"


class Row(NamedTuple):
    what: str
    difference: float
    tolerance: float
    relative: bool = False


Rows = Iterator[Row]


@torch.no_grad()
def front_ends() -> Rows:
    network = VisualFrontend().eval()
    network.load_state_dict(muse.formula_weights())
    found = [
        largest(form(muse.frames(length))[0], muse.EXPECTED[f"out_T{length}"])
        for form in (network, network.frozen())
        for length in (7, 1)
    ]
    yield Row("MuSE's front-end", max(found), muse.TOLERANCE)
    pictures = tokens("muse.u8.T3", (3, 1, 96, 96), 0, 256)[:, 0].astype(np.uint8)
    features = torch.from_numpy(Extractor(network, "lips", "cpu").features(pictures))
    crops = largest(features, muse.EXPECTED["out_u8_T3"])
    yield Row("the same, from mouth crops on", crops, muse.TOLERANCE)
    yield Row("SEANet, voice and noise of all six stages: samples, norms", _seanet(), seanet.TOLERANCE)
    for dtype, tolerance in ((torch.float32, 1e-4), (torch.float64, 1e-5)):
        name = str(dtype).removeprefix("torch.")
        yield Row(f"log-fbank, 26 bands and stacked, {name}", _fbank(dtype), tolerance)


def _seanet() -> float:
    """Over what the repository has numbers of: parts of the sounds, and their norms."""
    cases = {name.partition(".")[0] for name in seanet.GOLDEN}
    worst = 0.0
    for case in cases:
        frames, batch = (int(part[1:]) for part in case.split("_"))
        for name, found in seanet.network()(*seanet.inputs(frames, batch), stages=True)._asdict().items():
            parts = {"first200": found[..., :200], "last200": found[..., -200:], "every37": found[..., ::37]}
            parts["norm"] = found.norm(dim=-1)
            worst = max(worst, *(largest(parts[part], seanet.GOLDEN[f"{case}.{name}.{part}"]) for part in parts))
    return worst


def _fbank(dtype: torch.dtype) -> float:
    worst = 0.0
    for case in fbank.CASES:
        sound = torch.from_numpy(fbank.signal(case)).to(dtype)[None]
        bands, features = log_bands(sound)[0], log_fbank(sound)[0]
        parts = {"stack_ln": features, "logfbank": bands, "logfbank_first8": bands[:8], "logfbank_last8": bands[-8:]}
        known = {part: fbank.GOLDEN[f"{case}.{part}"] for part in parts if f"{case}.{part}" in fbank.GOLDEN}
        worst = max(worst, *(largest(parts[part], values) for part, values in known.items()))
    return worst


@torch.no_grad()
def avhubert() -> Rows:
    text = "encoder: sound, lips, both, with and without padding, "
    yield Row(text + "of fairseq's AV-HuBERT", _encoder("avhubert_encoder"), TOLERANCE)
    yield Row("the same, of MCoRec's port", _encoder("avhubert_encoder_port"), TOLERANCE)
    known = golden("avhubert_encoder_deep24")
    deep = filled(AVHubertEncoder(AVHubertConfig(width=64, layers=24, heads=4, inner=128)))
    found = deep(*inputs("deep.audio", "deep.video", 2, 30), padding(known["lengths"]))
    yield Row("encoder of 24 layers", largest(found, known["out"]), TOLERANCE)
    yield from _port()
    yield from _fairseq()
    if TINY.exists():
        yield from _fine_tuned()


def _encoder(source: str) -> float:
    network, known, worst = filled(AVHubertEncoder(SMALL)), golden("avhubert_encoder"), 0.0
    for case in ("av", "audio", "video", "av_pad", "audio_pad", "video_pad"):
        heard, seen = inputs(f"avhubert.audio.{case}", f"avhubert.video.{case}", *known[f"{case}.shape"].tolist())
        mask = padding(known[f"{case}.lengths"]) if case.endswith("_pad") else None
        used = None if case.startswith("video") else heard, None if case.startswith("audio") else seen
        worst = max(worst, largest(network(*used, mask), golden(source)[f"{case}.out"]))
    return worst


def _port() -> Rows:
    logits, losses, scores = [], [], []
    for kind, config in KINDS.items():
        model = port(kind)
        memory = torch.from_numpy(wave("port.memory", (2, 9, config.width)))
        mask = padding(PORT[f"{kind}.memory_lengths"])
        prefix = torch.from_numpy(PORT[f"{kind}.prefix"])
        logits.append(largest(model.decoder(prefix, memory, mask), PORT[f"{kind}.prefix_logits"]))
        for case in (f"{kind}.a", f"{kind}.b"):
            lengths, labels = PORT[f"{case}.video_lengths"], torch.from_numpy(PORT[f"{case}.labels"])
            name = case[-1]
            given = inputs(f"port.audio.{name}", f"port.video.{name}", len(lengths), int(lengths.max()))
            frames = model.ctc(model.encoder(*given, padding(lengths))).log_softmax(dim=-1)
            logits.append(largest(frames, PORT[f"{case}.ctc_log_softmax"]))
            loss = model.loss(*given, padding(lengths), labels)
            parts = {"loss": loss.total, "loss_ctc": loss.parts["ctc"], "loss_att": loss.parts["attention"]}
            losses += [_relative(value, PORT[f"{case}.{part}"]) for part, value in parts.items()]
    for number in (0, 1):
        model, name = port("small"), f"small.beam{number}"
        frames, beam = PORT[f"{name}.cfg"].tolist()
        features = torch.from_numpy(wave(f"port.beam.{number}", (1, frames, 64)))
        weight, heard = float(PORT[f"{name}.ctc_weight"]), model.ctc(features)
        (best,) = search_joint(model.decoder, features, None, heard, [frames], beam=beam, ctc_weight=weight)
        scores += [_same(best[place], PORT, name, place, start=39) for place in range(3)]
    yield Row("port: CTC's log-probabilities, decoder's logits", max(logits), TOLERANCE)
    yield Row("port: loss, its parts of CTC and attention", max(losses), LOSS, True)
    yield Row("port: joint search, beam 3 and 5: same hypotheses; scores", max(scores), SCORE)


def _fairseq() -> Rows:
    known, model = golden("fairseq_decoder"), seq2seq()
    audio, video = inputs("fss2s.audio", "fss2s.video", 2, 8)
    mask, prefix = padding(known["full.lengths"], 8), torch.from_numpy(known["full.prefix"])
    used: dict[str, tuple[Any, Any]] = {"av": (audio, video), "audio": (audio, None), "video": (None, video)}
    memory = {name: model.encoder(*given, mask) for name, given in used.items()}
    logits = [largest(model.decoder(prefix, memory[name], mask), known[f"full_{name}.logits"]) for name in used]
    wanted = torch.from_numpy(known["target"])
    found = smoothed_cross_entropy(torch.from_numpy(known["logits"]), wanted.masked_fill(wanted == 1, -1))
    losses = [_relative(value, known[name]) for value, name in zip(found, ("ls_loss_sum", "nll_sum"), strict=True)]
    scores = []
    for number in (0, 1):
        beam, penalty, _, limit = known[f"beam{number}.cfg"].tolist()
        settings = {"beam": int(beam), "length_penalty": penalty}
        best = search_attention(model.decoder, memory["av"], mask, [int(limit)] * 2, **settings)
        scores += [_same(best[b][place], known, f"beam{number}.b{b}", place) for b in (0, 1) for place in range(3)]
    yield Row("fairseq: logits of the whole model", max(logits), TOLERANCE)
    yield Row("fairseq: smoothed and plain loss", max(losses), LOSS, True)
    yield Row("fairseq: beam search, two settings: same hypotheses; scores", max(scores), SCORE)


def _fine_tuned() -> Rows:
    model, known = load_avhubert(TINY), golden("fairseq_finetuned_tiny")
    assert isinstance(model, Seq2Seq)
    memory = model.encoder(*inputs("ckpt.audio", "ckpt.video", 1, 6))
    logits = model.decoder(torch.from_numpy(known["prefix"]), memory)
    found = max(largest(memory, known["encoder_out"]), largest(logits, known["logits"]))
    yield Row("a file that fairseq wrote: encoder, logits", found, TOLERANCE)


@torch.no_grad()
def fairseq() -> Rows:
    """Beside fairseq's own classes, on a checkpoint that they write; nothing where they are not installed."""
    if importlib.util.find_spec("fairseq") is None:
        print("fairseq is not installed: its part is left out (docs/fairseq.md)", file=sys.stderr)
        return
    with tempfile.TemporaryDirectory() as folder:
        peer = [sys.executable, "tests/fairseq_peer.py", folder]
        subprocess.run(peer, check=True, capture_output=True, env=os.environ | {"PYTHONPATH": "."})
        said, model = dict(np.load(Path(folder) / "outputs.npz")), load_avhubert(Path(folder) / "model.pt")
    assert isinstance(model, Seq2Seq)
    mask, given = padding(said["lengths"]), torch.from_numpy(said["given"])
    memory = model.encoder.encoder(torch.from_numpy(said["features"]), mask)
    logits = model.decoder(given, memory, mask)
    found = smoothed_cross_entropy(logits, given)
    losses = [_relative(value, said[name]) for value, name in zip(found, ("smoothed", "nll"), strict=True)]
    best = search_attention(model.decoder, torch.from_numpy(said["memory"]), mask, [9, 9], beam=5)
    scores = [_peer_score(one, said, f"beam.{b}.{place}") for b in (0, 1) for place, one in enumerate(best[b])]
    transformer = "`wav2vec2.TransformerEncoder`, AV-HuBERT's transformer: `avs.avsr.avhubert`"
    decoder = "`TransformerDecoderBase`, after that encoder: `avs.avsr.decoders`"
    search = "`SequenceGenerator`, beam 5, two clips: `avs.avsr.beam.search_attention`, same ten hypotheses; scores"
    yield Row(transformer, largest(memory, said["memory"]), TOLERANCE)
    yield Row(decoder, largest(logits, said["logits"]), TOLERANCE)
    yield Row(search, max(scores), SCORE)
    yield Row("`label_smoothed_nll_loss`: `avs.avsr.recognizers`", max(losses), LOSS, True)


def _relative(found: Any, expected: Any) -> float:
    return abs(float(found) - float(expected)) / abs(float(expected))


def _same(one: Hypothesis, known: dict[str, np.ndarray], name: str, place: int, *, start: int | None = None) -> float:
    """How far the scores are apart, once the texts are the same; ESPnet's begin with the token that also ends them."""
    said = known[f"{name}.hyp{place}"].tolist()
    while said[-1] == (2 if start is None else start):
        said.pop()
    assert [*one.tokens] == (said if start is None else said[1:]), name
    return abs(one.score - float(known[f"{name}.score{place}"]))


def _peer_score(one: Hypothesis, said: dict[str, np.ndarray], name: str) -> float:
    assert [*one.tokens, 2] == said[f"{name}.tokens"].tolist(), name
    return abs(one.score - float(said[f"{name}.score"]))


PARTS: dict[str, Callable[[], Rows]] = {"front_ends": front_ends, "avhubert": avhubert, "fairseq": fairseq}
