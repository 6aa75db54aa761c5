"""Encoder and decoder as one model, in its two published kinds: what it is trained on, and what it hears and reads."""

from __future__ import annotations

import math
from dataclasses import dataclass
from typing import NamedTuple

import torch
from torch import Tensor, nn
from torch.nn import functional

from avs.avsr.avhubert import AVHubertConfig, AVHubertEncoder
from avs.avsr.beam import FAIRSEQ_END, Hypothesis, search_attention, search_joint
from avs.avsr.ctc import BLANK
from avs.avsr.decoders import Decoder, DecoderConfig
from avs.avsr.fbank import INT16
from avs.avsr.text import Tokenizer
from avs.core.checkpoint import KeyReport
from avs.core.errors import InputError

SMOOTHING = 0.1  # of labels, in both recipes
CTC_WEIGHT = 0.1  # of CTC in the loss and the search, in the MCoRec recipe
PADDING = -1  # of labels


@dataclass(frozen=True)
class SearchParams:
    """How to decode; None: as published for the kind of model."""

    beam: int | None = None  # 50 for seq2seq, 3 for CTC/attention
    length_penalty: float = 1.0  # of seq2seq: the score is divided by length to this power
    ctc_weight: float = CTC_WEIGHT  # of CTC/attention

    def __post_init__(self) -> None:
        if self.beam is not None and self.beam < 1:
            raise InputError(f"beam ({self.beam}) must be >= 1")
        if not math.isfinite(self.length_penalty):
            raise InputError(f"length_penalty ({self.length_penalty:g}) must be a number")


class Loss(NamedTuple):
    """total: what is minimised; parts: numbers worth a look, by name."""

    total: Tensor
    parts: dict[str, Tensor]


class Recognizer(nn.Module):
    """An encoder and a decoder; of a model that was loaded, also its tokenizer and how its tensors were met."""

    sound_scale = 1.0  # of sound in [-1, 1], as the encoder was trained on
    key_report: KeyReport | None = None
    tokenizer: Tokenizer | None = None

    def __init__(self, encoder: AVHubertConfig, decoder: DecoderConfig) -> None:
        super().__init__()
        self.encoder = AVHubertEncoder(encoder)
        self.decoder = Decoder(decoder)

    def decode(
        self,
        audio: Tensor | None,
        video: Tensor | None,
        padding_mask: Tensor | None = None,
        params: SearchParams | None = None,
    ) -> list[list[Hypothesis]]:
        """Hypotheses of each clip, the best first; at most as many tokens as frames. Arguments as of the encoder."""
        return self.search(self.encoder(audio, video, padding_mask), padding_mask, params or SearchParams())

    def search(self, features: Tensor, padding_mask: Tensor | None, params: SearchParams) -> list[list[Hypothesis]]:
        """The same, from the encoder's features."""
        raise NotImplementedError

    def loss(self, audio: Tensor | None, video: Tensor | None, padding_mask: Tensor | None, labels: Tensor) -> Loss:
        """What is minimised, for labels int64 [B,L], tokens padded by -1; other arguments as of the encoder."""
        return self.loss_of(self.encoder(audio, video, padding_mask), padding_mask, labels)

    def loss_of(self, features: Tensor, padding_mask: Tensor | None, labels: Tensor) -> Loss:
        """The same, from the encoder's features: a mean over clips of what each adds up to."""
        raise NotImplementedError


class Seq2Seq(Recognizer):
    """AV-HuBERT as fine-tuned by its authors: an attention decoder of 1000 pieces of words, pad 1, end 2."""

    sound_scale = INT16

    def __init__(self, encoder: AVHubertConfig, decoder: DecoderConfig) -> None:
        if decoder.style != "fairseq" or decoder.width != encoder.width:
            raise InputError(f"a seq2seq decoder must be of style fairseq and as wide as the encoder ({encoder.width})")
        super().__init__(encoder, decoder)

    def loss_of(self, features: Tensor, padding_mask: Tensor | None, labels: Tensor) -> Loss:
        """Label-smoothed cross-entropy, summed over tokens and ends, divided by the batch's clips (fairseq: by
        its tokens)."""
        _check_labels(labels, self.decoder.config.vocabulary)
        given, wanted = _shifted(labels, FAIRSEQ_END)
        logits = self.decoder(given, features, padding_mask)
        smoothed, plain = (loss / len(labels) for loss in smoothed_cross_entropy(logits, wanted))
        return Loss(smoothed, {"nll": plain, "accuracy": _accuracy(logits, wanted)})

    def search(self, features: Tensor, padding_mask: Tensor | None, params: SearchParams) -> list[list[Hypothesis]]:
        return search_attention(
            self.decoder,
            features,
            padding_mask,
            _lengths(features, padding_mask),
            beam=50 if params.beam is None else params.beam,
            length_penalty=params.length_penalty,
        )


