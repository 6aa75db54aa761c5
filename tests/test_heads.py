import pytest
import torch
from torch import nn

from avs.localization.heads import StackedHeads


def stacked(head: str, kernel: int = 3, seeds: tuple[int, ...] = (0, 1, 0)) -> StackedHeads:
    return StackedHeads(seeds, 7, 6, 4, head=head, kernel=kernel, dropout=0.0)  # type: ignore[arg-type]


def test_temporal_conv_equals_plain_modules() -> None:
    heads = stacked("temporal_conv")
    x = torch.randn(3, 5, 10, 7)
    for number, logits in enumerate(heads(x)):
        conv, linear = nn.Conv1d(7, 6, 3, padding=1), nn.Linear(6, 4)
        conv.weight.data = heads.weight1[number].view(7, 3, 6).permute(2, 0, 1)
        conv.bias.data = heads.bias1[number]
        linear.weight.data, linear.bias.data = heads.weight2[number].T, heads.bias2[number]
        plain = linear(torch.relu(conv(x[number].transpose(1, 2))).transpose(1, 2))
        torch.testing.assert_close(logits, plain, rtol=1e-5, atol=1e-6)


def test_mlp_equals_plain_modules() -> None:
    heads = stacked("mlp")
    x = torch.randn(3, 5, 10, 7)
    plain = torch.relu(x[1] @ heads.weight1[1] + heads.bias1[1]) @ heads.weight2[1] + heads.bias2[1]
    torch.testing.assert_close(heads(x)[1], plain, rtol=1e-5, atol=1e-6)


def test_equal_seeds_start_equal() -> None:
    heads = stacked("mlp")
    assert torch.equal(heads.weight1[0], heads.weight1[2])
    assert not torch.equal(heads.weight1[0], heads.weight1[1])


@pytest.mark.parametrize(("head", "fan_in"), [("mlp", 1000), ("temporal_conv", 3000)])
def test_initial_weights_have_the_default_scale(head: str, fan_in: int) -> None:
    heads = StackedHeads([0], 1000, 6, 4, head=head, kernel=3, dropout=0.0)  # type: ignore[arg-type]
    assert heads.weight1.abs().max().item() == pytest.approx(fan_in**-0.5, rel=0.01)
    assert heads.weight2.abs().max().item() <= 6**-0.5
