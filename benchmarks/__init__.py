"""Committed figures: each module measures one thing and writes it with the command, commit, machine and date."""

from __future__ import annotations

import os
import platform
import subprocess
import sys
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

import torch

from avs.core.store import sha256_file, write_json

RESULTS = Path("docs/results")


def record(name: str, figures: dict[str, Any], annotations: Path | None = None, command: str = "") -> None:
    """Write `docs/results/<name>.json`: the figures, and how they came about; `annotations` tell the data set."""
    known = origin(name) | ({"command": command} if command else {})
    if annotations:
        known["data"] = f"{annotations.parent.name}/{annotations.name}, sha256 {sha256_file(annotations)[:16]}"
    write_json(RESULTS / f"{name}.json", known | figures)


def origin(name: str) -> dict[str, Any]:
    """The command that measures, the commit, the machine and the day."""
    python = f"Python {platform.python_version()}, torch {torch.__version__}"
    return {
        "command": f"python -m benchmarks.{name}",
        "commit": _output("git", "describe", "--always", "--dirty", "--abbrev=40", "--exclude=*"),
        "machine": f"{_processor()}, {os.cpu_count()} cores, {python}",
        "date": datetime.now(UTC).date().isoformat(),
    }


def _processor() -> str:
    try:
        lines = Path("/proc/cpuinfo").read_text().splitlines()
    except OSError:
        return platform.processor() or platform.machine()
    return next((line.partition(":")[2].strip() for line in lines if line.startswith("model name")), platform.machine())


def _output(*command: str) -> str:
    done = subprocess.run(command, capture_output=True, text=True, check=False)
    return done.stdout.strip() or f"unknown ({' '.join(done.stderr.split()) or sys.platform})"
