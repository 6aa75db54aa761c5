"""A million clips by what was measured: time, disk and money of each step, as the table of docs/scaling.md."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

CLIPS = 1_000_000
DOLLARS_A_CORE_HOUR = 0.05  # of a rented core: an assumption, to be replaced by your own
_CORES = 2  # that benchmarks.json was measured on
_AVE = 4143
_RESOLUTIONS = 3


def table(figures: Mapping[str, Any]) -> str:
    """Core hours of the steps that each clip pays for, by their rows, and the disk that their outs take."""
    lines = ["| step | measured | a million clips | on 64 cores | rented |", "|---|---|---|---|---|"]
    for name, (seconds, told) in _a_clip(figures).items():
        hours = seconds * _CORES * CLIPS / 3600
        rented = f"{hours * DOLLARS_A_CORE_HOUR:,.0f} $"
        lines.append(f"| {name} | {told} | {hours:,.0f} core hours | {hours / 64:,.1f} h | {rented} |")
    shards, features = 1.1 * CLIPS / 1e6, _RESOLUTIONS * 10 * 768 * 4 * CLIPS / 1e12
    lines.append(f"| disk | 1.1 MB of shards a clip, features at 768-d | {shards:.1f} TB + {features:.2f} TB | | |")
    return "\n".join(lines)


def _a_clip(figures: Mapping[str, Any]) -> dict[str, tuple[float, str]]:
    """Seconds of two cores a clip of each step, and how they were found."""
    found = {}
    for name, title in (
        ("preprocess", "`preprocess`"),
        ("cache_cpu", "`cache`, CLIP on CPUs"),
        ("eventness", "`eventness`"),
    ):
        row = figures.get(name, {})
        if row.get("ours") and row.get("check", {}).get("clips"):
            a_clip = row["ours"] / row["check"]["clips"]
            found[title] = (a_clip, f"{a_clip:.3g} s a clip on two cores")
    return found
