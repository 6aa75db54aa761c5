"""One thin module a stage: load its parameters, call one function of avs/, write its outputs."""

from __future__ import annotations

import signal
import sys
from collections.abc import Callable
from contextlib import suppress
from pathlib import Path
from types import TracebackType
from typing import Any

_NO_MEMORY = (  # what Linux, C++, PyTorch, CUDA, oneDNN and Python say
    "allocate memory",
    "failed to map segment",
    "cannot map zero-fill pages",
    "start new thread",
    "bad_alloc",
    "out of memory",
    "could not create a primitive",
    "without setting an exception",
    "without exception set",
)


def _told(kind: type[BaseException], error: BaseException, trace: TracebackType | None) -> None:
    """One line for a Ctrl-C while a stage still imports what it uses; so here, imports are left to `run`."""
    name = Path(sys.argv[0]).stem
    if issubclass(kind, KeyboardInterrupt):
        print(f"{name}: stopped before it began", file=sys.stderr)
    elif said := _out_of_memory(error):
        print(f"{name}: error: {said}", file=sys.stderr)
    else:
        sys.__excepthook__(kind, error, trace)


sys.excepthook = _told


def run(stage: Callable[[Any], dict[str, Any]], name: str = "", needs: type | None = None) -> None:
    """Run a stage once all of params.yaml is checked, print what it did, record what it cost, copy its results out.

    name: as DVC calls it, where its module and arguments do not say so. needs: the blocks that the stage reads, so
    that it begins sooner where another stage has checked the same file.
    A mistake of the user's, and what the machine lacks, is told in one line. Ctrl-C and SIGTERM stop it at once, which
    loses nothing finished.
    """
    from avs.core.errors import InputError
    from avs.core.execute import leave
    from avs.core.params import read_part
    from avs.core.provenance import measured
    from avs.core.store import copy_results, runs_root

    name = name or "@".join([Path(sys.argv[0]).stem, *sys.argv[1:]])
    signal.signal(signal.SIGTERM, signal.default_int_handler)
    try:
        config = (needs and read_part(needs)) or _whole()
        config.execution.check_devices()
        runs = runs_root()
        with measured(name) as cost:
            cost |= stage(config)
        if runs:
            copy_results(name, runs)
    except InputError as error:
        sys.exit(f"{name}: error: {error}")
    except Exception as error:
        if said := _out_of_memory(error):
            print(f"{name}: error: {said}", file=sys.stderr, flush=True)
            leave(1)  # some of its threads may wait for memory for ever
        if not isinstance(error, OSError):
            raise
        sys.exit(f"{name}: error: {error} (mended, the same command goes on)")
    except KeyboardInterrupt:
        with suppress(OSError):  # nobody may be there to read it
            print(f"{name}: stopped; the same command goes on from here", file=sys.stderr, flush=True)
        leave(130)
    print(f"{name}: " + ", ".join(f"{value} {key}" for key, value in cost.items() if isinstance(value, int)))


def _out_of_memory(error: BaseException | None) -> str:
    """What to tell where an error, or one that it came of, is a lack of memory; '' where none is."""
    while error is not None:
        text = str(error).partition("\n")[0]
        if isinstance(error, MemoryError) or any(words in text for words in _NO_MEMORY):
            advice = "give it more, or lower execution.workers; python -m avs estimate tells what a run needs"
            return f"out of memory ({text or type(error).__name__}): {advice}"
        error = error.__cause__ or error.__context__
    return ""


def _whole() -> Any:
    from avs.config import load_config  # it imports every part of avs: not for the worker processes
    from avs.core.params import mark_right

    config = load_config()
    mark_right()
    return config
