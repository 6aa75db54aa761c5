"""A clone of this working tree, for steps that time `dvc repro`."""

from __future__ import annotations

import os
import shutil
import subprocess
import sys
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import yaml

ROOT = Path(__file__).resolve().parents[2]


def make(folder: Path, **values: Any) -> None:
    """Files as they are in the working tree, without results, in a Git repository; `values` are set in params.yaml."""
    listed = subprocess.run(["git", "ls-files", "-z"], cwd=ROOT, capture_output=True, text=True, check=True).stdout
    for name in listed.split("\0")[:-1]:
        if (ROOT / name).is_file() and not name.startswith(("results/", "dvc.lock")):
            (folder / name).parent.mkdir(parents=True, exist_ok=True)
            shutil.copy2(ROOT / name, folder / name)
    set_params(folder / "params.yaml", values)
    commit(folder)


def set_params(path: Path, values: Mapping[str, Any]) -> None:
    """Change a params.yaml as `dvc exp run -S` would, comments and all lost."""
    tree = yaml.safe_load(path.read_text())
    for name, value in values.items():
        *blocks, key = name.split(".")
        block = tree
        for part in blocks:
            block = block[part]
        block[key] = value
    path.write_text(yaml.safe_dump(tree))


def commit(folder: Path) -> None:
    """All files in a new Git repository."""
    run(folder, "git", "init", "-q")
    run(folder, "git", "add", "-A")
    run(folder, "git", "-c", "user.name=benchmark", "-c", "user.email=benchmark@example.org", "commit", "-qm", "start")


def run(folder: Path, *command: str) -> str:
    """What the command prints to stdout; DVC and Python are those that run this."""
    path = f"{Path(sys.executable).parent}{os.pathsep}{os.environ['PATH']}"
    environment = os.environ | {"PATH": path, "DVC_NO_ANALYTICS": "1"}
    environment.pop("PYTHONPATH", None)
    return subprocess.run(command, cwd=folder, env=environment, stdout=subprocess.PIPE, text=True, check=True).stdout
