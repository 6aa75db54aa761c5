"""Eventness: a score a second of how much is to be heard there. Each way of scoring is one small class."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from functools import cached_property
from typing import Any, ClassVar, TypeVar

import numpy as np

from avs.audio import yamnet
from avs.audio.features import absolute_change, log_energy, split_seconds
from avs.core import weights as weight_files
from avs.core.errors import InputError
from avs.core.params import params
from avs.core.weights import check_pinned


@params
class EventnessParams:
    """Which backend scores the seconds, and its weights (null: the published ones, where it has any)."""

    method: str = "energy"
    weights: str | None = None

    def __post_init__(self) -> None:
        check_pinned(self.weights)
        make_backend(self.method, weights=self.weights)


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
    return sorted(_BACKENDS)


def published_weights() -> dict[str, str]:
    """The source of the weights of each backend that has published ones."""
    sources = {name: getattr(cls, "weights", None) for name, cls in _BACKENDS.items()}
    return {name: source for name, source in sources.items() if source}


def make_backend(method: str, **options: Any) -> Backend:
    """Make a backend once, for many batches; an option that is None means the backend's own default.

    Raises InputError for an unknown method, or an option that the method does not have.
    """
    cls = _find(method)
    known: set[str] = set(getattr(cls, "__dataclass_fields__", ()))
    given = {name: value for name, value in options.items() if value is not None}
    if unknown := sorted(set(given) - known):
        allowed = ", ".join(sorted(known)) or "none"
        raise InputError(f"eventness method {method!r} has no option {', '.join(unknown)} (it has: {allowed})")
    return cls(**given)


def eventness(
    method: str, waveforms: np.ndarray, *, sample_rate: int = 16000, num_seconds: int = 10, **options: Any
) -> np.ndarray:
    """Score waveforms [N,S] once: [N,T] float32. See `make_backend` for options and `Backend.__call__`."""
    return make_backend(method, **options)(waveforms, sample_rate=sample_rate, num_seconds=num_seconds)


def auto_std_threshold(method: str) -> float:
    """What `std_threshold: auto` means for this method's scores, in their own unit."""
    return _find(method).scale.std_threshold


def _find(method: str) -> type[Backend]:
    if method not in _BACKENDS:
        raise InputError(f"eventness method ({method!r}) must be one of {', '.join(methods())}")
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


# Silence, and what the AudioSet ontology files under "Channel, environment and background" (and wind on a
# microphone, which is of that kind): they describe the recording or the place, not what happens there.
NOT_EVENTS = frozenset(
    {
        "Silence",
        "Wind noise (microphone)",
        "Inside, small room",
        "Inside, large room or hall",
        "Inside, public space",
        "Outside, urban or manmade",
        "Outside, rural or natural",
        "Reverberation",
        "Echo",
        "Noise",
        "Environmental noise",
        "Static",
        "Mains hum",
        "Distortion",
        "Sidetone",
        "Cacophony",
        "White noise",
        "Pink noise",
        "Throbbing",
        "Vibration",
        "Television",
        "Radio",
        "Field recording",
    }
)


@backend("yamnet")
@dataclass(frozen=True)
class YamNetEvents(Backend):
    """The probability of the likeliest AudioSet class that names a sound event, by YAMNet at 16 kHz.

    The threshold is the std of ten scores of which one stands out by a third: 1/3 * sqrt(0.1 * 0.9).
    """

    version = 1
    scale = Scale("probability", 0.1)

    weights: str = yamnet.WEIGHTS

    @property
    def weights_digest(self) -> str | None:
        return weight_files.digest(self.weights)

    def _score(self, seconds: np.ndarray, sample_rate: int) -> np.ndarray:
        if sample_rate != yamnet.SAMPLE_RATE:
            raise InputError(f"sample_rate ({sample_rate}) must be {yamnet.SAMPLE_RATE} for yamnet: resample first")
        model, events = self._model
        return model.scores(seconds)[:, events].max(axis=-1)

    @cached_property
    def _model(self) -> tuple[yamnet.YamNet, list[int]]:
        model = yamnet.YamNet(weight_files.fetch(self.weights))
        return model, [i for i, name in enumerate(model.class_names) if name not in NOT_EVENTS]
