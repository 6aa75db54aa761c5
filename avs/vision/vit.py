"""Vision transformers: the image towers of CLIP models (open_clip), in three layouts of their weights, and timm's."""

from __future__ import annotations

import math
import re
from collections.abc import Mapping, Sequence
from copy import copy
from typing import Any

import torch
from torch import Tensor, nn
from torch.nn import functional

from avs.core.checkpoint import load_strict
from avs.core.errors import InputError
from avs.core.import_shims import mend_imports
from avs.vision.network import Network
from avs.vision.transformer import Layer, linear, mlp, patches, run_layers

_CLIP_MEAN = (0.48145466, 0.4578275, 0.40821073)
_CLIP_STD = (0.26862954, 0.26130258, 0.27577711)

# transformers' names -> open_clip's, applied in this order; q, k and v are joined before.
_RENAMED = (
    (r"^embeddings\.class_embedding$", "class_embedding"),
    (r"^embeddings\.position_embedding\.weight$", "positional_embedding"),
    (r"^embeddings\.patch_embedding\.", "conv1."),
    (r"^pre_layrnorm\.", "ln_pre."),
    (r"^post_layernorm\.", "ln_post."),
    (r"^encoder\.layers\.", "transformer.resblocks."),
    (r"\.layer_norm([12])\.", r".ln_\1."),
    (r"\.mlp\.fc1\.", ".mlp.c_fc."),
    (r"\.mlp\.fc2\.", ".mlp.c_proj."),
    (r"\.self_attn\.", ".attn."),
)


class VisionTransformer(Network):
    """What the two kinds of transformers share: our layers of the library's weights, where they are plain ones."""

    version = 2

    def __init__(self) -> None:
        super().__init__()
        self.layers = nn.ModuleList()

    def published(self, images: Tensor) -> Tensor:
        """The library's own forward, until `cast`, and where its layers are of another kind than ours."""
        raise NotImplementedError

    def take_layers(self) -> list[Layer]:
        """The library's layers as ours, which leave it; none where they are of another kind."""
        raise NotImplementedError

    def embedding(self) -> nn.Conv2d:
        """The library's patch embedding."""
        raise NotImplementedError

    def embed(self, images: Tensor) -> Tensor:
        """Images [n,3,R,R] -> tokens float32 [n,S,D] as the first layer takes them, the class token first."""
        raise NotImplementedError

    def norm(self, tokens: Tensor) -> Tensor:
        """What comes after the last layer."""
        raise NotImplementedError

    def cast(self, dtype: torch.dtype) -> None:
        layers = self.take_layers()
        if not layers:
            self.to(dtype)
            return
        self.embedding().to(dtype)
        for layer in layers:
            layer.cast(dtype)
        self.layers.extend(layers)

    def forward(self, images: Tensor) -> Tensor:
        if self.layers:
            return self.mixed([images])[0]
        return self.published(images.to(self.embedding().weight.dtype)).float()

    def mixed(self, images: Sequence[Tensor]) -> list[Tensor]:
        if not (self.layers and images):
            return super().mixed(images)
        embedded = [self.embed(part) for part in images]
        return [self.norm(found) for found in run_layers(list(self.layers), embedded)]

    def cpu_batch_size(self, resolution: int) -> int:
        return 5 if resolution <= 224 else 2


