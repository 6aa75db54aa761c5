"""Whose terms the locked packages are under, in their own metadata's words: docs/licences.json, and its tables.

Packages that are not installed here (PyTorch's CUDA build) are told by pip, which asks the index for nothing but names:
    pip install --dry-run --no-deps --ignore-installed --report cuda.json --requirement <(grep == cuda.lock)
    python -m benchmarks.licences --report cuda.json
"""

from __future__ import annotations

import argparse
import json
import re
from collections.abc import Mapping, Sequence
from importlib import metadata
from pathlib import Path
from typing import Any

from avs.core.errors import InputError
from avs.core.store import write_json

RECORD = Path("docs/licences.json")
LOCKS = ("requirements.lock", "cuda.lock", "test.lock")
UNKNOWN = "unknown"
KINDS = {  # the first that fits; what fits none asks for little more than that its notice is kept
    "copyleft": r"GPL|GNU|EPL|Eclipse",
    "copyleft, a file each": r"MPL|Mozilla",
    "proprietary": r"[Pp]roprietary",
    UNKNOWN: f"^{UNKNOWN}$",
}
_PIP = 26  # older ones leave License-Expression out of what they tell
_NAMES_NONE = ("", "UNKNOWN", "Dual License")
_LONGEST = 100  # a License that is longer, or has lines, is the whole text
_PIN = re.compile(r"(?P<name>[A-Za-z0-9][\w.-]*)==(?P<version>[^\s;]+)", re.ASCII)


def main() -> None:
    parser = argparse.ArgumentParser(prog="python -m benchmarks.licences", description=__doc__.partition("\n")[0])
    parser.add_argument("--report", type=Path, help="what pip told of packages that are not installed")
    report = parser.parse_args().report
    known = json.loads(RECORD.read_text()) if RECORD.exists() else {}
    told = read_report(report) if report else {}
    write_json(RECORD, {lock: _of_lock(Path(lock), told, known.get(lock, {})) for lock in LOCKS})


def locked(lock: Path) -> dict[str, str]:
    """The version of each package that a lock pins."""
    pins = map(_PIN.match, lock.read_text(encoding="utf-8").splitlines())
    return {pin["name"]: pin["version"] for pin in pins if pin}


def read_report(path: Path) -> dict[str, str]:
    """The licence of each package in a report of `pip install --report`. Raises InputError where pip is too old."""
    report = json.loads(path.read_text(encoding="utf-8"))
    if int(report["pip_version"].partition(".")[0]) < _PIP:
        raise InputError(f"{path}: pip {report['pip_version']} leaves licences out (take pip {_PIP} or newer)")
    found = {}
    for package in (item["metadata"] for item in report["install"]):
        words = (package.get("license_expression"), package.get("license"), package.get("classifier", ()))
        found[package["name"]] = licence(*words)
    return found


def installed(name: str) -> str | None:
    """The licence of a package that is installed, else None."""
    try:
        package = metadata.metadata(name)
    except metadata.PackageNotFoundError:
        return None
    words = (package.get("License-Expression"), package.get("License"), package.get_all("Classifier", []))
    return licence(*words)


def licence(expression: str | None, field: str | None, classifiers: Sequence[str]) -> str:
    """What metadata say, in this order, where they name a licence: the expression, the field, the classifiers."""
    if expression:
        return expression
    field = (field or "").strip()
    if field not in _NAMES_NONE and len(field.splitlines()) == 1 and len(field) <= _LONGEST:
        return field
    ends = [line.rpartition(" :: ")[2] for line in classifiers if line.startswith("License :: ")]
    return "; ".join(end for end in ends if end != "OSI Approved") or UNKNOWN


def _of_lock(lock: Path, told: Mapping[str, str], known: Mapping[str, str]) -> dict[str, str]:
    """Raises InputError for a package of which nobody here can tell."""
    found = {name: installed(name) or told.get(name) or known.get(name) for name in locked(lock)}
    if absent := [name for name, words in found.items() if words is None]:
        raise InputError(f"{lock}: {', '.join(absent)} not installed: give --report (see benchmarks/licences.py)")
    return {name: words for name, words in found.items() if words}


def requirements(record: Mapping[str, Any]) -> str:
    return _table(record["requirements.lock"])


def cuda(record: Mapping[str, Any]) -> str:
    return _table(record["cuda.lock"])


def tests(record: Mapping[str, Any]) -> str:
    return _table(record["test.lock"])


def _table(packages: Mapping[str, str]) -> str:
    return "\n".join(["| licence, in its metadata's words | packages |", "|---|---|", *_rows(packages)])


def not_permissive(record: Mapping[str, Any]) -> str:
    """What asks for more than that its notice is kept, or names no licence."""
    packages = {name: words for lock in LOCKS for name, words in record[lock].items()}
    lines = ["| kind | licence | packages |", "|---|---|---|"]
    for kind in KINDS:
        found = {name: words for name, words in packages.items() if kind_of(words) == kind}
        lines += [f"| {kind} {row}" for row in _rows(found)]
    return "\n".join(lines)


def _rows(packages: Mapping[str, str]) -> list[str]:
    """A row a licence, with its packages."""
    names: dict[str, list[str]] = {}
    for name in sorted(packages, key=str.casefold):
        names.setdefault(packages[name].replace("|", "\\|"), []).append(name)
    return [f"| {words} | {', '.join(names[words])} |" for words in sorted(names, key=str.casefold)]


def kind_of(words: str) -> str | None:
    return next((kind for kind, pattern in KINDS.items() if re.search(pattern, words)), None)


if __name__ == "__main__":
    main()
