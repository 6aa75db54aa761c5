"""Schedules of the learning rate against numbers worked out by hand, PyTorch's and transformers' own."""

from __future__ import annotations

import warnings

import pytest
import torch

from avs.avsr.schedules import Schedule, linear, scheduler, tri_stage
from avs.core.import_shims import mend_imports


def rates(name: Schedule, steps: int, warmup: float) -> list[float]:
    """Of each step, for a highest rate of 2."""
    optimizer = torch.optim.AdamW([torch.nn.Parameter(torch.zeros(1))], lr=2.0)
    schedule, found = scheduler(name, optimizer, steps, warmup), []
    for _ in range(steps):
        found.append(optimizer.param_groups[0]["lr"])
        optimizer.step()
        schedule.step()
    return found


def test_linear_is_transformers_line() -> None:
    mend_imports()
    from transformers import get_linear_schedule_with_warmup

    optimizer = torch.optim.AdamW([torch.nn.Parameter(torch.zeros(1))], lr=2.0)
    other = get_linear_schedule_with_warmup(optimizer, 4, 20)
    expected = []
    for _ in range(20):
        expected.append(other.get_last_lr()[0])
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")
            other.step()
    assert rates("linear", 20, 0.2) == pytest.approx(expected, abs=1e-12)
    assert expected[:5] == [0.0, 0.5, 1.0, 1.5, 2.0]


def test_linear_without_warmup() -> None:
    assert rates("linear", 4, 0.0) == pytest.approx([2.0, 1.5, 1.0, 0.5])


def test_tri_stage_ends() -> None:
    """From 1 % on a line to all after a third, then to 5 % by equal shares: half-way at the root of 5 %."""
    shares = [tri_stage(step, steps=60, rise=20) for step in (0, 10, 20, 40, 60)]
    assert shares == pytest.approx([0.01, 0.505, 1, 0.05**0.5, 0.05])
    found = rates("tri_stage", 60, 1 / 3)
    assert found[0] == pytest.approx(0.02)
    assert max(found) == found[20] == pytest.approx(2.0)


@pytest.mark.parametrize("steps", [10, 30])
def test_onecycle_is_that_of_pytorch(steps: int) -> None:
    optimizer = torch.optim.AdamW([torch.nn.Parameter(torch.zeros(1))], lr=2.0)
    other = torch.optim.lr_scheduler.OneCycleLR(optimizer, 2.0, steps, pct_start=0.3, cycle_momentum=False)
    expected = []
    for _ in range(steps):
        expected.append(other.get_last_lr()[0])
        optimizer.step()
        other.step()
    assert rates("onecycle", steps, 0.3) == pytest.approx(expected, abs=1e-12)


@pytest.mark.parametrize("name", ["linear", "onecycle", "tri_stage"])
@pytest.mark.parametrize(("steps", "warmup"), [(1, 0.0), (1, 0.01), (2, 0.5), (3, 0.9)])
def test_few_steps(name: Schedule, steps: int, warmup: float) -> None:
    assert all(0 <= rate <= 2 + 1e-9 for rate in rates(name, steps, warmup))


def test_beyond_the_end() -> None:
    assert linear(9, steps=5, rise=1) == 0
    assert tri_stage(9, steps=5, rise=1) == 0.05
