"""Two processes train as one: gradients, losses, weights, running statistics; who takes which rows."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest
import torch
from fit_models import SHARED, noise, recognized, system
from fit_script import shared_run

from avs.avsr import launch
from avs.avsr.sharing import Norms, Shares, shares
from avs.core.errors import InputError
from avs.core.execute import one_thread


@pytest.fixture(scope="module")
def found(tmp_path_factory: pytest.TempPathFactory) -> dict[str, list[dict[str, Any]]]:
    """What each of two processes found, by scenario."""
    folder, tests = tmp_path_factory.mktemp("two"), Path(__file__).parent
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("PYTHONPATH", f"{tests}:{tests.parent}")
        patch.setenv("OMP_NUM_THREADS", "1")
        launch.spread("fit_script", ["cpu", "cpu"], ["shared", str(folder)])
    return {name: [torch.load(folder / f"{name}.{rank}.pt") for rank in (0, 1)] for name in SHARED}


@pytest.mark.parametrize("name", SHARED)
def test_two_processes_find_what_one_finds(name: str, found: dict[str, Any], tmp_path: Path) -> None:
    """Gradients after clipping to a norm of 1 within 1e-5; what has none has none; weights and statistics 1e-5."""
    with one_thread():
        one = shared_run(name, tmp_path)
    assert one["gradients"]
    for two in found[name]:
        assert two["loss"] == pytest.approx(one["loss"], rel=1e-5)
        for ours, theirs in zip(one["gradients"], two["gradients"], strict=True):
            assert ours.keys() == theirs.keys()
            assert max(float((ours[key] - theirs[key]).abs().max()) for key in ours) < 1e-5
        assert max(_difference(value, two["state"][key]) for key, value in one["state"].items()) < 1e-5
    assert all(torch.equal(value, found[name][1]["state"][key]) for key, value in found[name][0]["state"].items())


def _difference(one: torch.Tensor, other: torch.Tensor) -> float:
    return float((one.double() - other.double()).abs().max()) if one.numel() else 0.0


def test_equal_lengths_are_spread_and_single_ones_are_not() -> None:
    """SEANet's norms take the rows of one length: each process has one of them, or one process has all."""
    norms = Norms(system(), shared=True)
    batch = noise([5, 4, 5, 3, 5, 4], 0)
    two = shares(batch, range(6), 2, norms)
    assert two == Shares(((0, 1, 4), (2, 3, 5)), frozenset({3}))
    three = shares(batch, range(6), 3, norms)
    assert three == Shares(((0, 3), (1, 2, 5), (4,)), frozenset({3, 4}))


def test_rows_that_seanet_does_not_meet_go_anywhere() -> None:
    norms = Norms(system(), shared=True)
    batch = noise([5, 4, 3, 2], 0, [True, False, False, False])
    assert shares(batch, range(4), 2, norms) == Shares(((0, 2), (1, 3)), frozenset({5}))


def test_norms_of_all_need_a_row_of_all() -> None:
    """Two clips for three processes: one takes both; without batch norms they are shared out."""
    batch = noise([3, 3], 0)
    assert shares(batch, range(2), 3, Norms(system(), shared=True)) == Shares(((0, 1), (), ()), None)
    assert shares(batch, range(2), 3, Norms(recognized(), shared=True)) == Shares(((0,), (1,), ()), frozenset())


def test_frozen_norms_are_left_alone() -> None:
    model = system()
    model.seanet.freeze()  # type: ignore[union-attr]
    assert not Norms(model.train(), shared=True).found
    assert not Norms(system(), shared=False).found
    with Norms(system(), shared=True).shared() as norms:
        assert norms.found
        assert all("forward" in vars(norm) for norm in norms.found)
    assert not any("forward" in vars(norm) for norm in norms.found)


@pytest.mark.parametrize("devices", [["cpu", "cuda:99"], ["auto", "nowhere"]])
def test_devices_that_are_not_here(devices: list[str]) -> None:
    with pytest.raises(InputError, match="device"):
        launch.spread("stages.cache", devices)


def test_a_worker_that_fails_is_told(monkeypatch: pytest.MonkeyPatch) -> None:
    class Done:
        returncode = 1

    calls: list[tuple[Any, dict[str, str]]] = []
    monkeypatch.setattr(launch.subprocess, "run", lambda command, env, check: calls.append((command, env)) or Done())
    with pytest.raises(InputError, match=r"stages\.x on cpu, cpu ended with status 1"):
        launch.spread("stages.x", ["cpu", "cpu"], ["--flag"])
    command, environment = calls[0]
    assert command[-4:] == ["--nproc_per_node=2", "-m", "stages.x", "--flag"]
    assert environment["ACCELERATE_USE_CPU"] == "true"
    assert not launch.is_worker()
