"""Lengths of a batch at once: what they would be one after another, and the same on any number of cores."""

from concurrent.futures import ThreadPoolExecutor

import pytest
import torch

from avs.avsr import apart
from avs.avsr.seanet import SEANet, separate

FRAMES = [3, 5, 3, 8]


def network(train: bool) -> SEANet:
    torch.manual_seed(0)
    return SEANet(N=16, L=40, B=8, H=8, K=20, R=2, head=4).double().train(train)


def worked(model: SEANet) -> dict[str, torch.Tensor]:
    """Voices, gradients and what norms have learnt."""
    torch.manual_seed(1)
    mixture, visual = torch.randn(4, 8 * 640), torch.randn(4, 8, 512)
    voices = separate(model, mixture, visual, FRAMES)
    voices.square().sum().backward()
    found = {name: value.grad for name, value in model.named_parameters() if value.grad is not None}
    return found | {"voices": voices.detach()} | dict(model.named_buffers())


@pytest.mark.parametrize("train", [False, True])
def test_at_once_is_one_after_another(train: bool, monkeypatch: pytest.MonkeyPatch) -> None:
    """In float64 within 1e-9: only the order of sums differs."""
    found = worked(network(train))
    monkeypatch.setattr("avs.avsr.seanet.run_apart", lambda model, groups: [model(*group) for group in groups])
    wanted = worked(network(train))
    assert found.keys() == wanted.keys()
    for name in wanted:
        torch.testing.assert_close(found[name], wanted[name], rtol=1e-7, atol=1e-9)


def test_bits_do_not_hang_on_the_number_of_threads(monkeypatch: pytest.MonkeyPatch) -> None:
    found = []
    for threads in (1, 3):
        pool = ThreadPoolExecutor(threads, initializer=torch.set_num_threads, initargs=(1,))
        monkeypatch.setattr(apart, "_pool", lambda pool=pool: pool)
        found.append(worked(network(True)))
    assert all(torch.equal(found[0][name], found[1][name]) for name in found[0])


def test_frozen_or_watched_only_nothing_is_learnt() -> None:
    model = network(True).freeze()
    with torch.inference_mode():
        voices = separate(model, torch.randn(4, 8 * 640), torch.randn(4, 8, 512), FRAMES)
    assert voices.is_inference()
    assert not separate(model, torch.randn(4, 8 * 640), torch.randn(4, 8, 512), FRAMES).requires_grad
