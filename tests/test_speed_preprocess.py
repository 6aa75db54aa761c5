"""The benchmark of preprocess, on few and small clips: both sides do the same work."""

from pathlib import Path

import pytest

from benchmarks.speed import preprocess as benchmark
from benchmarks.speed.step import Clock


def test_both_sides_give_the_same(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(benchmark, "_KINDS", ((96, 64, 25), (64, 48, 30)))
    monkeypatch.setattr(benchmark, "CLIPS", 2)
    benchmark.prepare(tmp_path, 2)
    if lacking := benchmark.needs():
        pytest.skip(lacking)
    ours = benchmark.ours(tmp_path, clock := Clock())
    figures = benchmark.check(ours, theirs := benchmark.alternative(tmp_path, Clock()))
    assert figures["psnr"] > 30
    assert clock.seconds > 0
    assert benchmark.limit(ours, theirs | {"seconds": 1.0}).ratio > 0
    with pytest.raises(AssertionError, match="frames differ"):
        benchmark.check(ours, theirs | {"psnr": 20.0})


def test_what_is_lacking_is_told(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("PATH", "")
    assert "apt-get install ffmpeg" in str(benchmark.needs())
