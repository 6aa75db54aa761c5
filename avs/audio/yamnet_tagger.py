"""Eventness by YAMNet, the small classifier whose weights come with a package."""

from __future__ import annotations

from dataclasses import dataclass
from functools import cached_property

import numpy as np

from avs.audio import yamnet
from avs.audio.audioset import NOT_EVENTS, require_rate
from avs.audio.backend import Backend, Scale, backend
from avs.core import weights as weight_files


@backend("yamnet")
@dataclass(frozen=True)
class YamNetTagger(Backend):
    """The probability of the likeliest AudioSet class that names a sound event, by YAMNet at 16 kHz.

    The threshold is the std of ten scores of which one stands out by a third: 1/3 * sqrt(0.1 * 0.9).
    """

    version = 1
    scale = Scale("probability", 0.1)

    weights: str = yamnet.WEIGHTS

    @property
    def weights_digest(self) -> str:
        return weight_files.digest(self.weights)

    def _score(self, seconds: np.ndarray, sample_rate: int) -> np.ndarray:
        require_rate(sample_rate)
        model, events = self._model
        return model.scores(seconds)[:, events].max(axis=-1)

    @cached_property
    def _model(self) -> tuple[yamnet.YamNet, list[int]]:
        model = yamnet.YamNet(weight_files.fetch(self.weights))
        return model, [i for i, name in enumerate(model.class_names) if name not in NOT_EVENTS]
