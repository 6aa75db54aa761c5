"""Eventness by loudness: how loud a second is, and how much that changes."""

from __future__ import annotations

import numpy as np

from avs.audio.backend import Backend, Scale, backend
from avs.audio.features import absolute_change, log_energy


@backend("energy")
class Energy(Backend):
    """ln(mean(x^2) + 1e-12), the loudness of the second. The threshold, 4.3 dB, is the published one."""

    version = 1
    scale = Scale("nat", 1.0)
    column = 0

    def _score(self, seconds: np.ndarray, sample_rate: int) -> np.ndarray:
        return log_energy(seconds)


@backend("energy_delta")
class EnergyDelta(Backend):
    """|change of ln energy| since the second before, 0 in the first: where a sound begins or ends.

    The threshold stands for the same contrast as energy's. A sound that fills half of the clip, 2 nat above
    the rest, has an energy std of 1; two of its ten changes are 2 and the others 0, which is a std of 0.8.
    """

    version = 1
    scale = Scale("nat", 0.8)
    column = 1

    def _score(self, seconds: np.ndarray, sample_rate: int) -> np.ndarray:
        return absolute_change(log_energy(seconds))
