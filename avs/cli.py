"""The command line: `python -m avs COMMAND`."""

from __future__ import annotations

import argparse
import json
import sys
from pathlib import Path

from avs.core.errors import InputError


def main(arguments: list[str] | None = None) -> None:
    parser = argparse.ArgumentParser(prog="python -m avs", description="Look at results, weights and single clips.")
    commands = parser.add_subparsers(dest="command", required=True)
    table = commands.add_parser("table", help="print the tables of the last run")
    table.add_argument("--results", type=Path, default=Path("results"), help="folder (default: results)")
    table.set_defaults(run=lambda options: show_tables(options.results))
    weights = commands.add_parser("weights", help="list the published weights, or fetch some for work without network")
    weights.add_argument("names", nargs="*", metavar="NAME", help="an encoder or an eventness method")
    weights.set_defaults(run=lambda options: fetch_weights(options.names))
    options = parser.parse_args(arguments)
    try:
        options.run(options)
    except InputError as error:
        sys.exit(f"error: {error}")


def show_tables(results: Path) -> None:
    from avs.report.table import print_recall, print_study

    print_recall(_metrics(results / "anchor_eval/metrics.json"))
    print_study(_metrics(results / "p0/metrics.json"))


def fetch_weights(names: list[str]) -> None:
    """Print where the weights of `names` lie, fetched if need be; without names, the source of all there are."""
    from avs.audio.eventness import published_weights
    from avs.core.weights import fetch
    from avs.vision.encoder import PUBLISHED

    sources = PUBLISHED | published_weights()
    if unknown := [name for name in names if name not in sources]:
        raise InputError(f"no published weights of {', '.join(unknown)} (there are: {', '.join(sources)})")
    for name in names or sources:
        print(name, fetch(sources[name]) if names else sources[name], sep="\t")


def _metrics(path: Path) -> dict:
    try:
        return json.loads(path.read_text())
    except OSError:
        raise InputError(f"{path} is not there yet (run: dvc repro)") from None
