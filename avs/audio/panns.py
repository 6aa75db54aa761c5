"""Eventness by PANNs' Cnn14, a convolutional network trained on AudioSet at 32 kHz."""

from __future__ import annotations

from dataclasses import dataclass

import torch
from torch import Tensor, nn
from torch.nn import functional

from avs.audio.audioset import NUM_CLASSES, Tagger
from avs.audio.backend import backend

WEIGHTS = (
    "https://zenodo.org/records/3987831/files/Cnn14_mAP%3D0.431.pth?download=1"
    "#sha256=0dc499e40e9761ef5ea061ffc77697697f277f6a960894903df3ada000e34b31"
)

_WINDOW, _HOP, _BANDS = 1024, 320, 64
_FLOOR = 1e-10
_CHANNELS = (1, 64, 128, 256, 512, 1024, 2048)


@backend("panns")
@dataclass(frozen=True)
class PannsTagger(Tagger):
    """The probability of the likeliest AudioSet class that names a sound event, by Cnn14 at 32 kHz.

    Clips of 16 kHz are resampled, so that its bands above 8 kHz are empty.
    """

    version = 1
    rate = 32000

    weights: str = WEIGHTS

    def _build(self) -> Cnn14:
        return Cnn14()


class Cnn14(nn.Module):
    """Sound [B,S] at 32 kHz, at least 0.31 s -> logits [B,527], under the names of the published state dict.

    The file brings its spectrum (`conv_real` and `conv_imag`, a Hann-windowed Fourier transform of 1024
    samples) and its 64 mel bands from 50 to 14000 Hz (`melW`) along. Source: Kong et al., "PANNs",
    arXiv 1912.10211, and its public code `audioset_tagging_cnn`.
    """

    def __init__(self, width: int = 1) -> None:
        """width: divides the number of channels, for tests."""
        super().__init__()
        channels = [max(1, count // width) for count in _CHANNELS]
        self.spectrogram_extractor = nn.ModuleDict({"stft": _Fourier()})
        self.logmel_extractor = nn.Module()
        self.logmel_extractor.melW = nn.Parameter(torch.rand(_WINDOW // 2 + 1, _BANDS))
        self.bn0 = nn.BatchNorm2d(_BANDS)
        for number in range(1, len(channels)):
            self.add_module(f"conv_block{number}", _Block(channels[number - 1], channels[number]))
        self.fc1 = nn.Linear(channels[-1], channels[-1])
        self.fc_audioset = nn.Linear(channels[-1], NUM_CLASSES)

    def forward(self, sounds: Tensor) -> Tensor:
        power = self.spectrogram_extractor["stft"](sounds)
        bands = 10 * torch.log10((power @ self.logmel_extractor.melW).clamp(min=_FLOOR))
        hidden = self.bn0(bands[:, None].transpose(1, 3)).transpose(1, 3)
        for number in range(1, len(_CHANNELS)):
            hidden = self.get_submodule(f"conv_block{number}")(hidden)
            if number < len(_CHANNELS) - 1:
                hidden = functional.avg_pool2d(hidden, 2)
        over_time = hidden.mean(3)
        return self.fc_audioset(functional.relu(self.fc1(over_time.amax(2) + over_time.mean(2))))


class _Fourier(nn.Module):
    """Sound [B,S] -> power spectrum [B, 1 + S // 320, 513], the sound mirrored at its ends."""

    def __init__(self) -> None:
        super().__init__()
        self.conv_real = nn.Conv1d(1, _WINDOW // 2 + 1, _WINDOW, _HOP, bias=False)
        self.conv_imag = nn.Conv1d(1, _WINDOW // 2 + 1, _WINDOW, _HOP, bias=False)

    def forward(self, sounds: Tensor) -> Tensor:
        mirrored = functional.pad(sounds[:, None], (_WINDOW // 2, _WINDOW // 2), mode="reflect")
        return (self.conv_real(mirrored).square() + self.conv_imag(mirrored).square()).transpose(1, 2)


class _Block(nn.Module):
    """Two convolutions of 3 x 3, each with batch norm and ReLU."""

    def __init__(self, inputs: int, outputs: int) -> None:
        super().__init__()
        self.conv1 = nn.Conv2d(inputs, outputs, 3, padding=1, bias=False)
        self.conv2 = nn.Conv2d(outputs, outputs, 3, padding=1, bias=False)
        self.bn1, self.bn2 = nn.BatchNorm2d(outputs), nn.BatchNorm2d(outputs)

    def forward(self, x: Tensor) -> Tensor:
        x = functional.relu(self.bn1(self.conv1(x)))
        return functional.relu(self.bn2(self.conv2(x)))
