"""The tables of docs/reliability.md, of what `python -m tests.reliability` has written."""

from __future__ import annotations

from typing import Any


def table(figures: dict[str, Any]) -> str:
    """A line a family."""
    kills, files, lacks = figures["kills"], figures["mutations"], figures["lacks"]
    two, soak = figures["together"], figures["soak"]
    rows = [
        ("`kill -9` at a random moment", kills, f"{kills['lost']} of {kills['kept']} finished items lost"),
        ("damaged or hostile files", files, f"{files['failures']} failures; largest process {files['peak_mib']} MiB"),
        ("a lack: disk, permission, memory", lacks, f"{_refused(lacks)} ended with a clear error, all went on after"),
        ("two at once on one store", two, "the same bytes as one alone"),
        ("the same seed, spread otherwise", figures["same"], _same(figures["same"])),
        ("long use", soak, _long(soak)),
    ]
    lines = ["| trials | runs | seeds | faults | |", "|---|---|---|---|---|"]
    return "\n".join(lines + [_line(*row) for row in rows])


def _line(what: str, family: dict[str, Any], found: str) -> str:
    runs = family.get("runs") or family.get("rounds") or len(family["variants"])
    faults = len(family.get("faults") or []) or int("fault" in family)
    return f"| {what} | {runs} | {family.get('seeds', '0')} | {faults} | {found} |"


def _refused(lacks: dict[str, Any]) -> int:
    return sum(row["refused"] for row in lacks["by"].values())


def _same(same: dict[str, Any]) -> str:
    here = [row for row in same["variants"].values() if "largest" not in row]
    return f"{same['outs']} outs, {sum(len(row['differ']) for row in here)} of them other bytes on this machine"


def _long(soak: dict[str, Any]) -> str:
    left, one = soak["last"], soak["one_process"]
    stayed = left["processes"] + left["files"] + left["semaphores"]
    handles = one["end"]["handles"] - one["begin"]["handles"]
    return f"memory {_percent(soak['growth']['mib'])}, {stayed} things left; in one process {handles:+d} open files"


def _percent(ratio: float) -> str:
    return f"{100 * (ratio - 1):+.0f} %"


def by_scenario(figures: dict[str, Any]) -> str:
    """Kills of each command."""
    lines = ["| command | kills |", "|---|---|"]
    return "\n".join(lines + [f"| {name} | {kills} |" for name, kills in figures["kills"]["by"].items()])


def by_kind(figures: dict[str, Any]) -> str:
    """What became of damaged files of each kind."""
    lines = ["| file | taken | refused | failures |", "|---|---|---|---|"]
    for kind, told in figures["mutations"]["by"].items():
        lines.append(f"| `{kind}` | {told.get('taken', 0)} | {told.get('refused', 0)} | {told.get('fault', 0)} |")
    return "\n".join(lines)


def machines(figures: dict[str, Any]) -> str:
    """How far numbers lie apart where a processor offers less."""
    lines = [
        "| instead of this machine | outs with other bytes | arrays differ by | metrics differ by |",
        "|---|---|---|---|",
    ]
    for name, row in figures["same"]["variants"].items():
        if "largest" in row:
            data, results = row["largest"]["data"], row["largest"]["results"]
            lines.append(f"| {name} | {len(row['differ'])} of {row['outs']} | {data:.1e} | {results:.1e} |")
    return "\n".join(lines)
