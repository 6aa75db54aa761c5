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


@pytest.mark.parametrize(("head", "kernel"), [("mlp", 3), ("temporal_conv", 1), ("temporal_conv", 5)])
@pytest.mark.parametrize(("beside", "dropout"), [(0, 0.0), (2, 0.0), (2, 0.5)])
def test_the_gradient_is_what_autograd_finds(head: str, kernel: int, beside: int, dropout: float) -> None:
    """With clips shorter than the kernel too."""
    for seconds in (2, 6):
        heads = StackedHeads([0, 1], 7, 6, 4, head=head, kernel=kernel, dropout=dropout, beside=beside)  # type: ignore[arg-type]
        x, target = torch.randn(2, 5, seconds, 7), torch.randint(4, (2, 5, seconds))
        y = torch.randn(2, 5, seconds, beside) if beside else None
        heads.generator.manual_seed(0)
        loss = nn.functional.cross_entropy(heads(x, y).flatten(0, 2), target.flatten()) * 2
        names = [name for name, _ in heads.named_parameters() if beside or name != "beside"]
        expected = torch.autograd.grad(loss, [getattr(heads, name) for name in names])
        heads.generator.manual_seed(0)
        for _ in range(2):  # the second time into the same memory
            heads.generator.manual_seed(0)
            heads.learn(x, y, target)
        for name, gradient in zip(names, expected, strict=True):
            torch.testing.assert_close(getattr(heads, name).grad, gradient, rtol=1e-4, atol=1e-6)


def test_what_stands_beside_is_seen_as_more_columns() -> None:
    one = StackedHeads([3, 4], 7, 6, 4, head="temporal_conv", kernel=3, dropout=0.0, beside=2)
    x = torch.randn(2, 5, 10, 9)
    whole = StackedHeads([3, 4], 9, 6, 4, head="temporal_conv", kernel=3, dropout=0.0)
    whole.weight1.data = torch.cat([one.weight1, one.beside], dim=1).detach()
    for name in ("bias1", "weight2", "bias2"):
        setattr(whole, name, getattr(one, name))
    torch.testing.assert_close(one(x[..., :7], x[..., 7:]), whole(x), rtol=1e-4, atol=1e-5)
    assert torch.equal(one(x[..., :7]), one(x[..., :7], torch.zeros(2, 5, 10, 2)))


def test_equal_seeds_start_equal() -> None:
    heads = stacked("mlp")
    assert torch.equal(heads.weight1[0], heads.weight1[2])
    assert not torch.equal(heads.weight1[0], heads.weight1[1])


@pytest.mark.parametrize(("head", "fan_in"), [("mlp", 1000), ("temporal_conv", 3000)])
def test_initial_weights_have_the_default_scale(head: str, fan_in: int) -> None:
    heads = StackedHeads([0], 1000, 6, 4, head=head, kernel=3, dropout=0.0)  # type: ignore[arg-type]
    assert heads.weight1.abs().max().item() == pytest.approx(fan_in**-0.5, rel=0.01)
    assert heads.weight2.abs().max().item() <= 6**-0.5
