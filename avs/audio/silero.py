"""Eventness by Silero's voice activity detector: how much speech there is in each second."""

from __future__ import annotations

from collections import OrderedDict
from collections.abc import Iterator
from dataclasses import dataclass
from functools import cached_property
from itertools import pairwise
from pathlib import Path
from typing import Any

import numpy as np
import torch
from torch import Tensor, nn
from torch.nn import functional

from avs.audio.audioset import require_rate
from avs.audio.backend import Backend, Scale, backend
from avs.core import weights as weight_files
from avs.core.checkpoint import load_strict, read_tensors
from avs.core.execute import one_thread

# Not the .safetensors beside it: those are other weights, and differ by up to 0.1 from the model that the package runs.
WEIGHTS = (
    "pypi:silero-vad==6.2.3!silero_vad/data/silero_vad.jit"
    "#sha256=7b7f5436cfcb02fae583a05b512ea96467fd449fe54cb49a5e4f06c51a1e43b8"
)

_CHUNK, _CONTEXT, _MIRRORED = 512, 64, 64
_FFT, _HOP, _BINS = 256, 128, 129


@backend("silero_vad")
@dataclass(frozen=True)
class SileroVad(Backend):
    """The mean probability of speech over a second's chunks of 32 ms: the share of it that is speech.

    A mean rather than the maximum, which a single chunk, such as a click, can raise. Events that are not
    speech score nothing: such clips are flat, and sampled uniformly. The threshold is yamnet's, whose unit it
    shares.
    """

    version = 1
    scale = Scale("probability", 0.1)

    weights: str = WEIGHTS

    @property
    def weights_digest(self) -> str:
        return weight_files.digest(self.weights)

    def _score(self, seconds: np.ndarray, sample_rate: int) -> np.ndarray:
        require_rate(sample_rate)
        speech = self._network.speech(seconds.ravel())
        centres = (np.arange(len(speech)) + 0.5) * _CHUNK
        second = np.minimum(centres // sample_rate, len(seconds) - 1).astype(int)
        return np.bincount(second, speech) / np.bincount(second)

    @cached_property
    def _network(self) -> SileroNetwork:
        return SileroNetwork(weight_files.fetch(self.weights))


class SileroNetwork(nn.Module):
    """The detector at 16 kHz, under the names of the published TorchScript file, whose package is the source.

    A chunk of 512 samples is seen with the 64 before it: magnitudes of four short spectra, four convolutions
    that leave one vector, and an LSTM that runs from chunk to chunk.
    """

    def __init__(self, file: Path) -> None:
        super().__init__()
        self.stft: Any = nn.Module()
        self.stft.register_buffer("forward_basis_buffer", torch.empty(2 * _BINS, 1, _FFT))
        widths, strides = (_BINS, 128, 64, 64, 128), (1, 2, 2, 1)
        self.encoder = nn.Sequential(
            *(
                nn.Sequential(
                    OrderedDict(reparam_conv=nn.Conv1d(inputs, outputs, 3, stride, padding=1), relu=nn.ReLU())
                )
                for (inputs, outputs), stride in zip(pairwise(widths), strides, strict=True)
            )
        )
        ends = nn.Sequential(nn.Identity(), nn.ReLU(), nn.Conv1d(128, 1, 1), nn.Sigmoid())
        self.decoder: Any = nn.ModuleDict({"rnn": nn.LSTMCell(128, 128), "decoder": ends})
        load_strict(self, _read(file), source=file)
        self.eval()

    @one_thread()
    @torch.inference_mode()
    def speech(self, sound: np.ndarray) -> np.ndarray:
        """Sound [S] at 16 kHz -> the probability of speech in each chunk of 512 samples, the last filled up."""
        memories = torch.cat(list(self._memories(torch.tensor(sound, dtype=torch.float32))))
        return self.decoder["decoder"](memories[..., None]).flatten().numpy()

    def _memories(self, sound: Tensor) -> Iterator[Tensor]:
        """What the LSTM says after each chunk, [1,128]."""
        state = None
        for vector in self._vectors(sound):
            state = self.decoder["rnn"](vector[None], state)
            yield state[0]

    def _vectors(self, sound: Tensor) -> Tensor:
        """[chunks, 128], each from its own samples alone."""
        padded = functional.pad(sound, (_CONTEXT, -len(sound) % _CHUNK))
        chunks = padded.unfold(0, _CONTEXT + _CHUNK, _CHUNK)[:, None]
        mirrored = functional.pad(chunks, (0, _MIRRORED), mode="reflect")
        spectra = functional.conv1d(mirrored, self.stft.forward_basis_buffer, stride=_HOP)
        return self.encoder(torch.hypot(spectra[:, :_BINS], spectra[:, _BINS:])).flatten(1)


def _read(file: Path) -> dict[str, Tensor]:
    """The tensors of the 16 kHz detector in a TorchScript file, of which nothing runs."""
    return {
        name.removeprefix("_model."): value for name, value in read_tensors(file).items() if name.startswith("_model.")
    }
