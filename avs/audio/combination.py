"""Two eventness backends as one: their scores, each in units of its own threshold, averaged."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, replace
from typing import Any

import numpy as np

from avs.audio.backend import Backend, Scale, make_single, options_of
from avs.audio.supervised import Supervised
from avs.core.errors import InputError


@dataclass(frozen=True)
class Combination(Backend):
    """(a / threshold of a + b / threshold of b) / 2, each threshold the std below which its scores count as flat.

    So the two weigh the same where they are equally far from flat, whatever their units, and neither the
    other clips nor the clip's own contrast enter. Standardising by the clip's std instead would blow up the
    noise of a flat clip and leave nothing to tell it by. The threshold is 1: two that agree are flat together
    when each is.
    """

    version = 1
    scale = Scale("thresholds", 1.0)

    parts: Mapping[str, Backend]

    @property
    def identity(self) -> dict[str, Any]:
        parts = {n: part.identity | {"std_threshold": part.scale.std_threshold} for n, part in self.parts.items()}
        return super().identity | {"parts": parts}

    def on(self, device: str) -> Combination:
        return replace(self, parts={name: part.on(device) for name, part in self.parts.items()})

    def __call__(self, waveforms: np.ndarray, *, sample_rate: int = 16000, num_seconds: int = 10) -> np.ndarray:
        scores = [
            part(waveforms, sample_rate=sample_rate, num_seconds=num_seconds) / np.float32(part.scale.std_threshold)
            for part in self.parts.values()
        ]
        return np.stack(scores).mean(axis=0)


def combine(method: str, options: Mapping[str, Any]) -> Combination:
    """Make `NAME+NAME`, with each option handed to the part that has it, or to both.

    Raises InputError for other than two different names, one that has to learn first, an option that neither has,
    and weights where both parts have some: then both take their published ones.
    """
    names = method.split("+")
    if len(names) != 2 or names[0] == names[1]:
        raise InputError(f"eventness method ({method!r}) must be one name, or two different ones joined by +")
    known = {name: options_of(name) for name in names}
    if unknown := sorted(set(options).difference(*known.values())):
        raise InputError(f"eventness method {method!r}: neither part has an option {', '.join(unknown)}")
    if "weights" in options and all("weights" in own for own in known.values()):
        raise InputError(f"eventness.weights: both parts of {method!r} have weights, and take their published ones")
    chosen = {name: {key: options[key] for key in options if key in known[name]} for name in names}
    parts = {name: make_single(name, chosen[name]) for name in names}
    if learnt := [name for name, part in parts.items() if isinstance(part, Supervised)]:
        raise InputError(f"eventness method ({method!r}): {learnt[0]} has to learn first, and stands alone")
    return Combination(parts)
