"""What the classifiers of sound into AudioSet's classes have in common as eventness backends."""

from __future__ import annotations

import threading
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, replace
from functools import cached_property
from pathlib import Path
from typing import Any, ClassVar

import numpy as np
import scipy
import torch
from torch import Tensor, nn

from avs.audio.backend import Backend, Scale
from avs.core import weights as weight_files
from avs.core.checkpoint import load_strict, read_tensors
from avs.core.errors import InputError
from avs.core.execute import exact_convolutions, one_thread, torch_device

NUM_CLASSES = 527

# Silence, and what the AudioSet ontology files under "Channel, environment and background" (and wind on a
# microphone, which is of that kind): they describe the recording or the place, not what happens there.
# The numbers are the positions among the 527 classes of the published `class_labels_indices.csv`.
NOT_EVENTS = {
    "Wind noise (microphone)": 285,
    "Silence": 500,
    "Inside, small room": 506,
    "Inside, large room or hall": 507,
    "Inside, public space": 508,
    "Outside, urban or manmade": 509,
    "Outside, rural or natural": 510,
    "Reverberation": 511,
    "Echo": 512,
    "Noise": 513,
    "Environmental noise": 514,
    "Static": 515,
    "Mains hum": 516,
    "Distortion": 517,
    "Sidetone": 518,
    "Cacophony": 519,
    "White noise": 520,
    "Pink noise": 521,
    "Throbbing": 522,
    "Vibration": 523,
    "Television": 524,
    "Radio": 525,
    "Field recording": 526,
}
_EVENTS = [i for i in range(NUM_CLASSES) if i not in NOT_EVENTS.values()]
_SAMPLE_RATE = 16000
_BATCH = 10  # seconds that are heard at once: all of a usual clip, and little memory for a long one
_LONGEST = 10.0  # seconds; the networks were trained on clips of ten
_cuda_turn = threading.Lock()


@dataclass(frozen=True)
class Tagger(Backend):
    """The probability of the likeliest of the classes that name a sound event, by a network of 527 classes.

    For each second the network hears the `window` seconds around it, moved inwards at the ends of the clip:
    real sound only, never padding, and half of it, by default, the second itself. Networks that were trained
    on ten seconds take less: convolutions as they are, transformers with as many of their positions.
    weights: a source (see avs.core.weights), or `random` for seeded random ones, for tests.
    """

    scale = Scale("probability", 0.1)  # see YamNetTagger
    rate: ClassVar[int] = _SAMPLE_RATE

    weights: str = ""
    window: float = 2.0
    device: str = "cpu"

    def __post_init__(self) -> None:
        if not 1 <= self.window <= _LONGEST:
            raise InputError(f"eventness.window ({self.window}) must be from 1 to {_LONGEST:g} seconds")

    @property
    def weights_digest(self) -> str:
        return self.weights if self.weights == "random" else weight_files.digest(self.weights)

    @property
    def identity(self) -> dict[str, Any]:
        return super().identity | {"window": self.window, "device": torch_device(self.device).type}

    def on(self, device: str) -> Tagger:
        return replace(self, device=device)

    def _build(self) -> nn.Module:
        """The network with random weights: sound [B,S] at `rate` -> logits [B,527]."""
        raise NotImplementedError

    def _load(self, network: Any, file: Path) -> None:
        """Give the network the weights of a file, all of them; InputError names what does not fit."""
        load_strict(network, read_tensors(file), source=file)

    @cached_property
    def network(self) -> nn.Module:
        file = None if self.weights == "random" else weight_files.fetch(self.weights)
        with torch.random.fork_rng(devices=[]):
            torch.manual_seed(0)
            network = self._build()
        if file:
            self._load(network, file)
        return network.eval().requires_grad_(False).to(torch_device(self.device))

    def _score(self, seconds: np.ndarray, sample_rate: int) -> np.ndarray:
        require_rate(sample_rate)
        sound = scipy.signal.resample_poly(seconds.ravel(), self.rate, sample_rate)
        logits = self.run(self.network, surroundings(sound, self.rate, self.window))
        return torch.sigmoid(logits[:, _EVENTS]).amax(-1).numpy()

    def run(self, network: nn.Module, sounds: Sequence[np.ndarray]) -> Tensor:
        """What the network says of sounds of equal length, [B,C] float32 on the CPU, ten of them at a time."""
        said = []
        with _steady(torch_device(self.device)) as device:
            for start in range(0, len(sounds), _BATCH):
                batch = np.stack(sounds[start : start + _BATCH])
                said.append(network(torch.tensor(batch, dtype=torch.float32, device=device)).cpu())
        return torch.cat(said)


def surroundings(sound: np.ndarray, rate: int, window: float) -> list[np.ndarray]:
    """For each whole second of a sound [T * rate] the `window` seconds around it that lie in the sound."""
    width = round(window * rate)
    if width >= len(sound) > rate:
        raise InputError(
            f"eventness.window ({window:g}) must be shorter than the clips ({len(sound) / rate:g} s): "
            "all seconds would hear the same"
        )
    width = min(width, len(sound))
    starts = np.arange(len(sound) // rate) * rate + (rate - width) // 2
    return [sound[start : start + width] for start in np.clip(starts, 0, len(sound) - width)]


def require_rate(sample_rate: int) -> None:
    """Raise InputError where the networks would hear the sound at another speed."""
    if sample_rate != _SAMPLE_RATE:
        raise InputError(
            f"sample_rate ({sample_rate}) must be {_SAMPLE_RATE} for this eventness method: resample first"
        )


@contextmanager
def _steady(device: torch.device) -> Iterator[torch.device]:
    """Inference whose bits depend on its input alone: one thread on a CPU, one clip at a time in float32 on a GPU."""
    if device.type == "cpu":
        with one_thread(), torch.inference_mode():
            yield device
    else:
        with _cuda_turn, torch.inference_mode(), exact_convolutions():
            yield device
