"""Numbers as the pages say them: differences in points with their intervals, p, and what is significant."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from avs.core.stats import ALPHA

FEW = 20  # clips, the fewest that docs/statistics.md has measured


def sign(row: Mapping[str, Any]) -> int:
    """1 or -1 where a difference is significant after Holm's correction, else 0."""
    return (1 if row["diff"] > 0 else -1) if row["p_holm"] < ALPHA else 0


def points(value: float) -> str:
    text = f"{100 * value:+.1f}".replace("-", "−")
    return text if text not in ("+0.0", "−0.0") else "0.0"


def p_value(p: float) -> str:
    return f"{p:.3f}" if p >= 0.001 else "< 0.001"


def bounds(row: Mapping[str, Any]) -> str:
    """The 95 % interval of a difference in percentage points."""
    return f"[{points(row['ci_low'])}, {points(row['ci_high'])}]"
