"""The command line: `python -m avs COMMAND`. Each command is a function here that calls one module of the kit."""

from __future__ import annotations

import argparse
import json
import sys
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from typing import TYPE_CHECKING, Any, get_args

from avs.core.errors import InputError

if TYPE_CHECKING:
    from avs.config import Config
    from avs.datasets import Dataset

Run = Callable[[argparse.Namespace], None]


def main(arguments: list[str] | None = None) -> None:
    options = make_parser().parse_args(arguments)
    try:
        options.run(options)
    except InputError as error:
        sys.exit(f"error: {error}")


def make_parser() -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser(prog="python -m avs", description="Look at results, data and single clips.")
    commands = parser.add_subparsers(dest="command", metavar="COMMAND", required=True)

    def command(name: str, run: Run, text: str, example: str) -> Callable[..., Any]:
        epilog = f"example: python -m avs {example}"
        sub = commands.add_parser(name, help=text, description=text, epilog=epilog)
        sub.set_defaults(run=run)
        return sub.add_argument

    add = command("table", show_tables, "print the tables of the last run", "table")
    add("--results", type=Path, default=Path("results"), metavar="DIR", help="default: results")

    add = command("doctor", doctor, "say what is wrong with a data set, before it costs anything", "doctor --full")
    add("--dataset", metavar="NAME", help="default: that of params.yaml")
    add("--videos", metavar="DIR", help="look at the videos of another folder")
    add("--annotations", metavar="PATH", help="read other annotations: a file or folder in AVE's format, or a TSV")
    add("--annotations-only", action="store_true", help="check the annotations only, without the videos")
    add("--full", action="store_true", help="decode every frame that preprocessing would")
    add("--max-failed", type=float, metavar="SHARE", help="of rows lost; default: data.max_failed_fraction")
    add("-o", "--out", type=Path, default=Path("results/doctor"), metavar="DIR", help="default: results/doctor")
    return parser


def show_tables(options: argparse.Namespace) -> None:
    from avs.report.table import print_recall, print_study

    print_recall(_metrics(options.results / "anchor_eval/metrics.json"))
    print_study(_metrics(options.results / "p0/metrics.json"))


def doctor(options: argparse.Namespace) -> None:
    from avs.doctor import diagnose
    from avs.report.doctor import draw_diagnosis, print_diagnosis, write_findings

    config = _config()
    limit = config.data.max_failed_fraction if options.max_failed is None else options.max_failed
    dataset = _dataset(config, options)
    rows = dataset.annotations(check=False)
    folder = None if options.annotations_only else dataset.folder()
    diagnosis = diagnose(rows, folder, config.execution, full=options.full)
    write_findings(options.out / "findings.tsv", diagnosis)
    draw_diagnosis(options.out / "doctor.png", diagnosis)
    print_diagnosis(diagnosis)
    print(f"written: {options.out}/findings.tsv, {options.out}/doctor.png")
    if not diagnosis.healthy(limit):
        sys.exit(f"{diagnosis.lost} of {len(rows)} rows cannot be used: more than {limit:g} of them, or any that stops")


def _dataset(config: Config, options: argparse.Namespace) -> Dataset:
    """The data set of params.yaml, or what the options name."""
    from avs.datasets import DatasetName, open_dataset

    places = {name: getattr(options, name) for name in ("videos", "annotations") if getattr(options, name)}
    if places:
        return open_dataset("local", replace(config.data, local=replace(config.data.local, **places)))
    name = options.dataset or config.dataset
    if name not in get_args(DatasetName):
        raise InputError(f"--dataset ({name!r}) must be one of {', '.join(get_args(DatasetName))}")
    return open_dataset(name, config.data)


def _config() -> Config:
    from avs.config import load_config

    return load_config()


def _metrics(path: Path) -> dict[str, Any]:
    try:
        return json.loads(path.read_text())
    except OSError:
        raise InputError(f"{path} is not there yet (run: dvc repro)") from None
