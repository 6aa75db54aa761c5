"""The lip front-end of AV-HuBERT: a convolution over time and space, then a ResNet-18 on each frame."""

from __future__ import annotations

import torch
from torch import Tensor, nn
from torch.nn import functional

DIM = 512
_CHUNK = 64  # frames through the trunk at a time, which bounds the memory of a long clip


class LipResNet(nn.Module):
    """Grey mouths [B,1,T,H,W] -> features [B,T,512]; tensors have AV-HuBERT's names.

    A frame sees two neighbours to each side, and zeros beyond the ends.
    """

    def __init__(self) -> None:
        super().__init__()
        convolution = nn.Conv3d(1, 64, (5, 7, 7), stride=(1, 2, 2), padding=(2, 3, 3), bias=False)
        self.frontend3D = nn.Sequential(convolution, nn.BatchNorm3d(64), _PReLU(64))
        self.trunk = nn.Sequential()
        for number, (inside, outside) in enumerate([(64, 64), (64, 128), (128, 256), (256, 512)], start=1):
            first = _Block(inside, outside, stride=1 if inside == outside else 2)
            self.trunk.add_module(f"layer{number}", nn.Sequential(first, _Block(outside, outside)))

    def forward(self, video: Tensor) -> Tensor:
        x = self.frontend3D(video).transpose(1, 2)
        batch = x.shape[0]
        x = functional.max_pool2d(x.flatten(0, 1), 3, stride=2, padding=1)
        # batch normalisation over all frames at once where it learns from them
        parts = [x] if self.training else x.split(_CHUNK)
        features = [self.trunk(part).mean(dim=(2, 3)) for part in parts]
        return torch.cat(features).unflatten(0, (batch, -1))


class _Block(nn.Module):
    """Two 3×3 convolutions and a way around them."""

    def __init__(self, inside: int, outside: int, *, stride: int = 1) -> None:
        super().__init__()
        self.conv1 = nn.Conv2d(inside, outside, 3, stride, padding=1, bias=False)
        self.bn1 = nn.BatchNorm2d(outside)
        self.relu1 = _PReLU(outside)
        self.conv2 = nn.Conv2d(outside, outside, 3, padding=1, bias=False)
        self.bn2 = nn.BatchNorm2d(outside)
        self.relu2 = _PReLU(outside)
        if inside != outside:
            shortcut = nn.Conv2d(inside, outside, 1, stride, bias=False)
            self.downsample = nn.Sequential(shortcut, nn.BatchNorm2d(outside))
        else:
            self.downsample = nn.Sequential()

    def forward(self, x: Tensor) -> Tensor:
        inner = self.bn2(self.conv2(self.relu1(self.bn1(self.conv1(x)))))
        return self.relu2(inner + self.downsample(x))


class _PReLU(nn.PReLU):
    """One slope a channel, also for inputs of another precision than its own."""

    def forward(self, x: Tensor) -> Tensor:
        return functional.prelu(x, self.weight.to(x.dtype))
