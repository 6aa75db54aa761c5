"""The benchmarks of the feature cache on small inputs: both sides agree, also the code meant for a GPU."""

from pathlib import Path

import pytest
import torch

from benchmarks.speed import cache_cpu, cache_gpu, packing
from benchmarks.speed.clip import agreement
from benchmarks.speed.step import Clock

SIZES = (32, 48)


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("speed")
    cache_cpu.prepare(folder, 2)
    return folder


def test_both_sides_agree_on_a_cpu(folder: Path) -> None:
    clocks = Clock(), Clock()
    ours, plain = cache_cpu.ours(folder, clocks[0], SIZES), cache_cpu.alternative(folder, clocks[1], SIZES)
    found = cache_cpu.check(ours, plain)
    assert 0.9999 <= found["least_cosine_32"] <= 1
    assert min(clock.seconds for clock in clocks) > 0
    other = {"features": {"32": ours["features"]["48"], "48": ours["features"]["32"]}}
    with pytest.raises(SystemExit, match="differ"):
        agreement(other, plain, 0.9999)


def test_the_code_for_a_gpu_runs_on_a_cpu(folder: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(cache_gpu, "MIDDLE", 32)
    ours, plain = (side(folder, Clock(), SIZES, "cpu") for side in (cache_gpu.ours, cache_gpu.alternative))
    assert cache_gpu.check(ours, plain)["images_per_second_224"] > 0
    assert (cache_gpu.needs() is None) == torch.cuda.is_available()


def test_a_packed_batch_equals_the_padded_one(folder: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    assert sum((size // 16) ** 2 for size in packing.plans(1)[0]) == 1960
    monkeypatch.setattr(packing, "plans", lambda clips: [[32, 48, 32, 16, 32, 32, 64, 32, 48, 32]] * clips)
    ours, padded = packing.ours(folder, Clock()), packing.alternative(folder, Clock())
    found = packing.check(ours | {"seconds": 1.0}, padded)
    assert 0 < found["largest_gap_to_padded"] < 1e-4
    assert packing.limit({}, {}).ratio > 2
