"""Where a training lies while it runs, and what is left of it: one folder each, which one process at a time holds."""

from __future__ import annotations

import fcntl
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import torch
from accelerate import Accelerator

from avs.core import store
from avs.core.errors import InputError

VERSION = 1  # of what training gives
STATE = "state.pt"  # what a training that goes on needs
WEIGHTS = "weights.pt"  # what is left of one that is over


def run_folder(**parts: Any) -> Path:
    """Where a training lies that depends on `parts` (JSON values) and nothing else; FitParams go in by `asdict`."""
    key = store.item_key(version=VERSION, **parts)
    return store.root() / "fit" / key[:2] / key


@contextmanager
def held(folder: Path, accelerator: Accelerator) -> Iterator[None]:
    """One training at a time in a folder; what a killed one left half-written is removed."""
    folder.mkdir(parents=True, exist_ok=True)
    with open(folder / "lock", "w") as lock:
        if accelerator.is_main_process:
            try:
                fcntl.flock(lock, fcntl.LOCK_EX | fcntl.LOCK_NB)
            except OSError:
                print(f"{folder}: waiting for another process that trains this", file=sys.stderr)
                fcntl.flock(lock, fcntl.LOCK_EX)
            for leftover in folder.glob(".partial-*"):
                leftover.unlink()
        accelerator.wait_for_everyone()
        yield
        accelerator.wait_for_everyone()


def write(path: Path, tree: dict[str, Any]) -> None:
    with store.atomic(path) as file:
        torch.save(tree, file)


def load(path: Path) -> dict[str, Any]:
    try:
        return torch.load(path, map_location="cpu", weights_only=True)
    except Exception as error:
        raise InputError(f"{path} cannot be read ({type(error).__name__}): remove it to start anew") from error