class OpenClipViT(VisionTransformer):
    """An open_clip image tower; `config` is one of open_clip's model configurations.

    The feature is the class token after the last layer norm, before the projection and not normalised (tower's
    own pooling where its configuration says another). The position table is resized to the patches of each
    image: bicubic, align_corners False, no antialias, the class position kept.
    """

    feature = "class token after the last layer norm"
    mean, std = _CLIP_MEAN, _CLIP_STD

    def __init__(self, config: Mapping[str, Any]) -> None:
        super().__init__()
        mend_imports()
        from open_clip.model import _build_vision_tower  # the whole model would bring a text tower

        self.visual = _build_vision_tower(
            config["embed_dim"], dict(config["vision_cfg"]), config.get("quick_gelu", False)
        )
        self.visual.proj = None
        self.visual.output_tokens = False
        self.dim = self.visual.ln_post.normalized_shape[0]
        self.patch_size = self.visual.patch_size[0]

    def published(self, images: Tensor) -> Tensor:
        positions = _resize_positions(self.visual.positional_embedding, images.shape[-1] // self.patch_size)
        tower = copy(self.visual)  # shallow: threads share the network, so that its own table must stay
        tower._parameters = self.visual._parameters | {"positional_embedding": nn.Parameter(positions, False)}
        return tower(images)

    def take_layers(self) -> list[Layer]:
        from open_clip.transformer import ResidualAttentionBlock

        blocks = list(self.visual.transformer.resblocks)
        alike = all(type(block) is ResidualAttentionBlock and isinstance(block.ls_1, nn.Identity) for block in blocks)
        if not alike or self.visual.attn_pool is not None or self.visual.pool_type != "tok":
            return []
        self.visual.transformer = nn.Identity()
        return [
            Layer(
                (block.ln_1, block.ln_2),
                (linear(block.attn.in_proj_weight, block.attn.in_proj_bias), block.attn.out_proj),
                mlp(block.mlp.c_fc, block.mlp.gelu, block.mlp.c_proj),
                block.attn.num_heads,
            )
            for block in blocks
        ]

    def embedding(self) -> nn.Conv2d:
        return self.visual.conv1

    def embed(self, images: Tensor) -> Tensor:
        seen = patches(images, self.visual.conv1.weight, None).flatten(1, 2)
        positions = _resize_positions(self.visual.positional_embedding, images.shape[-1] // self.patch_size)
        first = self.visual.class_embedding.expand(len(images), 1, -1)
        return self.visual.ln_pre(torch.cat([first, seen], 1) + positions)

    def norm(self, tokens: Tensor) -> Tensor:
        return self.visual.ln_post(tokens)

    def load(self, tensors: Mapping[str, Tensor]) -> None:
        """Take the tower out of a state dict in the layout of open_clip, OpenAI or transformers, and load all of it.

        InputError names what is missing, left over or of another shape. It comes before `cast`.
        """
        load_strict(self.visual, clip_tower(tensors), source="weights")


class TimmViT(VisionTransformer):
    """A vision transformer of timm with its own pooling and normalisation constants."""

    feature = "timm's pooled feature"

    def __init__(self, name: str) -> None:
        super().__init__()
        mend_imports()
        import timm

        if not timm.is_model(name):
            raise InputError(f"timm has no model {name!r}; one it has: timm:vit_small_patch16_224")
        try:
            model: Any = timm.create_model(name, num_classes=0, dynamic_img_size=True)
        except TypeError:
            model = None
        if not getattr(model, "dynamic_img_size", False):
            raise InputError(f"timm:{name} cannot take images of several sizes: choose a plain ViT")
        self.model = model
        self.dim = model.num_features
        self.patch_size = model.patch_embed.patch_size[0]
        self.mean, self.std = model.pretrained_cfg["mean"], model.pretrained_cfg["std"]

    def published(self, images: Tensor) -> Tensor:
        return self.model(images)

    def take_layers(self) -> list[Layer]:
        from timm.models.vision_transformer import Block, VisionTransformer

        model, blocks = self.model, list(self.model.blocks)
        if type(model) is not VisionTransformer or not all(type(block) is Block for block in blocks):
            return []
        parts = [(b.ls1, b.ls2, b.attn.q_norm, b.attn.k_norm, b.attn.norm, b.mlp.norm) for b in blocks]
        plain = all(isinstance(part, nn.Identity) for some in (*parts, (model.fc_norm,)) for part in some)
        if not plain or model.attn_pool is not None or model.global_pool != "token" or model.num_prefix_tokens < 1:
            return []
        model.blocks = nn.Sequential()
        return [
            Layer(
                (block.norm1, block.norm2),
                (block.attn.qkv, block.attn.proj),
                mlp(block.mlp.fc1, block.mlp.act, block.mlp.fc2),
                block.attn.num_heads,
            )
            for block in blocks
        ]

    def embedding(self) -> nn.Conv2d:
        return self.model.patch_embed.proj

    def embed(self, images: Tensor) -> Tensor:
        seen = patches(images, self.embedding().weight, self.embedding().bias)
        return self.model.norm_pre(self.model._pos_embed(seen))

    def norm(self, tokens: Tensor) -> Tensor:
        return self.model.norm(tokens)

    def load(self, tensors: Mapping[str, Tensor]) -> None:
        """Load a state dict in timm's layout, all of it but the classifier; it comes before `cast`."""
        load_strict(self.model, tensors, source="weights", ignored=["head.*"])


def open_clip_network(name: str) -> OpenClipViT:
    """The image tower of open_clip's model `name`, with random weights; InputError where it is none or no ViT."""
    mend_imports()
    import open_clip

    config = open_clip.get_model_config(name)
    if config is None:
        raise InputError(f"open_clip has no model {name!r}; one it has: open_clip:ViT-B-32-quickgelu")
    vision = config["vision_cfg"]
    if "timm_model_name" in vision or not isinstance(vision.get("layers", 12), int):
        raise InputError(f"open_clip:{name} is no plain ViT: try open_clip:ViT-B-16 or a timm:NAME")
    return OpenClipViT(config)


def clip_tower(tensors: Mapping[str, Tensor]) -> dict[str, Tensor]:
    """The image tower of a CLIP state dict under open_clip's names, without its projection, as float32."""
    tower = {key.removeprefix("module."): value for key, value in tensors.items()}
    for prefix in ("visual.", "vision_model."):
        inside = {key.removeprefix(prefix): value for key, value in tower.items() if key.startswith(prefix)}
        tower = inside or tower
    tower.pop("proj", None)
    tower.pop("embeddings.position_ids", None)
    if "embeddings.class_embedding" in tower:
        tower = _from_transformers(tower)
    return {key: value.float() for key, value in tower.items()}


def _from_transformers(tower: Mapping[str, Tensor]) -> dict[str, Tensor]:
    renamed = {}
    for key, value in tower.items():
        found = re.fullmatch(r"(.+\.self_attn\.)([qkv])_proj\.(weight|bias)", key)
        if found and found[2] != "q":
            continue
        if found:
            names = [f"{found[1]}{letter}_proj.{found[3]}" for letter in "qkv"]
            if not tower.keys() >= set(names):
                raise InputError(f"weights hold {key} without its k and v")
            key, value = f"{found[1]}in_proj_{found[3]}", torch.cat([tower[name] for name in names])
        for pattern, replacement in _RENAMED:
            key = re.sub(pattern, replacement, key)
        renamed[key] = value
    return renamed


def _resize_positions(table: Tensor, side: int) -> Tensor:
    """Position table [1 + n², D] -> [1 + side², D]."""
    stored = math.isqrt(len(table) - 1)
    if side == stored:
        return table
    grid = table[1:].float().reshape(1, stored, stored, -1).permute(0, 3, 1, 2)
    grid = functional.interpolate(grid, size=(side, side), mode="bicubic", align_corners=False)
    return torch.cat([table[:1], grid.flatten(2)[0].T.to(table.dtype)])
