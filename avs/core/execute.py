"""Map a function over clips in this process or in several, with progress; what fails becomes a value, not a crash."""

from __future__ import annotations

import atexit
import errno
import multiprocessing
import os
import signal
import sys
import threading
from collections.abc import Callable, Iterable, Iterator, Sequence
from concurrent.futures import Executor, ProcessPoolExecutor, ThreadPoolExecutor, as_completed
from concurrent.futures.process import BrokenProcessPool, _ExecutorManagerThread
from contextlib import contextmanager, suppress
from dataclasses import dataclass
from functools import partial
from itertools import islice
from multiprocessing import connection
from typing import TYPE_CHECKING, Any, Generic, Literal, NoReturn, TypeVar

import joblib
from tqdm import tqdm

from avs.core.errors import InputError
from avs.core.params import params

if TYPE_CHECKING:
    import torch

Item = TypeVar("Item")
Result = TypeVar("Result")
Pool = TypeVar("Pool", bound=Executor)


tqdm.set_lock(threading.RLock())  # one process draws: its own lock is a semaphore that a killed process leaves behind
DEVICE = "AVS_DEVICE"  # set for a process that one with several devices has started: the one that it shall take
_UNFINISHED = object()  # None is what many functions return
# What befalls every item, until someone mends the machine: a full or read-only disk, too many open files.
_OF_THE_MACHINE = (errno.ENOSPC, errno.EDQUOT, errno.EROFS, errno.EMFILE, errno.ENFILE)


@params
class ExecutionParams:
    """How work is spread. Never a dependency of a stage: it may not change a result.

    One exception: where several processes train a network with dropout, each draws masks for its own rows.
    address: of a running Ray cluster, `auto`, HOST:PORT or ray://HOST:PORT; null starts one on this machine.
    workers: on a cluster, at most so many cores.
    timeout: seconds after which an item has failed, and its worker with it. Work in this process is not timed.
    """

    backend: Literal["process", "inline", "ray"] = "process"
    address: str | None = None
    workers: int | Literal["auto"] = "auto"
    devices: str | tuple[str, ...] = "auto"
    timeout: float = 3600

    def __post_init__(self) -> None:
        if not 0 < self.timeout < float("inf"):
            raise ValueError(f"timeout ({self.timeout}) must be > 0")
        if not self.devices:
            raise ValueError(f"devices ({self.devices!r}) must be auto, a device or a list of devices")
        if self.address and self.backend != "ray":
            raise ValueError(f"address ({self.address}) needs backend: ray")
        if self.workers != "auto" and self.workers < 1:
            raise ValueError(f"workers ({self.workers}) must be >= 1, or auto")

    def num_workers(self) -> int:
        """As many as asked for; `auto` is as many as the cores that this process may use, in a container too."""
        return joblib.cpu_count() if self.workers == "auto" else self.workers

    def device_names(self) -> list[str]:
        """The devices that feature caches and training are spread over, with one copy of the network each.

        One CPU may stand there twice: [cpu, cpu] is at least two workers, and in training two copies. Other work takes
        the first.
        """
        if given := os.environ.get(DEVICE):
            return [given]
        return [self.devices] if isinstance(self.devices, str) else list(self.devices)

    def check_devices(self) -> None:
        """Raise InputError for a device that is not here, or for CPUs beside GPUs, whose numbers differ."""
        if self.device_names() == ["auto"]:
            return  # it is always there, and a stage without networks need not import PyTorch to know it
        kinds = {torch_device(name).type for name in self.device_names()}
        if len(kinds) > 1:
            raise InputError(f"execution.devices ({', '.join(self.device_names())}) must be of one kind, cpu or cuda")


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
    if device.type not in ("cpu", "cuda"):
        raise InputError(f"device ({name!r}) must be auto, cpu, cuda or cuda:N")
    if device.type == "cuda" and (device.index or 0) >= torch.cuda.device_count():
        raise InputError(f"device ({name!r}) is not here: {_cuda_state()} (or use cpu or auto)")
    return device


def _cuda_state() -> str:
    """What there is of CUDA, and what to do about it."""
    import torch

    if torch.version.cuda is None:
        return f"this PyTorch ({torch.__version__}) is built for CPUs only: install its CUDA build"
    if not torch.cuda.is_available():
        return "PyTorch sees no GPU: check nvidia-smi; a container must be started with --gpus all"
    return f"PyTorch sees {torch.cuda.device_count()} GPU(s), counted from cuda:0"


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


@contextmanager
def exact_convolutions() -> Iterator[None]:
    """cuDNN by deterministic kernels, and without TF32, which would round a float32 convolution to 10 bits.

    The flags are the process's: threads that set and restore them by turns must all find them set already.
    """
    import torch

    with torch.backends.cudnn.flags(enabled=True, deterministic=True, allow_tf32=False):
        yield


def progress(items: Iterable[Item], description: str, total: int | None = None) -> Iterable[Item]:
    """A bar with rate and ETA on a terminal, nothing elsewhere."""
    return tqdm(items, desc=description, total=total, disable=not sys.stderr.isatty(), smoothing=0.05)


