"""Map a function over clips in this process or in several, with progress; what fails becomes a value, not a crash."""

from __future__ import annotations

import multiprocessing
import os
import sys
import threading
from collections.abc import Callable, Iterable, Iterator, Sequence
from concurrent.futures import ProcessPoolExecutor, as_completed
from concurrent.futures.process import BrokenProcessPool
from contextlib import contextmanager
from dataclasses import dataclass
from multiprocessing import connection
from typing import TYPE_CHECKING, Any, Literal, TypeVar

from tqdm import tqdm

from avs.core.errors import InputError
from avs.core.params import params

if TYPE_CHECKING:
    import torch

Item = TypeVar("Item")
Result = TypeVar("Result")


_UNFINISHED = object()  # None is what many functions return


@params
class ExecutionParams:
    """How work is spread. Never a dependency of a stage: it may not change a result."""

    backend: Literal["process", "inline"] = "process"
    workers: int | Literal["auto"] = "auto"
    devices: str = "auto"

    def __post_init__(self) -> None:
        if self.workers != "auto" and self.workers < 1:
            raise ValueError(f"workers ({self.workers}) must be >= 1, or auto")

    def num_workers(self) -> int:
        if self.workers != "auto":
            return self.workers
        return len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count() or 1


@dataclass(frozen=True)
class Failure:
    """Stands in the place of a result that could not be had."""

    reason: str


def torch_device(name: str) -> torch.device:
    """`auto` is CUDA where there is one. Raises InputError for a device that is unknown or not there."""
    import torch

    if name == "auto":
        return torch.device("cuda" if torch.cuda.is_available() else "cpu")
    try:
        device = torch.device(name)
    except RuntimeError:
        raise InputError(f"device ({name!r}) must be auto, cpu, cuda or cuda:N") from None
    if device.type not in ("cpu", "cuda") or (device.type == "cuda" and not torch.cuda.is_available()):
        raise InputError(f"device ({name!r}) is not available here: use cpu or auto")
    return device


@contextmanager
def one_thread() -> Iterator[None]:
    """PyTorch in one thread: the same bits on any number of cores, and no stalls where the cores are shared."""
    import torch

    threads = torch.get_num_threads()
    torch.set_num_threads(1)
    try:
        yield
    finally:
        torch.set_num_threads(threads)


def progress(items: Iterable[Item], description: str, total: int | None = None) -> Iterable[Item]:
    """A bar with rate and ETA on a terminal, nothing elsewhere."""
    return tqdm(items, desc=description, total=total, disable=not sys.stderr.isatty(), smoothing=0.05)


def map_items(
    function: Callable[[Item], Result], items: Sequence[Item], execution: ExecutionParams, description: str
) -> list[Result | Failure]:
    """`function` of each item, in order; an exception becomes a Failure with its reason.

    `function` is a module-level function of one picklable item (a partial of one will do).
    """
    workers = min(execution.num_workers(), len(items))
    if workers <= 1 or execution.backend == "inline":
        return [_attempt(function, item) for item in progress(items, description)]
    results: list[Any] = [_UNFINISHED] * len(items)
    with _pool(workers) as pool:
        try:
            futures = {pool.submit(_attempt, function, item): place for place, item in enumerate(items)}
            for future in progress(as_completed(futures), description, total=len(items)):
                results[futures[future]] = future.result()
        except BrokenProcessPool:
            pass  # one item killed its worker, and the pool with it
        except BaseException:
            pool.shutdown(wait=False, cancel_futures=True)
            raise
    unfinished = [place for place, result in enumerate(results) if result is _UNFINISHED]
    for place, result in zip(unfinished, _one_by_one(function, [items[p] for p in unfinished]), strict=True):
        results[place] = result
    return results


def _one_by_one(function: Callable[[Item], Result], items: Sequence[Item]) -> Iterator[Result | Failure]:
    """Each item in a worker that is replaced when it dies, so that only what killed it fails."""
    pool = _pool(1)
    for item in items:
        try:
            yield pool.submit(_attempt, function, item).result()
        except BrokenProcessPool:
            yield Failure("the worker process died on it: out of memory, or a fault in a decoder")
            pool = _pool(1)
    pool.shutdown()


def _attempt(function: Callable[[Item], Result], item: Item) -> Result | Failure:
    try:
        return function(item)
    except Exception as error:  # one bad clip may not stop the others, whatever is wrong with it
        known = type(error).__name__ in ("MediaError", "InputError")
        return Failure(str(error) if known else f"{type(error).__name__}: {error}")


def _pool(workers: int) -> ProcessPoolExecutor:
    context = multiprocessing.get_context("forkserver" if sys.platform == "linux" else "spawn")
    return ProcessPoolExecutor(workers, mp_context=context, initializer=_die_with_parent)


def _die_with_parent() -> None:
    """Workers of a killed stage would wait for ever for work."""
    parent = multiprocessing.parent_process()
    if parent is not None:
        threading.Thread(target=_exit_after, args=(parent.sentinel,), daemon=True).start()


def _exit_after(sentinel: int) -> None:
    connection.wait([sentinel])
    os._exit(1)
