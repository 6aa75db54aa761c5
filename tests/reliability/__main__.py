"""Run the trials of some families, or of all, from where they stopped; then write their figures."""

from __future__ import annotations

import argparse
import json
import shutil
import subprocess
import sys
from collections import Counter
from collections.abc import Callable, Sequence
from functools import cache, partial
from pathlib import Path
from tempfile import mkdtemp
from typing import Any

from benchmarks import RESULTS, record
from tests.reliability import kills, lacks, mutations, same, soak, together
from tests.reliability.trials import Row, faults, run_trials

JOURNALS = Path(".cache/reliability")
_KILLED = kills.SCENARIOS
_LACKING = [scenario for scenario in _KILLED if scenario.name not in ("download", "dvc")]
_TOGETHER = [scenario for scenario in _KILLED if scenario.name != "download"]


@cache
def _reference(scenario: kills.Scenario) -> kills.Reference:
    """Kept until the end: /tmp is cleared by whoever started it."""
    return kills.undisturbed(scenario, Path(mkdtemp(prefix=f"avs-torture-{scenario.name}-")))


def _in_turn(scenarios: Sequence[kills.Scenario], trial: Callable[..., Row], seed: int, folder: Path) -> Row:
    scenario = scenarios[seed % len(scenarios)]
    return trial(scenario, _reference(scenario), seed, folder)


def _kills(runs: int) -> dict[str, Any]:
    """So many kills, however many trials that takes: some commands end before their moment comes."""
    rows: list[Row] = []
    while sum(row["kills"] for row in rows) < runs:
        seeds = range(len(rows) + len(_KILLED))
        rows = run_trials(JOURNALS / "kills.jsonl", "kills", seeds, partial(_in_turn, _KILLED, kills.trial))
    killed: Counter[str] = Counter()
    for row in rows:
        killed[row["scenario"]] += row["kills"]
    finished, lost = (sum(row[name] for row in rows) for name in ("finished", "lost"))
    return {"runs": killed.total(), "lost": lost, "kept": finished, "by": dict(killed)} | _told(rows)


def _mutations(runs: int) -> dict[str, Any]:
    with mutations.open_cage() as cage:
        rows = run_trials(JOURNALS / "mutations.jsonl", "mutations", range(runs), partial(mutations.trial, cage))
    by = {kind: [row for row in rows if row["kind"] == kind] for kind in mutations.NAMES}
    told = {kind: Counter(row["outcome"] for row in some) for kind, some in by.items()}
    peak = max(row["mib"] for row in rows)
    return {"runs": len(rows), "failures": len(faults(rows)), "peak_mib": peak, "by": told} | _told(rows)


def _lacks(runs: int) -> dict[str, Any]:
    if why := lacks.needs():
        return {"runs": 0, "open": why}
    rows = run_trials(JOURNALS / "lacks.jsonl", "lacks", range(runs), partial(_in_turn, _LACKING, lacks.trial))
    by = {lack: [row["status"] for row in rows if row["lack"] == lack] for lack in lacks.LACKS}
    ended = {lack: {"runs": len(some), "refused": sum(map(bool, some))} for lack, some in by.items()}
    return {"runs": len(rows), "by": ended} | _told(rows)


def _together(runs: int) -> dict[str, Any]:
    trial = partial(_in_turn, _TOGETHER, together.trial)
    rows = run_trials(JOURNALS / "together.jsonl", "together", range(runs), trial)
    return {"runs": len(rows)} | _told(rows)


def _same(runs: int) -> dict[str, Any]:
    rows = run_trials(JOURNALS / "same.jsonl", "same", range(min(runs, len(same.VARIANTS))), same.trial)
    return {"outs": rows[0]["outs"], "variants": {row.pop("variant"): row for row in rows}} | _told(rows)


def _soak(minutes: int) -> dict[str, Any]:
    rows = run_trials(JOURNALS / f"soak-{minutes}.jsonl", "soak", range(1), partial(soak.run, minutes))
    return {"minutes": minutes} | rows[0]


def _told(rows: Sequence[Row]) -> dict[str, Any]:
    """Every seed, and what went wrong with which."""
    return {"seeds": f"0-{len(rows) - 1}", "faults": {str(row["seed"]): row["fault"] for row in faults(rows)}}


# With how much of each: trials, and for the last minutes.
FAMILIES: dict[str, tuple[Callable[[int], dict[str, Any]], int]] = {
    "mutations": (_mutations, 5000),
    "kills": (_kills, 200),
    "lacks": (_lacks, 60),
    "together": (_together, 14),
    "same": (_same, len(same.VARIANTS)),
    "soak": (_soak, 15),
}


def main(arguments: Sequence[str]) -> int:
    parser = argparse.ArgumentParser(prog="python -m tests.reliability", description=__doc__)
    parser.add_argument("families", nargs="*", metavar="FAMILY", help=f"of {', '.join(FAMILIES)}; all without one")
    parser.add_argument("--runs", type=int, help="other than as many as the figures ask for; of soak: minutes")
    parser.add_argument("--again", action="store_true", help="forget earlier trials, which count as long as they exist")
    chosen = parser.parse_args(arguments)
    if unknown := set(chosen.families) - FAMILIES.keys():
        parser.error(f"no such family: {', '.join(sorted(unknown))}")
    if chosen.again:
        shutil.rmtree(JOURNALS, ignore_errors=True)
    failed = False
    for name in chosen.families or FAMILIES:
        family, runs = FAMILIES[name]
        found = family(chosen.runs or runs)
        _keep(name, found)
        print(json.dumps({name: found}, indent=1), flush=True)
        failed |= bool(found.get("fault") or found.get("faults"))
    return int(failed)


def _keep(name: str, found: dict[str, Any]) -> None:
    """Beside the figures of the other families."""
    path = RESULTS / "reliability.json"
    before = json.loads(path.read_text()) if path.exists() else {}
    commit = subprocess.run(["git", "rev-parse", "HEAD"], capture_output=True, text=True, check=False).stdout.strip()
    families = {key: before[key] for key in FAMILIES if key in before} | {name: {"commit": commit} | found}
    record("reliability", families, command="make torture")


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
