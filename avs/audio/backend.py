"""What every way of scoring the seconds of a sound is: a class with a name, a scale and options."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import Any, ClassVar, TypeVar

import numpy as np

from avs.audio.features import split_seconds
from avs.core.errors import InputError


@dataclass(frozen=True)
class Scale:
    """The unit of a backend's scores, and the std below which a clip's scores count as flat (`auto`)."""

    unit: str
    std_threshold: float


class Backend:
    """Scores [N,T] float32 of waveforms [N,S]; a clip's scores never depend on the other clips of the batch.

    `version` is raised whenever the scores change, because they are kept per clip.
    """

    version: ClassVar[int]
    scale: ClassVar[Scale]
    column: ClassVar[int | None] = None  # of the basic features, where that is what it scores by

    @property
    def weights_digest(self) -> str | None:
        """The sha256 that identifies the weights, found without loading them; None where there are none."""
        return None

    @property
    def identity(self) -> dict[str, Any]:
        """All that its scores depend on besides the sound, as JSON values."""
        return {"version": self.version, "weights": self.weights_digest}

    def on(self, device: str) -> Backend:
        """The same backend, computing on a device (`auto`, `cuda:1`) if it can."""
        return self

    def __call__(self, waveforms: np.ndarray, *, sample_rate: int = 16000, num_seconds: int = 10) -> np.ndarray:
        """Score waveforms [N,S], floating-point in [-1, 1], padded with silence or cut to T seconds: [N,T].

        Raises InputError for a wrong shape, dtype or sample rate.
        """
        seconds = split_seconds(waveforms, sample_rate=sample_rate, num_seconds=num_seconds)
        scores = np.empty(seconds.shape[:2], dtype=np.float32)
        for row, clip in zip(scores, seconds, strict=True):
            row[:] = self._score(clip, sample_rate)
        return scores

    def describe(self, waveforms: np.ndarray, num_seconds: int) -> np.ndarray:
        """What it needs of each clip beside the basic features, [N,T,C]: its scores, or nothing (C = 0)."""
        if self.column is not None:
            return np.empty((len(waveforms), num_seconds, 0), dtype=np.float32)
        return self(waveforms, num_seconds=num_seconds)[..., None]

    def _score(self, seconds: np.ndarray, sample_rate: int) -> np.ndarray:
        """The scores [T] of one clip, [T,sample_rate]."""
        raise NotImplementedError


BACKENDS: dict[str, type[Backend]] = {}  # filled by the modules that avs.audio.eventness imports
_Class = TypeVar("_Class", bound=type[Backend])


def backend(name: str) -> Callable[[_Class], _Class]:
    """Register a class, whose dataclass fields are its options, as the backend `name`."""

    def register(cls: _Class) -> _Class:
        BACKENDS[name] = cls
        return cls

    return register


def find_backend(method: str) -> type[Backend]:
    if method not in BACKENDS:
        known = ", ".join(sorted(BACKENDS))
        raise InputError(f"eventness method ({method!r}) must be one of {known}, or two of them joined by +")
    return BACKENDS[method]


def options_of(method: str) -> set[str]:
    """The names of the options that a backend has."""
    return set(getattr(find_backend(method), "__dataclass_fields__", ()))


def make_single(method: str, options: Mapping[str, Any]) -> Backend:
    """Make the backend of one name. Raises InputError for an option that it does not have."""
    known = options_of(method)
    if unknown := sorted(set(options) - known):
        allowed = ", ".join(sorted(known)) or "none"
        raise InputError(f"eventness method {method!r} has no option {', '.join(unknown)} (it has: {allowed})")
    return find_backend(method)(**options)
