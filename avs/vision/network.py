"""What every frozen image network offers to the encoder."""

from __future__ import annotations

from collections.abc import Mapping, Sequence

import torch
from torch import Tensor, nn

from avs.vision.flops import module_gflops


class Network(nn.Module):
    """Normalised images float32 [B,3,R,R] -> features [B,dim]; one instance serves every resolution.

    `feature` says what the output is, `patch_size` is the unit in which a resolution counts as tokens, `mean`
    and `std` are those of RGB in [0, 1] that the weights were trained with. `version` rises when its numbers change.
    """

    version = 1

    dim: int
    feature: str
    patch_size: int = 16
    mean: tuple[float, ...]
    std: tuple[float, ...]
    memory_format: torch.memory_format = torch.contiguous_format

    def forward(self, images: Tensor) -> Tensor:
        raise NotImplementedError

    def load(self, tensors: Mapping[str, Tensor]) -> None:
        """Take the weights from a published state dict: all of it, or InputError naming what does not fit."""
        raise NotImplementedError

    def cast(self, dtype: torch.dtype) -> None:
        """Make the network, loaded, ready to compute in `dtype`."""
        self.to(dtype)

    def mixed(self, images: Sequence[Tensor]) -> list[Tensor]:
        """Features of images of several resolutions, a batch for each; their numbers may depend on the company."""
        return [self(batch) for batch in images]

    def gflops(self, resolution: int) -> float:
        """Cost of one image in GFLOP, a multiply-add counted as two operations."""
        return module_gflops(self, resolution)

    def cpu_batch_size(self, resolution: int) -> int:
        """The number of images a pass that is fastest on a CPU, as measured.

        It divides ten, so that a clip of ten frames fills its batches.
        """
        raise NotImplementedError
