"""Costs in GFLOP: exact, by the published formula and by counting shapes."""

import pytest
import torch

from avs.vision.efficientnet import EfficientNetLite0
from avs.vision.flops import module_gflops, vit_gflops
from avs.vision.vit import OpenClipViT

SMALL = {"image_size": 224, "layers": 3, "width": 64, "head_width": 16, "mlp_ratio": 2.0, "patch_size": 16}


@pytest.mark.parametrize(("resolution", "flop"), [(112, 8643428352), (224, 35126120448), (448, 156988772352)])
def test_formula_gives_the_recorded_numbers(resolution: int, flop: int) -> None:
    assert vit_gflops(resolution) * 1e9 == pytest.approx(flop, abs=0.5)


def test_formula_refuses_a_resolution_between_patches() -> None:
    with pytest.raises(ValueError, match="225"):
        vit_gflops(225)


@pytest.mark.parametrize("resolution", [112, 160, 352])
def test_counting_a_transformer_agrees_with_the_formula(resolution: int) -> None:
    tower = OpenClipViT({"embed_dim": 32, "vision_cfg": SMALL})
    expected = vit_gflops(resolution, width=64, layers=3, mlp=128)
    assert module_gflops(tower, resolution) == pytest.approx(expected, rel=1e-12)


def test_of_the_last_layer_the_class_token_alone_is_computed() -> None:
    """All but the products with the other tokens' queries, outputs and MLP."""
    tower = OpenClipViT({"embed_dim": 32, "vision_cfg": SMALL})
    tower.cast(torch.bfloat16)
    left_out = 2 * 100 * (64 * 64 + 2 * 101 * 64 + 2 * 64 * 128) / 1e9
    expected = vit_gflops(160, width=64, layers=3, mlp=128) - left_out
    assert module_gflops(tower, 160) == pytest.approx(expected, rel=1e-12)


def test_efficientnet_costs_what_is_published() -> None:
    """Lite0 at 224: 385 million multiply-adds with the classifier's 1.28 million; tolerance is the rounding."""
    network = EfficientNetLite0()
    assert network.gflops(224) / 2 + 0.00128 == pytest.approx(0.385, abs=5e-4)
    assert network.stem.weight.device.type == "cpu"
