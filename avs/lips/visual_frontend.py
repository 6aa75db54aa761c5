"""MuSE's visual front-end: grey pictures of a mouth or face, 25 a second, in; 512 features a picture out.

The graph and the names of its tensors are those of the published `visual_frontend.pt`, which MuSE took from Afouras
and Chung's deep_avsr: a convolution over five frames and space, then a residual network on each frame, whose layers
add what they had before their first norm, not after.
"""

from __future__ import annotations

import copy
import os
from typing import Any

import torch
from torch import Tensor, nn
from torch.nn import functional
from torch.nn.utils.fusion import fuse_conv_bn_eval

from avs.core.checkpoint import KeyReport, load_strict, read_tensors
from avs.core.errors import InputError

VERSION = 2  # raise when features of the same pictures change, be it by rounding
SIZE = 112  # pixels: the last map, 4 x 4, is averaged whole
DIM = 512
HALO = 2  # frames before and after that a feature depends on
_CHUNK = 64
_NORM: dict[str, Any] = {"eps": 1e-3, "momentum": 0.01}
_LAYERS = {"layer1": (64, 64, 1), "layer2": (64, 128, 2), "layer3": (128, 256, 2), "layer4": (256, 512, 2)}


class VisualFrontend(nn.Module):
    """Normalised frames [B,T,112,112] -> features [B,T,512]; beyond both ends of a clip, frames are zeros.

    The state dict has the 106 published names, and takes the published tensors as they are.
    """

    frontend3D: Any  # noqa: N815 - a published name; Any, since what it holds is just a Module to the type checker
    resnet: Any

    def __init__(self) -> None:
        super().__init__()
        first = nn.Conv3d(1, 64, (5, 7, 7), (1, 2, 2), (2, 3, 3), bias=False)
        self.frontend3D = nn.Sequential(first, nn.BatchNorm3d(64, **_NORM))
        self.resnet = nn.ModuleDict({name: ResidualLayer(*sizes) for name, sizes in _LAYERS.items()})
        for module in self.modules():
            if isinstance(module, nn.Conv2d | nn.Conv3d):  # untrained, it keeps the scale of what it is given
                nn.init.kaiming_normal_(module.weight, nonlinearity="linear")

    def forward(self, frames: Tensor) -> Tensor:
        """Without gradients, long clips take no more memory than short ones beyond their own frames."""
        if frames.ndim != 4 or frames.shape[2:] != (SIZE, SIZE):
            raise InputError(f"frames ({list(frames.shape)}) must be [B,T,{SIZE},{SIZE}]")
        if not frames.numel():
            return frames.new_empty(*frames.shape[:2], DIM)
        padded = functional.pad(frames, (0, 0, 0, 0, HALO, HALO))
        if self.training or torch.is_grad_enabled():
            return self.inner(padded)
        starts = range(0, frames.shape[1], _CHUNK)
        return torch.cat([self.inner(padded[:, start : start + _CHUNK + 2 * HALO]) for start in starts], 1)

    def inner(self, frames: Tensor) -> Tensor:
        """Features [B,T,512] of frames [B,2+T+2,112,112]: of all but the first and last two.

        The convolution over time is one over space with five neighbours as channels, for which processors have
        quicker kernels; and where the pooling comes before the ReLU, the ReLU has a quarter of the values to look at.
        With channels last, pooling takes whole vectors; on the last layer's 4 x 4 pixels channels first are quicker.
        """
        conv, norm = self.frontend3D
        neighbours = frames.unfold(1, 1 + 2 * HALO, 1).flatten(0, 1).permute(0, 3, 1, 2)
        neighbours = neighbours.contiguous(memory_format=torch.channels_last)
        x = functional.conv2d(neighbours, conv.weight.squeeze(1), conv.bias, 2, 3)
        x = norm(x.unsqueeze(2)).squeeze(2)
        x = functional.relu_(functional.max_pool2d(x, 3, 2, 1))
        *layers, last = self.resnet.values()
        for layer in layers:
            x = layer(x)
        x = last(x.contiguous())
        return x.mean((2, 3)).unflatten(0, (len(frames), -1))

    def frozen(self) -> VisualFrontend:
        """A copy for inference whose norms are folded into convolutions where one follows the other, laid out for
        speed: equal up to rounding (1e-6 of values up to 2.5)."""
        network = copy.deepcopy(self).eval().requires_grad_(False)
        first, norm = network.frontend3D
        network.frontend3D = nn.Sequential(fuse_conv_bn_eval(first, norm), nn.Identity())
        for layer in network.resnet.values():
            layer.conv1a, layer.bn1a = fuse_conv_bn_eval(layer.conv1a, layer.bn1a), nn.Identity()
            layer.conv1b, layer.bn1b = fuse_conv_bn_eval(layer.conv1b, layer.bn1b), nn.Identity()
        for layer in [*network.resnet.values()][:-1]:
            layer.to(memory_format=torch.channels_last)
        return network


class ResidualLayer(nn.Module):
    """Maps [N,inputs,H,W] -> [N,outputs,H/stride,W/stride]."""

    def __init__(self, inputs: int, outputs: int, stride: int) -> None:
        super().__init__()
        self.conv1a = nn.Conv2d(inputs, outputs, 3, stride, 1, bias=False)
        self.bn1a = nn.BatchNorm2d(outputs, **_NORM)
        self.conv2a = nn.Conv2d(outputs, outputs, 3, 1, 1, bias=False)
        self.downsample = nn.Conv2d(inputs, outputs, 1, stride, bias=False)  # published also where nothing uses it
        self.outbna = nn.BatchNorm2d(outputs, **_NORM)
        self.conv1b = nn.Conv2d(outputs, outputs, 3, 1, 1, bias=False)
        self.bn1b = nn.BatchNorm2d(outputs, **_NORM)
        self.conv2b = nn.Conv2d(outputs, outputs, 3, 1, 1, bias=False)
        self.outbnb = nn.BatchNorm2d(outputs, **_NORM)
        self.shrinks = stride > 1

    def forward(self, x: Tensor) -> Tensor:
        y = self.conv2a(functional.relu_(self.bn1a(self.conv1a(x))))
        total = y + (self.downsample(x) if self.shrinks else x)
        y = self.conv1b(functional.relu_(self.outbna(total)))
        return functional.relu_(self.outbnb(self.conv2b(functional.relu_(self.bn1b(y))) + total))


def load_visual_frontend(path: str | os.PathLike[str]) -> tuple[VisualFrontend, KeyReport]:
    """Read a published `visual_frontend.pt`, or its tensors from another file, also named `module.…`.

    Nothing in the file can run. Raises InputError unless each of the 106 tensors is there in its shape, and no other.
    """
    network = VisualFrontend()
    report = load_strict(network, read_tensors(path), source=path, prefixes=("module.",))
    return network.eval(), report


def untrained_visual_frontend() -> VisualFrontend:
    """Random weights, always the same: for tests and for a first look, never for a result."""
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(0)
        return VisualFrontend().eval()
