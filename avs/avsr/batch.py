"""What training, decoding and the report take: some clips side by side, padded to the longest of them."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, fields, replace
from typing import Any, Literal, get_args

import torch
from torch import Tensor

from avs.core.errors import InputError

Use = Literal["both", "audio", "lips"]  # which inputs a recognizer is given
Lips = Literal["right", "wrong"]  # whose steer SEANet: the clip's own, or, as a control, those of another clip


@dataclass(frozen=True)
class Batch:
    """B clips, T frames at 25 Hz in the longest of them, padded by zeros; sound has 640 samples a frame.

    clips: keys; frames: valid frames of each row; mixture: float32 [B,640 T] in [-1, 1], what is heard; voice: the
    same of the wanted voice alone; lips: uint8 [B,T,88,88]; muse: float32 [B,T,512], where SEANet takes part;
    seanet: bool [B], the rows whose sound goes through it; labels: int64 [B,L], tokens padded by -1; words: int64
    [B,T], which word is said in a frame (the vocabulary's size where none is), -1 where that is not known;
    wrong_muse: as muse, of other clips, each from its start again where it ends: for evaluation.
    """

    clips: tuple[str, ...]
    frames: tuple[int, ...]
    mixture: Tensor
    voice: Tensor
    lips: Tensor
    muse: Tensor | None
    seanet: Tensor
    labels: Tensor
    words: Tensor
    wrong_muse: Tensor | None = None

    def __len__(self) -> int:
        return len(self.clips)

    def to(self, device: torch.device) -> Batch:
        tensors = {f.name: getattr(self, f.name) for f in fields(self) if isinstance(getattr(self, f.name), Tensor)}
        return replace(self, **{name: tensor.to(device, non_blocking=True) for name, tensor in tensors.items()})

    def padding_mask(self) -> Tensor | None:
        """True [B,T] on frames that are none of the clip; None where there are none."""
        longest = self.lips.shape[1]
        if min(self.frames) == longest:
            return None
        lengths = torch.tensor(self.frames, device=self.lips.device)
        return torch.arange(longest, device=self.lips.device) >= lengths[:, None]

    def steered(self, lips: Lips) -> Batch:
        """With the lips that are to steer SEANet in the place of `muse`."""
        if lips == "right":
            return self
        if self.wrong_muse is None:
            raise InputError("wrong lips need MuSE's features of other clips, and this batch has none")
        return replace(self, muse=self.wrong_muse)

    def rows(self, places: slice | Sequence[int]) -> Batch:
        """Some of the clips, with the padding of all."""
        chosen = list(range(len(self))[places]) if isinstance(places, slice) else list(places)
        kept = {f.name: getattr(self, f.name) for f in fields(self) if getattr(self, f.name) is not None}
        return replace(self, **{name: _rows(value, chosen) for name, value in kept.items()})


def _rows(value: Any, places: list[int]) -> Any:
    return value[places] if isinstance(value, Tensor) else tuple(value[place] for place in places)


def check_use(use: str) -> None:
    if use not in get_args(Use):
        raise InputError(f"use ({use!r}) must be one of {', '.join(get_args(Use))}")
