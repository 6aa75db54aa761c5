"""Small things to train, and batches of noise, for tests that train in this process and in others."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Any

import torch
from torch import nn

from avs.avsr.avhubert import AVHubertConfig
from avs.avsr.batch import Batch
from avs.avsr.decoders import DecoderConfig
from avs.avsr.model import AvsrModel
from avs.avsr.recognizers import CtcAttention
from avs.avsr.seanet import SEANet
from avs.avsr.separation import Separation, SeparationParams

VOCABULARY = 6
SILENT = {"dropout": 0.0, "attention_dropout": 0.0, "modality_dropout": 0.0}


def noise(frames: Sequence[int], seed: int, seanet: Sequence[bool] | None = None) -> Batch:
    """A batch of clips of those lengths, all of whose rows go through SEANet if nothing else is said."""
    draw, count, longest = torch.Generator().manual_seed(seed), len(frames), max(frames)
    inside = torch.arange(longest) < torch.tensor(frames)[:, None]
    return Batch(
        clips=tuple(f"{seed}.{row}" for row in range(count)),
        frames=tuple(frames),
        mixture=0.1 * torch.randn(count, 640 * longest, generator=draw) * inside.repeat_interleave(640, dim=1),
        voice=0.1 * torch.randn(count, 640 * longest, generator=draw) * inside.repeat_interleave(640, dim=1),
        lips=torch.randint(0, 256, (count, longest, 88, 88), generator=draw, dtype=torch.uint8),
        muse=torch.randn(count, longest, 512, generator=draw) * inside[..., None],
        seanet=torch.tensor(seanet or [True] * count),
        labels=torch.randint(1, VOCABULARY - 1, (count, 2), generator=draw),
        words=torch.randint(0, 4, (count, longest), generator=draw).where(inside, -1),
    )


class Noise:
    """Epochs of the same lengths and other noise; `read` has the orders that were asked for."""

    def __init__(self, *lengths: Sequence[int], scope: Sequence[bool] | None = None) -> None:
        self.lengths, self.scope, self.read = lengths, scope, []

    def epoch(self, number: int) -> list[int]:
        return list(range(len(self.lengths)))

    def batch(self, order: int, epoch: int) -> Batch:
        self.read.append((epoch, order))
        return noise(self.lengths[order], 100 * epoch + order, self.scope)


def seanet() -> SEANet:
    torch.manual_seed(1)
    return SEANet(N=8, L=40, B=4, H=4, K=10, R=2)


def recognizer(**encoder: Any) -> CtcAttention:
    torch.manual_seed(0)
    config = AVHubertConfig.preset("tiny", **{"width": 32, "layers": 1, "inner": 32, **SILENT, **encoder})
    return CtcAttention(config, DecoderConfig(VOCABULARY, 32, 1, 2, 32, dropout=config.dropout))


def system(**encoder: Any) -> AvsrModel:
    """Both, with a head for words of frames."""
    return AvsrModel(recognizer(**encoder), seanet(), words=3, frame_loss=1.0)


def separation() -> Separation:
    """SEANet with its own objective, on all of the longest clip's frames."""
    return Separation(seanet(), SeparationParams(crop=25))


# more than one length; a length that one process has for itself; fewer rows than processes; rows around SEANet
SHARED: dict[str, tuple[Callable[[], nn.Module], Noise]] = {
    "system": (lambda: system(modality_dropout=0.5), Noise([3, 2, 3, 2, 3], [3, 3, 2, 3], [2])),
    "scope": (system, Noise([3, 3, 2, 3, 2], scope=[True, False, True, True, False])),
    "separation": (separation, Noise([3, 2, 2], [3])),
    "resnet": (lambda: recognized(front_end="resnet18"), Noise([2, 1, 2])),
    "few": (lambda: recognized(), Noise([3, 2, 3, 2, 3], [3])),
}


def recognized(**encoder: Any) -> AvsrModel:
    """A recognizer alone."""
    return AvsrModel(recognizer(**encoder))