def map_items(
    function: Callable[[Item], Result],
    items: Sequence[Item],
    execution: ExecutionParams,
    description: str,
    device: str | None = None,
) -> list[Result | Failure]:
    """`function` of each item, in order; an exception becomes a Failure with its reason.

    Raises OSError for what would befall every other item too, such as a full disk.
    `function` is a module-level function of one picklable item (a partial of one will do).
    device: on Ray, the kind of device, `cpu` or `cuda`, of a network that `function` keeps and its threads share.
    """
    if items and execution.backend == "ray":
        from avs.core.cluster import map_on_ray

        return map_on_ray(function, items, execution, description, device)
    workers = min(execution.num_workers(), len(items))
    if workers <= 1 or execution.backend == "inline":
        return [attempt(function, item) for item in progress(items, description)]
    results: list[Any] = [_UNFINISHED] * len(items)
    with suppress(BrokenProcessPool), running(_pool(workers)) as pool:  # one item can kill its worker, and the pool
        timed = partial(attempt, function, timeout=execution.timeout)
        futures = {pool.submit(timed, item): place for place, item in enumerate(items)}
        for future in progress(as_completed(futures), description, total=len(items)):
            results[futures[future]] = future.result()
    unfinished = [place for place, result in enumerate(results) if result is _UNFINISHED]
    died = Failure(f"the worker process died on it: {causes(execution)}")
    for place, result in zip(unfinished, _one_by_one(timed, [items[p] for p in unfinished], died), strict=True):
        results[place] = result
    return results


def causes(execution: ExecutionParams) -> str:
    """What a worker's death may come of."""
    return f"out of memory, a fault in a decoder, or more than {execution.timeout:g} s (execution.timeout)"


@dataclass(frozen=True)
class Job(Generic[Item]):
    """An item that is about some clips, whose keys progress and errors go by."""

    clips: tuple[str, ...]
    item: Item


def save_all(
    function: Callable[[Item], None],
    jobs: Sequence[Job[Item]],
    execution: ExecutionParams,
    description: str,
    device: str | None = None,
) -> None:
    """`map_items` of a function that saves what it finds. Raises InputError where any failed, after all are done."""
    results = map_items(partial(_item_of, function), jobs, execution, description, device)
    failed = [(job.clips[0], r.reason) for job, r in zip(jobs, results, strict=True) if isinstance(r, Failure)]
    if failed:
        raise InputError(f"{description}: {len(failed)} of {len(jobs)} failed, first {failed[0][0]}: {failed[0][1]}")


def _item_of(function: Callable[[Item], Result], job: Job[Item]) -> Result:
    return function(job.item)


@contextmanager
def running(pool: Pool) -> Iterator[Pool]:
    """Wait for the pool's work at the end, but not when an error or an interrupt has cut it short."""
    try:
        yield pool
    except BaseException:
        pool.shutdown(wait=False, cancel_futures=True)
        raise
    pool.shutdown()


def ahead(make: Callable[[Item], Result], items: Iterable[Item]) -> Iterator[Result]:
    """make(item) of each, in order, by a thread that makes the next two meanwhile."""
    pool = ThreadPoolExecutor(1)
    rest = iter(items)
    with running(pool):
        waiting = [pool.submit(make, item) for item in islice(rest, 2)]
        while waiting:
            made = waiting.pop(0).result()
            waiting += [pool.submit(make, item) for item in islice(rest, 1)]
            yield made


def leave(status: int) -> NoReturn:
    """End the process now: its workers are killed, and its threads may be deep in work that nobody waits for."""
    for worker in multiprocessing.active_children():
        worker.kill()
    for thread in threading.enumerate():
        if isinstance(thread, _ExecutorManagerThread):
            thread.join()  # it sees its workers gone, and removes the pool's semaphores: not to be cut off in between
    atexit._run_exitfuncs()
    os._exit(status)


def _one_by_one(
    timed: Callable[[Item], Result | Failure], items: Sequence[Item], died: Failure
) -> Iterator[Result | Failure]:
    """Each item in a worker that is replaced when it dies, so that only what killed it fails."""
    pool = _pool(1)
    for item in items:
        try:
            yield pool.submit(timed, item).result()
        except BrokenProcessPool:
            yield died
            pool = _pool(1)
    pool.shutdown()


def attempt(function: Callable[[Item], Result], item: Item, timeout: float | None = None) -> Result | Failure:
    """function(item), or why there is none; after `timeout` seconds this process ends, as C code can't be stopped.

    Raises OSError for what would befall every other item too, such as a full disk.
    """
    watch = threading.Timer(timeout or 0, os._exit, [1])
    watch.daemon = True
    try:
        if timeout:
            watch.start()
        return function(item)
    except Exception as error:  # one bad clip may not stop the others, whatever is wrong with it
        if isinstance(error, OSError) and error.errno in _OF_THE_MACHINE:
            raise
        known = type(error).__name__ in ("MediaError", "InputError")
        return Failure(str(error) if known else f"{type(error).__name__}: {error}")
    finally:
        watch.cancel()


def _pool(workers: int) -> ProcessPoolExecutor:
    context = multiprocessing.get_context("forkserver" if sys.platform == "linux" else "spawn")
    try:
        return ProcessPoolExecutor(workers, mp_context=context, initializer=_start_worker)
    except OSError as error:  # its queues have semaphores there
        advice = "give it some (docker run --shm-size 1g), or set execution.backend: inline"
        raise InputError(f"/dev/shm, the shared memory, can't be used: {error.strerror}: {advice}") from None


def _start_worker() -> None:
    """A worker leaves Ctrl-C to its parent and dies with it: those of a killed stage would wait for ever for work."""
    signal.signal(signal.SIGINT, signal.SIG_IGN)
    parent = multiprocessing.parent_process()
    if parent is not None:
        threading.Thread(target=_exit_after, args=(parent.sentinel,), daemon=True).start()


def _exit_after(sentinel: int) -> None:
    connection.wait([sentinel])
    os._exit(1)
