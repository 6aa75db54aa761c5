"""A front-end for mouths that two cores can train from scratch, in the place of AV-HuBERT's ResNet-18."""

from __future__ import annotations

from torch import Tensor, nn
from torch.nn import functional

DIM = 1024
_WINDOW = 64  # pixels in the middle of a mouth crop that are looked at
_GROUPS = 8


class SmallLips(nn.Module):
    """Mouths [B,1,T,88,88] -> [B,T,1024]: the middle, halved; a convolution over time and space, two residual blocks.

    Norms are over groups of channels of one picture, so that a clip's numbers depend on no other clip of its batch.
    """

    def __init__(self) -> None:
        super().__init__()
        self.front = nn.Conv3d(1, 16, 5, (1, 2, 2), 2, bias=False)
        self.norm = nn.GroupNorm(_GROUPS, 16)
        self.blocks = nn.Sequential(_Block(16, 32), _Block(32, 64))

    def forward(self, video: Tensor) -> Tensor:
        edge = (video.shape[-1] - _WINDOW) // 2
        middle = video[..., edge : edge + _WINDOW, edge : edge + _WINDOW]
        halved = functional.avg_pool3d(middle, (1, 2, 2))
        frames = self.front(halved).transpose(1, 2)
        found = self.blocks(functional.relu(self.norm(frames.flatten(0, 1))))
        return found.flatten(1).unflatten(0, frames.shape[:2])


class _Block(nn.Module):
    def __init__(self, channels: int, width: int) -> None:
        super().__init__()
        self.conv1 = nn.Conv2d(channels, width, 3, 2, 1, bias=False)
        self.conv2 = nn.Conv2d(width, width, 3, 1, 1, bias=False)
        self.norm1, self.norm2 = nn.GroupNorm(_GROUPS, width), nn.GroupNorm(_GROUPS, width)
        self.shortcut = nn.Conv2d(channels, width, 1, 2, bias=False)

    def forward(self, x: Tensor) -> Tensor:
        inner = self.norm2(self.conv2(functional.relu(self.norm1(self.conv1(x)))))
        return functional.relu(inner + self.shortcut(x))
