"""The whole system: SEANet for the voice, log filter banks, and a recognizer, on batches of clips."""

from __future__ import annotations

import torch
from torch import Tensor, nn
from torch.nn import functional

from avs.avsr.avhubert import MEAN, STD
from avs.avsr.batch import Batch, Use, check_use
from avs.avsr.beam import Hypothesis
from avs.avsr.fbank import log_fbank
from avs.avsr.recognizers import Loss, Recognizer, SearchParams
from avs.avsr.seanet import SEANet, separate
from avs.core.errors import InputError


class AvsrModel(nn.Module):
    """SEANet, if there is one, before a recognizer; `words` > 0 adds a head that tells each frame's word.

    frame_loss: weight of that head's loss, where the words of frames are known; it is no part of the published recipe.
    """

    def __init__(
        self, recognizer: Recognizer, seanet: SEANet | None = None, *, words: int = 0, frame_loss: float = 0.0
    ) -> None:
        super().__init__()
        self.recognizer, self.seanet = recognizer, seanet
        self.frame_loss = frame_loss
        self.frame_head = nn.Linear(recognizer.encoder.config.width, words + 1) if words else None
        self.recognizer_frozen = False

    def freeze_recognizer(self) -> AvsrModel:
        """No gradients for the recognizer, and eval mode for good: no dropout, and statistics stay where they are."""
        self.recognizer_frozen = True
        for part in (self.recognizer, self.frame_head):
            if part is not None:
                part.requires_grad_(False).eval()
        return self

    def train(self, mode: bool = True) -> AvsrModel:
        super().train(mode)
        if self.recognizer_frozen:
            self.recognizer.eval()
            if self.frame_head is not None:
                self.frame_head.eval()
        return self

    def forward(self, batch: Batch, use: Use = "both") -> Loss:
        """The recognizer's loss on what SEANet hears; no loss of SEANet's own."""
        encoded, mask = self.encode(batch, use)
        loss = self.recognizer.loss_of(encoded, mask, batch.labels)
        if self.frame_head is None or not self.frame_loss:
            return loss
        frames = functional.cross_entropy(
            self.frame_head(encoded).float().flatten(0, 1), batch.words.flatten(), ignore_index=-1, reduction="sum"
        )
        # by clips, as the other losses are: clips of one length weigh the same however they are shared out
        own = frames / (len(batch) * encoded.shape[1])
        return Loss(loss.total + self.frame_loss * own, loss.parts | {"frame": own})

    def encode(self, batch: Batch, use: Use = "both", seen: Tensor | None = None) -> tuple[Tensor, Tensor | None]:
        """The encoder's features [B,T,width] and the mask of padding; `seen`: what `see` found, where that is known."""
        check_use(use)
        mask = batch.padding_mask()
        heard = None if use == "lips" else self._heard(batch, mask)
        if use == "audio":
            seen = None
        elif seen is None:
            seen = _seen(batch, mask)
        return self.recognizer.encoder(heard, seen, mask), mask

    def see(self, batch: Batch) -> Tensor:
        """What the encoder's front-end makes of the lips [B,T,width]: they are the same in any noise."""
        return self.recognizer.encoder.see(_seen(batch, batch.padding_mask()))

    def decode(
        self, batch: Batch, use: Use = "both", params: SearchParams | None = None, seen: Tensor | None = None
    ) -> list[list[Hypothesis]]:
        """Hypotheses of each clip, the best first."""
        with torch.inference_mode():
            encoded, mask = self.encode(batch, use, seen)
            return self.recognizer.search(encoded, mask, params or SearchParams())

    def voices(self, batch: Batch) -> Tensor:
        """What the recognizer hears [B,640 T]: SEANet's voice in rows that go through it, the mixture in others."""
        rows = batch.seanet.nonzero()[:, 0]
        if self.seanet is None or not len(rows):
            return batch.mixture
        if batch.muse is None:
            raise InputError("SEANet needs MuSE's features, and this batch has none")
        frames = [batch.frames[row] for row in rows.tolist()]
        found = separate(self.seanet, batch.mixture[rows], batch.muse[rows], frames)
        return batch.mixture.index_copy(0, rows, found.to(batch.mixture.dtype))

    def _heard(self, batch: Batch, mask: Tensor | None) -> Tensor:
        lengths = None if mask is None else torch.tensor([640 * count for count in batch.frames])
        return log_fbank(self.voices(batch), lengths, scale=self.recognizer.sound_scale)


def _seen(batch: Batch, mask: Tensor | None) -> Tensor:
    """Mouths [B,1,T,88,88] as AV-HuBERT takes them, zeros in padding."""
    seen = (batch.lips.float() / 255 - MEAN) / STD
    if mask is not None:
        seen = seen.masked_fill(mask[..., None, None], 0)
    return seen[:, None]
