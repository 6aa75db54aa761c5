"""Eventness: a score a second of how much is to be heard there, by one of the backends or by two of them."""

from __future__ import annotations

from typing import Any

import numpy as np

from avs.audio import ast_tagger, audiomae, energy, panns, silero, supervised, yamnet_tagger  # noqa: F401  # register
from avs.audio.backend import BACKENDS, Backend, make_single
from avs.audio.combination import combine
from avs.core.params import params
from avs.core.weights import check_pinned


@params
class EventnessParams:
    """Which backend scores the seconds, or which two (`energy+yamnet`), and its options: null is its own default.

    The options are those of `make_backend`: `weights` (null: the published ones, where it has any), and
    what the backends of avs.audio say of `window` and `reading`.

    Those that learn from the training rows do so with `folds`-fold cross-fitting (1: training clips are scored by what
    was learnt from them) on standardised features, for `epochs` (null: each method's published number, made for the 17
    steps that an epoch of AVE has); 1, false and null are the published code's.
    """

    method: str = "energy"
    weights: str | None = None
    window: float | None = None
    reading: str | None = None
    folds: int = 5
    standardize: bool = True
    epochs: int | None = None

    def __post_init__(self) -> None:
        if self.folds < 1:
            raise ValueError(f"folds ({self.folds}) must be >= 1")
        if self.epochs is not None and self.epochs < 1:
            raise ValueError(f"epochs ({self.epochs}) must be >= 1, or null")
        check_pinned(self.weights)
        self.backend()

    def backend(self) -> Backend:
        return make_backend(self.method, weights=self.weights, window=self.window, reading=self.reading)


def methods() -> list[str]:
    """The names of the backends, sorted."""
    return sorted(BACKENDS)


def published_weights() -> dict[str, str]:
    """The source of the weights of each backend that has published ones."""
    sources = {name: getattr(cls, "weights", None) for name, cls in BACKENDS.items()}
    return {name: source for name, source in sources.items() if source}


def make_backend(method: str, **options: Any) -> Backend:
    """Make a backend once, for many batches; an option that is None means the backend's own default.

    Raises InputError for an unknown method, or an option that the method does not have.
    """
    given = {name: value for name, value in options.items() if value is not None}
    return combine(method, given) if "+" in method else make_single(method, given)


def eventness(
    method: str, waveforms: np.ndarray, *, sample_rate: int = 16000, num_seconds: int = 10, **options: Any
) -> np.ndarray:
    """Score waveforms [N,S] once: [N,T] float32. See `make_backend` for options and `Backend.__call__`."""
    return make_backend(method, **options)(waveforms, sample_rate=sample_rate, num_seconds=num_seconds)
