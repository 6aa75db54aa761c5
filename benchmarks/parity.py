"""Largest differences from what the original networks gave: numbers in tests/golden, and fairseq's own classes.

`benchmarks.originals` measures them, with the networks, weights and inputs of the tests, in one thread.
"""

from __future__ import annotations

import sys
from collections.abc import Sequence
from typing import Any

from avs.core.execute import one_thread
from benchmarks import record


def main() -> None:
    sys.path.append("tests")
    from benchmarks import originals  # imports tests, which who only prints the tables need not have

    with one_thread():
        found = {part: [row._asdict() for row in rows()] for part, rows in originals.PARTS.items()}
    record("parity", found)
    print(front_ends(found), table(found), peers(found), sep="\n\n")


def table(figures: dict[str, Any]) -> str:
    """AV-HuBERT against golden numbers, in docs/avsr.md."""
    return _table(figures["avhubert"])


def front_ends(figures: dict[str, Any]) -> str:
    """MuSE, SEANet and the log filter bank, in docs/speech.md."""
    return _table(figures["front_ends"])


def peers(figures: dict[str, Any]) -> str:
    """AV-HuBERT beside fairseq's classes, in docs/fairseq.md."""
    return _table(figures["fairseq"])


def _table(rows: Sequence[dict[str, Any]]) -> str:
    lines = ["| | largest difference | tolerance |", "|---|---|---|"]
    for row in rows:
        kind = " relative" if row["relative"] else ""
        lines.append(f"| {row['what']} | {_short(row['difference'])}{kind} | {_short(row['tolerance'])} |")
    return "\n".join(lines)


def _short(value: float) -> str:
    """1.4e-6, as people write it."""
    return f"{value:.1e}".replace("e-0", "e-").replace(".0e", "e") if value else "0"


if __name__ == "__main__":
    main()
