"""Eventness: a score a second of how much is to be heard there. Each way of scoring is one small class."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from typing import Any, ClassVar, TypeVar

import numpy as np

from avs.audio.features import absolute_change, log_energy, split_seconds
from avs.core.errors import InputError
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

    def _score(self, seconds: np.ndarray, sample_rate: int) -> np.ndarray:
        """The scores [T] of one clip, [T,sample_rate]."""
        raise NotImplementedError


_BACKENDS: dict[str, type[Backend]] = {}
_Class = TypeVar("_Class", bound=type[Backend])


def backend(name: str) -> Callable[[_Class], _Class]:
    """Register a class, whose dataclass fields are its options, as the backend `name`."""

    def register(cls: _Class) -> _Class:
        _BACKENDS[name] = cls
        return cls

    return register


def methods() -> list[str]:
    """The names of the backends, sorted."""
    return sorted(_registered())


def published_weights() -> dict[str, str]:
    """The source of the weights of each backend that has published ones."""
    sources = {name: getattr(cls, "weights", None) for name, cls in _registered().items()}
    return {name: source for name, source in sources.items() if source}


def make_backend(method: str, **options: Any) -> Backend:
    """Make a backend once, for many batches; an option that is None means the backend's own default.

    Raises InputError for an unknown method, or an option that the method does not have.
    """
    given = {name: value for name, value in options.items() if value is not None}
    if "+" in method:
        from avs.audio.combination import combine

        return combine(method, given)
    cls = _find(method)
    known = options_of(method)
    if unknown := sorted(set(given) - known):
        allowed = ", ".join(sorted(known)) or "none"
        raise InputError(f"eventness method {method!r} has no option {', '.join(unknown)} (it has: {allowed})")
    return cls(**given)


def options_of(method: str) -> set[str]:
    """The names of the options that a backend has."""
    return set(getattr(_find(method), "__dataclass_fields__", ()))


def eventness(
    method: str, waveforms: np.ndarray, *, sample_rate: int = 16000, num_seconds: int = 10, **options: Any
) -> np.ndarray:
    """Score waveforms [N,S] once: [N,T] float32. See `make_backend` for options and `Backend.__call__`."""
    return make_backend(method, **options)(waveforms, sample_rate=sample_rate, num_seconds=num_seconds)


def auto_std_threshold(method: str) -> float:
    """What `std_threshold: auto` means for this method's scores, in their own unit."""
    if "+" in method:
        return make_backend(method).scale.std_threshold
    return _find(method).scale.std_threshold


def _registered() -> dict[str, type[Backend]]:
    """All backends. The modules that register them import this one, so they are imported on first use."""
    from avs.audio import ast_tagger, audiomae, panns, silero, supervised, yamnet_tagger  # noqa: F401

    return _BACKENDS


def _find(method: str) -> type[Backend]:
    if method not in _registered():
        known = ", ".join(methods())
        raise InputError(f"eventness method ({method!r}) must be one of {known}, or two of them joined by +")
    return _BACKENDS[method]


@backend("energy")
class Energy(Backend):
    """ln(mean(x^2) + 1e-12), the loudness of the second. The threshold, 4.3 dB, is the published one."""

    version = 1
    scale = Scale("nat", 1.0)

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

    def _score(self, seconds: np.ndarray, sample_rate: int) -> np.ndarray:
        return absolute_change(log_energy(seconds))
