"""`map_items` on Ray: a worker for each free place of a cluster, chunks of items, and the deaths of workers and nodes.

Every node must see the item store, the project and its code at the same paths; each worker looks before it works.
"""

from __future__ import annotations

import logging
import os
import platform
import signal
import socket
import sys
import sysconfig
import tempfile
import threading
import time
from collections import Counter, deque
from collections.abc import Callable, Iterator, Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from contextlib import ExitStack, contextmanager, suppress
from dataclasses import dataclass
from functools import lru_cache, partial
from hashlib import sha256
from importlib import metadata
from pathlib import Path
from typing import Any

from tqdm import tqdm

from avs.core.errors import InputError
from avs.core.execute import ExecutionParams, Failure, Job, attempt, causes, exact_convolutions
from avs.core.store import raw_root, root

_VERSION = "2.55.1"  # that of pyproject.toml
_TRIES = 3  # deaths of a worker on one item alone until the item counts as what killed it
_CHUNK_SECONDS = 1.0  # what the death of a worker costs at most, unless one item takes longer
_REACH_SECONDS = 5.0
_WIDEST = 8  # cores of a worker that keeps a network
_NODES_SHOWN = 4
_PACKAGES = ("av", "numpy", "pillow", "scipy", "timm", "torch", "transformers")  # that change bytes
# No telemetry; and a worker without a GPU may see one, as in every other process.
_QUIET = {"RAY_USAGE_STATS_ENABLED": "0", "RAY_ACCEL_ENV_VAR_OVERRIDE_ON_ZERO": "0"}


