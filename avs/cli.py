"""The command line: `python -m avs COMMAND`."""

from __future__ import annotations

import argparse
import json
import sys
from pathlib import Path

from avs.core.errors import InputError


def main(arguments: list[str] | None = None) -> None:
    parser = argparse.ArgumentParser(prog="python -m avs", description="Look at results and at single clips.")
    commands = parser.add_subparsers(dest="command", required=True)
    table = commands.add_parser("table", help="print the tables of the last run")
    table.add_argument("--results", type=Path, default=Path("results"), help="folder (default: results)")
    options = parser.parse_args(arguments)
    try:
        show_tables(options.results)
    except InputError as error:
        sys.exit(f"error: {error}")


def show_tables(results: Path) -> None:
    from avs.report.table import print_recall, print_study

    print_recall(_metrics(results / "anchor_eval/metrics.json"))
    print_study(_metrics(results / "p0/metrics.json"))


def _metrics(path: Path) -> dict:
    try:
        return json.loads(path.read_text())
    except OSError:
        raise InputError(f"{path} is not there yet (run: dvc repro)") from None
