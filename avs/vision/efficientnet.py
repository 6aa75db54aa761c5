"""EfficientNet-Lite0, the encoder that runs on a laptop, with batch normalisation folded into its convolutions."""

from __future__ import annotations

import re
from collections.abc import Mapping

import torch
from torch import Tensor, nn
from torch.nn import functional

from avs.core.checkpoint import load_strict
from avs.core.errors import InputError
from avs.vision.network import Network

# (expansion, output channels, blocks, stride of the first, kernel): the published Lite0 table.
_STAGES = (
    (1, 16, 1, 1, 3),
    (6, 24, 2, 2, 3),
    (6, 40, 2, 2, 5),
    (6, 80, 3, 2, 3),
    (6, 112, 3, 1, 5),
    (6, 192, 4, 2, 5),
    (6, 320, 1, 1, 3),
)
_STEM, _HEAD = 32, 1280
_BATCH_NORM_EPS = 1e-3
_BATCH_NORM = ("weight", "bias", "running_mean", "running_var")
_UNUSED = re.compile(r"^_fc\.|\.num_batches_tracked$")
_PUBLISHED = {
    "stem": ("_conv_stem", "_bn0"),
    "expand": ("_expand_conv", "_bn0"),
    "depthwise": ("_depthwise_conv", "_bn1"),
    "project": ("_project_conv", "_bn2"),
    "head": ("_conv_head", "_bn1"),
}


class SameConv(nn.Conv2d):
    """Convolution with TensorFlow's SAME padding: ceil(size / stride) outputs, an odd pad goes right and below."""

    def reset_parameters(self) -> None:
        """Random weights that keep the scale of the signal, so that features of random networks differ."""
        nn.init.kaiming_normal_(self.weight, nonlinearity="relu")
        if self.bias is not None:
            nn.init.zeros_(self.bias)

    def forward(self, images: Tensor) -> Tensor:
        kernel, stride = self.kernel_size[0], self.stride[0]
        if stride == 1:
            return functional.conv2d(images, self.weight, self.bias, 1, kernel // 2, 1, self.groups)
        pads: list[int] = []
        for size in (images.shape[-1], images.shape[-2]):
            total = max((-(-size // stride) - 1) * stride + kernel - size, 0)
            pads += [total // 2, total - total // 2]
        return functional.conv2d(functional.pad(images, pads), self.weight, self.bias, stride, 0, 1, self.groups)


class InvertedBottleneck(nn.Module):
    """Expand, filter each channel, project (the MBConv block without squeeze and excitation)."""

    def __init__(self, inputs: int, outputs: int, expansion: int, stride: int, kernel: int) -> None:
        super().__init__()
        width = inputs * expansion
        self.expand = SameConv(inputs, width, 1) if expansion > 1 else None
        self.depthwise = SameConv(width, width, kernel, stride, groups=width)
        self.project = SameConv(width, outputs, 1)
        self.residual = stride == 1 and inputs == outputs

    def forward(self, images: Tensor) -> Tensor:
        hidden = images if self.expand is None else functional.relu6(self.expand(images), inplace=True)
        hidden = functional.relu6(self.depthwise(hidden), inplace=True)
        hidden = self.project(hidden)
        return hidden.add_(images) if self.residual else hidden


class EfficientNetLite0(Network):
    """EfficientNet-Lite0 (Tan and Le 2019, Lite variant) without its classifier.

    The feature is the channel-wise maximum over positions of the last map [1280, ceil(R/32), ceil(R/32)]: an
    object of a few positions keeps its full response there, while a mean dilutes it as the map grows with R.
    """

    dim = _HEAD
    feature = "max of the last map"
    mean = (127 / 255,) * 3
    std = (128 / 255,) * 3
    memory_format = torch.channels_last

    def __init__(self) -> None:
        super().__init__()
        self.stem = SameConv(3, _STEM, 3, 2)
        blocks: list[InvertedBottleneck] = []
        inputs = _STEM
        for expansion, outputs, repeats, stride, kernel in _STAGES:
            for index in range(repeats):
                first = index == 0
                blocks.append(InvertedBottleneck(inputs, outputs, expansion, stride if first else 1, kernel))
                inputs = outputs
        self.blocks = nn.ModuleList(blocks)
        self.head = SameConv(inputs, _HEAD, 1)

    def feature_map(self, images: Tensor) -> Tensor:
        """The last map [B,1280,h,w], h = ceil(R/32), after its ReLU6."""
        hidden = functional.relu6(self.stem(images.to(self.stem.weight.dtype)), inplace=True)
        for block in self.blocks:
            hidden = block(hidden)
        return functional.relu6(self.head(hidden), inplace=True)

    def forward(self, images: Tensor) -> Tensor:
        return self.feature_map(images).amax((2, 3))

    def cpu_batch_size(self, resolution: int) -> int:
        """As many as keep the activations of the early layers in the processor's cache."""
        return 10 if resolution <= 128 else 5 if resolution <= 224 else 2

    def load(self, tensors: Mapping[str, Tensor]) -> None:
        """Fold the published weights (names of efficientnet-lite-pytorch) into the convolutions.

        Every tensor but the classifier's must find its place; InputError names those missing, left over or
        of another shape.
        """
        left = {key: value.double() for key, value in tensors.items() if not _UNUSED.search(key)}
        state: dict[str, Tensor] = {}
        try:
            for name, module in self.named_modules():
                if isinstance(module, SameConv):
                    conv, norm = _published_names(name)
                    weight = left.pop(f"{conv}.weight")
                    gain, shift, mean, variance = (left.pop(f"{norm}.{part}") for part in _BATCH_NORM)
                    scale = gain / torch.sqrt(variance + _BATCH_NORM_EPS)
                    state[f"{name}.weight"] = weight * scale[:, None, None, None]
                    state[f"{name}.bias"] = shift - mean * scale
        except KeyError as missing:
            raise InputError(f"weights of efficientnet_lite0 lack {missing}") from None
        if left:
            raise InputError(f"weights of efficientnet_lite0 hold unknown tensors: {', '.join(sorted(left))}")
        load_strict(self, state, source="weights")


def _published_names(name: str) -> tuple[str, str]:
    """Of `blocks.3.expand` and the like: the published names of the convolution and of its batch norm."""
    parent, dot, part = name.rpartition(".")
    conv, norm = _PUBLISHED[part]
    prefix = f"_{parent}." if dot else ""
    return prefix + conv, prefix + norm