def map_on_ray(
    function: Callable[[Any], Any],
    items: Sequence[Any],
    execution: ExecutionParams,
    description: str,
    device: str | None,
) -> list[Any]:
    """What `map_items` promises, by workers of the cluster at `execution.address`, or of a Ray of our own.

    device: None for a function that takes one core, else the kind of device, `cpu` or `cuda`, of the network that
    each worker keeps. Raises InputError, before any work, where Ray or the cluster is not there, and naming the node
    where one differs from this machine.
    """
    with ExitStack() as stack:
        ray = stack.enter_context(_connected(execution, device))
        here = stack.enter_context(_marked(function))
        needs = _needs(_nodes(ray), device, execution.address)
        most = None if execution.workers == "auto" else max(1, execution.workers // needs.cpus)
        total, quiet = sum(map(_clips, items)), not sys.stderr.isatty()
        bar = stack.enter_context(tqdm(desc=description, total=total, unit="clip", disable=quiet, smoothing=0.05))
        timed = partial(attempt, function, timeout=execution.timeout)
        return _Run(ray, timed, items, description, here, needs, most, bar, causes(execution)).results()


def _clips(item: Any) -> int:
    return len(item.clips) if isinstance(item, Job) else 1


@contextmanager
def _connected(execution: ExecutionParams, device: str | None) -> Iterator[Any]:
    """The module `ray`, connected; a Ray of our own leaves neither processes nor files behind."""
    os.environ |= _QUIET
    try:
        import ray
    except ImportError:
        raise InputError(f"execution.backend ray needs Ray (run: pip install ray=={_VERSION})") from None
    handler = signal.getsignal(signal.SIGTERM)
    with ExitStack() as stack:
        options = {"address": execution.address} if execution.address else _own(execution, device, stack)
        _reach(ray, execution.address)
        try:
            ray.init(**options, logging_level=logging.ERROR, log_to_driver=False)
        except (ConnectionError, RuntimeError, ValueError, ImportError, TimeoutError) as error:
            text = " ".join(str(error).split())
            raise InputError(f"execution.address ({execution.address or 'local'}): Ray says: {text}") from None
        stack.callback(ray.shutdown)
        ray._private.worker._worker_logs_enabled = False  # a paragraph for each dead worker, where we say a line
        if threading.current_thread() is threading.main_thread():
            signal.signal(signal.SIGTERM, handler)  # Ray puts its own there, which ends the process noisily
        yield ray


def _own(execution: ExecutionParams, device: str | None, stack: ExitStack) -> dict[str, Any]:
    """A Ray that lives as long as the map, with its files in a folder whose name is short enough for its sockets."""
    folder = stack.enter_context(tempfile.TemporaryDirectory(prefix="avs-", dir="/tmp", ignore_cleanup_errors=True))
    return {
        "address": "local",
        "num_cpus": execution.num_workers(),
        "num_gpus": len(execution.device_names()) if device == "cuda" else 0,
        "include_dashboard": False,
        "object_store_memory": 100 * 2**20,  # results are small
        "_temp_dir": folder,
    }


def _reach(ray: Any, address: str | None) -> None:
    """Raise InputError where nobody answers: Ray itself would try for minutes, of a cluster that ended too."""
    place = (ray._private.services.canonicalize_bootstrap_address("auto") or "") if address == "auto" else address or ""
    host, colon, port = place.removeprefix("ray://").rpartition(":")
    if not place:  # none, or none that Ray knows of, which it says at once
        return
    if not colon or not port.isdigit():
        raise InputError(f"execution.address ({place}) must be auto, HOST:PORT or ray://HOST:PORT, or empty")
    try:
        socket.create_connection((host, int(port)), _REACH_SECONDS).close()
    except (OSError, OverflowError) as error:
        raise InputError(f"execution.address ({place}): no Ray answers there: {error} (see: ray status)") from None


@dataclass(frozen=True)
class _Needs:
    """What a worker takes of a node: its cores, which are as many threads, and whole GPUs."""

    cpus: int = 1
    gpus: int = 0
    network: bool = False

    def places(self, nodes: Sequence[Mapping[str, float]]) -> int:
        """How many workers fit."""
        return sum(self._in(node) for node in nodes)

    def _in(self, node: Mapping[str, float]) -> int:
        cores = int(node.get("CPU", 0)) // self.cpus
        return min(cores, int(node.get("GPU", 0)) // self.gpus) if self.gpus else cores


def _needs(nodes: Sequence[Mapping[str, float]], device: str | None, address: str | None) -> _Needs:
    """One core; or for a network a GPU with its share of cores, or some cores that share one copy of it."""
    kind = "GPU" if device == "cuda" else "CPU"
    able = [node for node in nodes if node.get(kind, 0) >= 1 and node.get("CPU", 0) >= 1]
    if not able:
        raise InputError(f"execution.address ({address or 'local'}): no node of this Ray has a {kind} to work on")
    if device is None:
        return _Needs()
    if device == "cuda":
        return _Needs(min(max(1, int(node["CPU"] // node["GPU"])) for node in able), 1, network=True)
    return _Needs(min(_WIDEST, *(int(node["CPU"]) for node in able)), network=True)


def _nodes(ray: Any) -> list[Mapping[str, float]]:
    return [node["Resources"] for node in ray.nodes() if node["Alive"]]


@dataclass(frozen=True)
class _Here:
    """What every node must have as this machine has it: `marks` are files that were made in shared folders just now."""

    folder: str
    marks: tuple[str, ...]
    inputs: tuple[str, ...]
    software: Mapping[str, str]

    def problem(self) -> str:
        """What is different where this is called; '' for nothing."""
        for mark in self.marks:
            if not Path(mark).exists():
                return f"does not see {Path(mark).parent} of the machine that asks: all nodes need it at this path"
        if absent := [name for name in self.inputs if not Path(self.folder, name).exists()]:
            return f"has no {absent[0]}: all nodes need it at this path"
        other = _software()
        differing = [
            f"{name} {other[name]}, not {value}" for name, value in self.software.items() if other[name] != value
        ]
        return f"has {'; '.join(differing)}: all nodes need the same" if differing else ""


@contextmanager
def _marked(function: Callable[[Any], Any]) -> Iterator[_Here]:
    """This machine, with a mark in the item store and one in the project's data, or beside it."""
    folder = Path.cwd()
    data = folder / "data"
    root().mkdir(parents=True, exist_ok=True)
    with ExitStack() as stack:
        files = [
            stack.enter_context(tempfile.NamedTemporaryFile(dir=place, prefix=".partial-ray-"))
            for place in (root(), data if data.is_dir() else folder)
        ]
        bound = function.args if isinstance(function, partial) else ()
        inputs = tuple(str(value) for value in bound if isinstance(value, Path) and value.exists())
        yield _Here(str(folder), tuple(file.name for file in files), inputs, _software())


@lru_cache(maxsize=1)
def _software() -> dict[str, str]:
    """The versions of what results depend on, and the digest of the project's own code."""
    versions = {"Python": platform.python_version()}
    for name in _PACKAGES:
        try:
            versions[name] = metadata.version(name)
        except metadata.PackageNotFoundError:
            versions[name] = "none"
    package = Path(__file__).parents[1]
    code = sha256(b"".join(path.read_bytes() for path in sorted(package.rglob("*.py")))).hexdigest()
    return versions | {"avs": code[:12]}


def _environment(threads: int) -> dict[str, str]:
    """The variables of a worker: the project's, our path, and one thread for each of the items that it works on."""
    paths = sysconfig.get_paths()
    foreign = tuple(paths[name] for name in ("stdlib", "platstdlib", "purelib", "platlib"))
    own = [
        str(Path(path).absolute()) for path in sys.path if not path.startswith(foreign) and not path.endswith(".zip")
    ]
    passed = {name: value for name, value in os.environ.items() if name.startswith("AVS_") and name != "AVS_DEVICE"}
    limits = {name: os.environ.get(name, "1") for name in ("OMP_NUM_THREADS", "MKL_NUM_THREADS")}
    places = {"AVS_STORE": str(root()), "AVS_DATA_DIR": str(raw_root()), "PYTHONPATH": os.pathsep.join(own)}
    return _QUIET | passed | limits | places | {"LOKY_MAX_CPU_COUNT": str(threads)}


class _Worker:
    """Lives in a process on some node for as long as the map, and so keeps what `function` has loaded."""

    def hello(self, here: _Here, pickled: bytes, needs: _Needs) -> tuple[str, str]:
        """Where it is, and why it can't work there ('' where it can)."""
        import ray

        with suppress(ValueError):  # Ctrl-C is for the process that asks
            signal.signal(signal.SIGINT, signal.SIG_IGN)
        context = ray.get_runtime_context()
        gpus = "".join(f"/gpu{gpu}" for gpu in context.get_accelerator_ids().get("GPU", []))
        place = f"{platform.node()}:{context.get_node_id()[:4]}{gpus}"
        if problem := here.problem():
            return place, problem
        os.chdir(here.folder)
        if needs.network:
            exact_convolutions().__enter__()  # for good: threads cannot set it by turns
        self._pool, self._warm = ThreadPoolExecutor(needs.cpus), False
        self._attempt = ray.cloudpickle.loads(pickled)
        return place, ""

    def work(self, items: Sequence[Any]) -> tuple[list[Any], float]:
        """What became of the items, and seconds. The very first goes alone, so that a network is loaded once."""
        began = time.perf_counter()
        alone = 0 if self._warm else 1
        results = [*map(self._attempt, items[:alone]), *self._pool.map(self._attempt, items[alone:])]
        self._warm = True
        return results, time.perf_counter() - began


@dataclass
class _Hired:
    """A worker as this process knows it; `place` is '' until it has said where it is."""

    handle: Any
    place: str = ""


class _Run:
    """One map. Each worker has one call under way, so that as little as can be is lost with it."""

    def __init__(
        self,
        ray: Any,
        function: Callable[[Any], Any],
        items: Sequence[Any],
        description: str,
        here: _Here,
        needs: _Needs,
        most: int | None,
        bar: Any,
        causes: str,
    ) -> None:
        self._ray, self._items, self._description, self._here, self._causes = ray, items, description, here, causes
        self._needs, self._most, self._bar = needs, most, bar
        self._pickled = ray.cloudpickle.dumps(function)
        options = {"num_cpus": needs.cpus, "num_gpus": needs.gpus, "scheduling_strategy": "SPREAD"}
        environment = {"env_vars": _environment(needs.cpus)}
        self._new = ray.remote(_Worker).options(runtime_env=environment, **options).remote
        self._found: dict[int, Any] = {}
        self._fresh, self._again = deque(range(len(items))), deque[int]()
        self._deaths: Counter[int] = Counter()
        self._under_way: dict[Any, tuple[_Hired, list[int]]] = {}
        self._idle: list[_Hired] = []
        self._pace = _CHUNK_SECONDS  # seconds an item
        self._clips: Counter[str] = Counter()
        self._busy: dict[str, float] = {}
        self._began, self._looked, self._places, self._stillborn = time.monotonic(), 0.0, 0, 0

    def results(self) -> list[Any]:
        while len(self._found) < len(self._items):
            self._hire()
            self._assign()
            lost: Counter[str] = Counter()
            for ref in self._ready():
                self._take(ref, lost)
            self._tell(lost)
        return [self._found[place] for place in range(len(self._items))]

    def _hire(self) -> None:
        """A worker for each place of the cluster, of which there may be more by now, if there is work for it."""
        if time.monotonic() > self._looked + 1:
            self._looked = time.monotonic()
            fitting = self._needs.places(_nodes(self._ray))
            self._places = min(fitting, self._most or fitting)
        starting = sum(not worker.place for worker, _ in self._under_way.values())
        wanted = len(self._fresh) + len(self._again) - starting
        for _ in range(min(wanted, self._places - len(self._under_way)) - len(self._idle)):
            worker = _Hired(self._new())
            self._under_way[worker.handle.hello.remote(self._here, self._pickled, self._needs)] = worker, []

    def _assign(self) -> None:
        while self._idle and (chunk := self._chunk()):
            worker = self._idle.pop()
            self._under_way[worker.handle.work.remote([self._items[place] for place in chunk])] = worker, chunk

    def _chunk(self) -> list[int]:
        """About a second of work, less near the end; alone what has been there when a worker died."""
        if self._again:
            return [self._again.popleft()]
        fair = len(self._fresh) // (2 * max(1, self._places))
        size = max(self._needs.cpus, min(int(_CHUNK_SECONDS / self._pace), fair))
        return [self._fresh.popleft() for _ in range(min(size, len(self._fresh)))]

    def _ready(self) -> list[Any]:
        """The calls that have ended, at least one if any does within a second."""
        calls = list(self._under_way)
        if not self._ray.wait(calls, num_returns=1, timeout=1.0)[0]:
            return []
        return self._ray.wait(calls, num_returns=len(calls), timeout=0)[0]

    def _take(self, ref: Any, lost: Counter[str]) -> None:
        """The outcome of a call; where its worker died, `lost` gets its items."""
        worker, chunk = self._under_way.pop(ref)
        try:
            said = self._ray.get(ref)
        except self._ray.exceptions.RayTaskError as error:
            raise error.cause from None
        except self._ray.exceptions.RayError as error:
            with suppress(Exception):  # it may be out of reach only
                self._ray.kill(worker.handle)
            self._bury(worker, chunk, error)
            lost[worker.place] += sum(_clips(self._items[number]) for number in chunk)
            return
        self._idle.append(worker)
        if chunk:
            self._note(worker.place, chunk, *said)
        else:
            worker.place, problem = said
            if problem:
                raise InputError(f"node {worker.place} {problem}")

    def _note(self, place: str, chunk: list[int], results: list[Any], seconds: float) -> None:
        self._found |= zip(chunk, results, strict=True)
        self._pace = max(seconds / len(chunk), 1e-4)
        clips = sum(_clips(self._items[number]) for number in chunk)
        self._clips[place] += clips
        self._busy[place] = self._busy.get(place, 0.0) + seconds
        self._bar.set_postfix_str(self._use(), refresh=False)
        self._bar.update(clips)

    def _bury(self, worker: _Hired, chunk: list[int], error: Exception) -> None:
        """Its items are done again one by one, so that only what kills its worker each time fails."""
        if not worker.place:
            self._stillborn += 1
            alone = not self._idle and not any(other.place for other, _ in self._under_way.values())
            if getattr(error, "actor_init_failed", False) or (alone and self._stillborn >= _TRIES):
                raise InputError(f"a worker can't start: {_last_line(error)}")
        for place in chunk:
            self._deaths[place] += len(chunk) == 1
            if self._deaths[place] < _TRIES:
                self._again.append(place)
            else:
                self._found[place] = Failure(f"its worker died {_TRIES} times: {self._causes}")
                self._bar.update(_clips(self._items[place]))

    def _tell(self, lost: Counter[str]) -> None:
        for place, items in lost.items():
            if place:
                text = f"{self._description}: a worker on {place} died; run again: {items} clips"
                tqdm.write(text, file=sys.stderr)

    def _use(self) -> str:
        """Clips of each node or GPU and how many of its workers were busy on average; of many, the range."""
        elapsed = time.monotonic() - self._began
        if len(self._clips) > _NODES_SHOWN:
            fewest, most = min(self._clips.values()), max(self._clips.values())
            return (
                f"{len(self._clips)} places, {fewest}-{most} clips each, {sum(self._busy.values()) / elapsed:.1f} busy"
            )
        return ", ".join(f"{p} {self._clips[p]} ({self._busy[p] / elapsed:.1f} busy)" for p in sorted(self._clips))


def _last_line(error: Exception) -> str:
    lines = str(error).strip().splitlines()
    return lines[-1].strip() if lines else type(error).__name__
