"""What tests let workers of a cluster do: apart, since workers import the module."""

import os
import threading
from pathlib import Path
from uuid import uuid4

from avs.core.errors import InputError


def square(x: int) -> int:
    if x == 3:
        raise InputError("three is not for us")
    if x == 5:
        os._exit(1)
    return x * x


def hang_on_two(x: int) -> int:
    if x == 2:
        threading.Event().wait()
    return x


def leave_a_mark(folder: Path, doomed: str, item: int) -> int:
    """On the doomed node for ever, and elsewhere not before that has begun."""
    (folder / f"{item}.{uuid4()}").touch()
    import ray

    there = ray.get_runtime_context().get_node_id() == doomed
    if there:
        (folder / "doomed").touch()
    while there or not (folder / "doomed").exists():
        threading.Event().wait(0.01)
    return -item
