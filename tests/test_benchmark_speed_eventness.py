"""The benchmark's two sides give the same answers, on a few clips, and its check would see where they did not."""

from __future__ import annotations

from pathlib import Path

import pytest

from benchmarks.speed import eventness
from benchmarks.speed.step import Clock

CLIPS = 30


@pytest.fixture
def sides(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> list[dict]:
    monkeypatch.setenv("AVS_STORE", str(tmp_path / "store"))
    monkeypatch.setattr(eventness, "best", lambda work: bool(work()) or 1.0)
    eventness.prepare(tmp_path, CLIPS)
    return [side(tmp_path, Clock()) | {"seconds": 2.0} for side in (eventness.ours, eventness.alternative)]


def test_both_sides_agree(sides: list[dict]) -> None:
    found = eventness.check(*sides)
    assert found["clips"] == CLIPS
    assert max(found["largest_difference"].values()) < 1e-6
    reached = eventness.limit(*sides)
    assert reached.ratio > 0
    assert f"{10 * CLIPS} transforms" in reached.why
    sides[0]["metrics"]["val"]["constant"]["recall_d1"] += 0.001
    with pytest.raises(AssertionError):
        eventness.check(*sides)
