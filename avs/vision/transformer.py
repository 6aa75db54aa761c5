"""The transformer that all of the vision transformers share: images of several sizes in one token matrix."""

from __future__ import annotations

from collections.abc import Callable, Sequence

import torch
from torch import Tensor, nn
from torch.nn import functional

_QUICK = 1.702  # the QuickGELU of OpenAI's CLIP is x · sigmoid(1.702 x)

Shapes = Sequence[tuple[int, int]]  # (images, tokens of each) of the parts of a token matrix, in order


class Layer(nn.Module):
    """A layer with its norms in front. Its products are in the dtype of its weights, all else in float32.

    The residual stream and the norms keep float32, because their roundings would add up from layer to layer: features
    of bfloat16 products stay within a cosine of 0.9999 so.
    """

    def __init__(
        self,
        norms: tuple[nn.Module, nn.Module],
        attention: tuple[nn.Linear, nn.Linear],
        mlp: tuple[nn.Linear, Callable[[Tensor], Tensor], nn.Linear],
        heads: int,
    ) -> None:
        super().__init__()
        self.norm1, self.norm2 = norms
        self.qkv, self.out = attention
        self.up, self.activation, self.down = mlp
        self.heads = heads

    def cast(self, dtype: torch.dtype) -> None:
        """Round the weights of the products, once."""
        for linear in (self.qkv, self.out, self.up, self.down):
            linear.to(dtype)

    def forward(self, tokens: Tensor, shapes: Shapes, *, last: bool = False) -> Tensor:
        """Float32 [M, D] -> [M, D]; of the `last` layer the first token of each image alone, [images, D]."""
        dtype = self.qkv.weight.dtype
        qkv = self.qkv(self.norm1(tokens).to(dtype))
        sizes = [images * length for images, length in shapes]
        parts = zip(qkv.split(sizes), shapes, strict=True)
        mixed = torch.cat([_attend(part, shape, self.heads, last) for part, shape in parts])
        if last:  # only these are looked at: a twelfth of the work less
            tokens = torch.cat([p.view(*s, -1)[:, 0] for p, s in zip(tokens.split(sizes), shapes, strict=True)])
        tokens = tokens + self.out(mixed)
        return tokens + self.down(self.activation(self.up(self.norm2(tokens).to(dtype))))


def _attend(qkv: Tensor, shape: tuple[int, int], heads: int, last: bool) -> Tensor:
    """[images · tokens, 3 D] -> [images · tokens, D], each image for itself; of the last layer [images, D]."""
    query, key, value = qkv.view(*shape, 3, heads, -1).permute(2, 0, 3, 1, 4)
    found = functional.scaled_dot_product_attention(query[:, :, :1] if last else query, key, value)
    return found.transpose(1, 2).flatten(2).flatten(0, 1)


def run_layers(layers: Sequence[nn.Module], images: Sequence[Tensor]) -> list[Tensor]:
    """Embedded images [n, tokens, D], a tensor for each size -> the first token of each image [n, D], of each size.

    All sizes go through one product each, without padding; attention alone is done size by size.
    """
    shapes = [(part.shape[0], part.shape[1]) for part in images]
    tokens = torch.cat([part.flatten(0, 1) for part in images])
    for layer in layers[:-1]:
        tokens = layer(tokens, shapes)
    return list(layers[-1](tokens, shapes, last=True).split([count for count, _ in shapes]))


def patches(images: Tensor, weight: Tensor, bias: Tensor | None) -> Tensor:
    """The patch embedding [n, side, side, D] in float32 of images [n, 3, R, R]: a convolution whose stride is its
    kernel, as one product."""
    size = weight.shape[-1]
    n, channels, side = images.shape[0], images.shape[1], images.shape[-1] // size
    cut = images.view(n, channels, side, size, side, size).permute(0, 2, 4, 1, 3, 5).flatten(3)
    return functional.linear(cut.to(weight.dtype), weight.flatten(1), bias).float()


def mlp(
    up: nn.Linear, activation: nn.Module, down: nn.Linear
) -> tuple[nn.Linear, Callable[[Tensor], Tensor], nn.Linear]:
    """An MLP; QuickGELU's factor goes into the weights, since x · sigmoid(c x) = silu(c x) / c: one pass for three."""
    if type(activation).__name__ != "QuickGELU":
        return up, activation, down
    factor = _QUICK
    return (
        linear(factor * up.weight, factor * up.bias),
        lambda hidden: functional.silu(hidden, inplace=True),
        linear(down.weight / factor, down.bias),
    )


def linear(weight: Tensor, bias: Tensor | None) -> nn.Linear:
    """A layer of these weights [out, in]."""
    made = nn.Linear(weight.shape[1], weight.shape[0], bias is not None, device="meta")
    made.weight = nn.Parameter(weight, requires_grad=False)
    if bias is not None:
        made.bias = nn.Parameter(bias, requires_grad=False)
    return made