class CtcAttention(Recognizer):
    """AV-HuBERT with CTC and an attention decoder, as in MCoRec's recipe: blank 0, start and end the last token."""

    ctc_weight = CTC_WEIGHT  # in the loss

    def __init__(self, encoder: AVHubertConfig, decoder: DecoderConfig) -> None:
        if decoder.style != "espnet":
            raise InputError(f"a decoder beside CTC must be of style espnet, not {decoder.style}")
        super().__init__(encoder, decoder)
        self.ctc = nn.Linear(encoder.width, decoder.vocabulary)
        if decoder.width != encoder.width:
            self.proj_decoder = nn.Linear(encoder.width, decoder.width)

    def memory(self, features: Tensor) -> Tensor:
        """What the decoder attends to."""
        return self.proj_decoder(features) if hasattr(self, "proj_decoder") else features

    def loss_of(self, features: Tensor, padding_mask: Tensor | None, labels: Tensor) -> Loss:
        """`ctc_weight` of CTC, published 0.1, the rest of the divergence from smoothed labels: sums over clips by their
        number.

        A clip with fewer frames than its labels need adds no CTC loss.
        """
        _check_labels(labels, self.decoder.config.vocabulary)
        given, wanted = _shifted(labels, self.decoder.config.vocabulary - 1)
        logits = self.decoder(given, self.memory(features), padding_mask)
        attention = (smoothed_cross_entropy(logits, wanted)[0] - _entropy(wanted, logits.shape[-1])) / len(labels)
        ctc = self._ctc_loss(features, padding_mask, labels) / len(labels)
        total = self.ctc_weight * ctc + (1 - self.ctc_weight) * attention
        return Loss(total, {"ctc": ctc, "attention": attention, "accuracy": _accuracy(logits, wanted)})

    def _ctc_loss(self, features: Tensor, padding_mask: Tensor | None, labels: Tensor) -> Tensor:
        frames = self.ctc(features).float().log_softmax(dim=-1).transpose(0, 1)
        lengths = torch.tensor(_lengths(features, padding_mask))
        spoken = labels != PADDING
        return functional.ctc_loss(
            frames, labels.clamp(min=0), lengths, spoken.sum(dim=1).cpu(), BLANK, "sum", zero_infinity=True
        )

    def search(self, features: Tensor, padding_mask: Tensor | None, params: SearchParams) -> list[list[Hypothesis]]:
        return search_joint(
            self.decoder,
            self.memory(features),
            padding_mask,
            self.ctc(features),
            _lengths(features, padding_mask),
            beam=3 if params.beam is None else params.beam,
            ctc_weight=params.ctc_weight,
        )


def smoothed_cross_entropy(logits: Tensor, wanted: Tensor) -> tuple[Tensor, Tensor]:
    """Cross-entropy with 0.9 on the label and 0.1 evenly on all others, and the plain one, summed over labels.

    logits: [B,L,V]; wanted: int64 [B,L], -1 where there is no label.
    """
    said = logits.float().log_softmax(dim=-1)[wanted != PADDING]
    right = said.gather(1, wanted[wanted != PADDING][:, None])[:, 0]
    others = said.sum(dim=-1) - right
    share = SMOOTHING / (said.shape[-1] - 1)
    return -((1 - SMOOTHING) * right + share * others).sum(), -right.sum()


def _entropy(wanted: Tensor, vocabulary: int) -> float:
    """Of the smoothed labels: what their divergence is less than their cross-entropy."""
    one = (1 - SMOOTHING) * math.log(1 - SMOOTHING) + SMOOTHING * math.log(SMOOTHING / (vocabulary - 1))
    return -one * int((wanted != PADDING).sum())


def _shifted(labels: Tensor, end: int) -> tuple[Tensor, Tensor]:
    """What the decoder is given, from the start token on, and what it shall say, up to the end: [B,L+1] each."""
    edge = labels.new_full((len(labels), 1), end)
    given = torch.cat([edge, labels.where(labels != PADDING, end)], dim=1)
    wanted = torch.cat([labels, torch.full_like(edge, PADDING)], dim=1)
    lengths = (labels != PADDING).sum(dim=1, keepdim=True)
    return given, wanted.scatter(1, lengths, end)


def _accuracy(logits: Tensor, wanted: Tensor) -> Tensor:
    known = wanted != PADDING
    return (logits.argmax(dim=-1)[known] == wanted[known]).float().mean()


def _check_labels(labels: Tensor, vocabulary: int) -> None:
    spoken = labels != PADDING
    if labels.ndim != 2 or bool((spoken[:, 1:] & ~spoken[:, :-1]).any()):
        raise InputError(f"labels ({list(labels.shape)}) must be [B,L], padded by {PADDING} at the end only")
    if labels.numel() and not PADDING <= int(labels.min()) <= int(labels.max()) < vocabulary:
        raise InputError(f"labels must be from 0 to {vocabulary - 1}, found {int(labels.min())}..{int(labels.max())}")


def _lengths(features: Tensor, padding_mask: Tensor | None) -> list[int]:
    """Frames of each clip."""
    if padding_mask is None:
        return [features.shape[1]] * len(features)
    return (~padding_mask).sum(dim=1).tolist()
