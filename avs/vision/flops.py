"""What an image costs in GFLOP: equal tokens are not equal FLOPs, so both are reported."""

from __future__ import annotations

import torch
from torch import nn
from torch.func import functional_call
from torch.utils.flop_counter import FlopCounterMode

from avs.sampling.tokens import tokens


def vit_gflops(resolution: int, *, patch_size: int = 16, width: int = 768, layers: int = 12, mlp: int = 3072) -> float:
    """GFLOP of a vision transformer for one image, a multiply-add counted as two; ViT-B/16 by default.

    With N = (resolution / patch_size)² patches and S = N + 1 positions (class token), all in FLOP:
    2 · (N·p²·3·d + L·(4·S·d² + 2·S²·d + 2·S·d·m)): the patch embedding, then for each layer the four
    projections, the two attention products and the two MLP layers. Norms, activations and biases are left out.
    Raises ValueError when the resolution is not a multiple of the patch size.
    """
    patches = tokens(resolution, patch_size)
    positions = patches + 1
    embedding = patches * patch_size**2 * 3 * width
    layer = 4 * positions * width**2 + 2 * positions**2 * width + 2 * positions * width * mlp
    return 2 * (embedding + layers * layer) / 1e9


def module_gflops(module: nn.Module, resolution: int) -> float:
    """GFLOP of `module` for one image [1,3,R,R], counted from the shapes of its convolutions and matrix products.

    A multiply-add counts as two; nothing is computed and the module is left as it is.
    """
    state = module.state_dict(keep_vars=True)
    shapes = {name: v.to("meta", torch.float32 if v.is_floating_point() else v.dtype) for name, v in state.items()}
    counter = FlopCounterMode(display=False)
    with torch.no_grad(), counter:
        functional_call(module, shapes, (torch.empty(1, 3, resolution, resolution, device="meta"),))
    return counter.get_total_flops() / 1e9
