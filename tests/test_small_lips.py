"""The small front-end: of the right shape, blind to other clips and to padding, and it learns."""

from __future__ import annotations

from collections.abc import Iterator

import pytest
import torch

from avs.avsr.small_lips import DIM, SmallLips
from avs.core.execute import one_thread


@pytest.fixture(autouse=True)
def _one_thread() -> Iterator[None]:
    with one_thread():
        yield


def mouths(*frames: int) -> torch.Tensor:
    """Clips of noise side by side, zeros after each."""
    draw = torch.Generator().manual_seed(0)
    longest = max(frames)
    there = torch.arange(longest) < torch.tensor(frames)[:, None]
    return torch.randn(len(frames), 1, longest, 88, 88, generator=draw) * there[:, None, :, None, None]


def test_a_padded_batch_gives_what_each_clip_gives_alone() -> None:
    """Also in training mode: no norm looks at other clips or frames. Tolerance 1e-5 of values around 1."""
    torch.manual_seed(0)
    network, batch = SmallLips().train(), mouths(9, 4, 1)
    with torch.no_grad():
        together = network(batch)
        assert together.shape == (3, 9, DIM)
        for row, frames in enumerate((9, 4, 1)):
            alone = network(batch[row : row + 1, :, :frames])
            torch.testing.assert_close(together[row, :frames], alone[0], rtol=0, atol=1e-5)
            assert float(alone.std()) > 0.1


def test_it_looks_at_the_middle_and_two_frames_around() -> None:
    torch.manual_seed(0)
    network, still = SmallLips(), mouths(9)
    edges, frame = still.clone(), still.clone()
    edges[..., :12, :], edges[..., -12:] = 7, 7
    frame[:, :, 4] = 0
    with torch.no_grad():
        found = network(still)
        assert torch.equal(network(edges), found)
        changed = (network(frame) != found).any(dim=2)[0]
    assert changed.tolist() == [False, False, True, True, True, True, True, False, False]


def test_all_of_it_learns() -> None:
    torch.manual_seed(0)
    network = SmallLips()
    network(mouths(3)).square().sum().backward()
    assert all(value.grad is not None and bool(value.grad.any()) for value in network.parameters())
