import errno
import os
import threading
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import pytest
import torch

from avs.core import execute
from avs.core.errors import InputError
from avs.core.execute import ExecutionParams, Failure, ahead, map_items, running, torch_device
from avs.core.params import build


def square(x: int) -> int:
    if x == 3:
        raise InputError("three is not for us")
    if x == 4:
        raise ZeroDivisionError("four")
    return x * x


def die_on_two(x: int) -> int:
    if x == 2:
        os._exit(1)
    return -x


@pytest.mark.parametrize("execution", [ExecutionParams(workers=2), ExecutionParams(backend="inline")])
def test_results_keep_their_order_and_failures_their_reason(execution: ExecutionParams) -> None:
    results = map_items(square, range(6), execution, "square")
    assert results == [0, 1, 4, Failure("three is not for us"), Failure("ZeroDivisionError: four"), 25]


def test_an_item_that_kills_its_worker_fails_alone() -> None:
    results = map_items(die_on_two, range(5), ExecutionParams(workers=2), "die")
    assert results[:2] + results[3:] == [0, -1, -3, -4]
    assert isinstance(results[2], Failure)
    assert "worker process died" in results[2].reason


def take_time(x: int) -> int:
    if x == 1:
        threading.Event().wait()
    return x


def test_an_item_that_hangs_fails_alone() -> None:
    results = map_items(take_time, range(3), ExecutionParams(workers=2, timeout=2), "hang")
    assert results[0] == 0
    assert results[2] == 2
    assert isinstance(results[1], Failure)
    assert "more than 2 s (execution.timeout)" in results[1].reason


def find_the_disk_full(x: int) -> int:
    raise OSError(errno.ENOSPC, "No space left on device", "there")


@pytest.mark.parametrize("execution", [ExecutionParams(workers=2), ExecutionParams(backend="inline")])
def test_a_full_disk_is_no_fault_of_a_clip(execution: ExecutionParams) -> None:
    with pytest.raises(OSError, match="No space left on device: 'there'"):
        map_items(find_the_disk_full, range(3), execution, "full")


def test_without_shared_memory_the_way_out_is_told(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(execute, "ProcessPoolExecutor", lambda *_, **__: find_the_disk_full(0))
    with pytest.raises(InputError, match=r"/dev/shm.*--shm-size"):
        map_items(square, range(2), ExecutionParams(workers=2), "square")


def leave_a_mark(folder: Path) -> None:
    (folder / str(len(list(folder.iterdir())))).touch()


def test_an_item_without_a_result_is_done_once(tmp_path: Path) -> None:
    folders = [tmp_path / str(number) for number in range(4)]
    for folder in folders:
        folder.mkdir()
    assert map_items(leave_a_mark, folders, ExecutionParams(workers=2), "mark") == [None] * 4
    assert [len(list(folder.iterdir())) for folder in folders] == [1] * 4


def test_nothing_to_do_starts_nothing() -> None:
    assert map_items(die_on_two, [], ExecutionParams(workers=2), "die") == []


def test_an_error_waits_for_no_work() -> None:
    release = threading.Event()
    pool = ThreadPoolExecutor(1)
    stuck, queued = pool.submit(release.wait), pool.submit(release.wait)
    with pytest.raises(ZeroDivisionError), running(pool):
        raise ZeroDivisionError
    assert not stuck.done()
    assert queued.cancelled()
    release.set()


def test_auto_workers_are_the_cores_that_may_be_used(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("joblib.cpu_count", lambda: 3)
    assert ExecutionParams().num_workers() == 3
    assert ExecutionParams(workers=5).num_workers() == 5


@pytest.mark.parametrize(
    ("build", "advice"), [(None, "is built for CPUs only: install its CUDA build"), ("13.0", "with --gpus all")]
)
def test_a_missing_gpu_comes_with_the_way_out(build: str | None, advice: str, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("torch.version.cuda", build)
    monkeypatch.setattr("torch.cuda.is_available", lambda: False)
    monkeypatch.setattr("torch.cuda.device_count", lambda: 0)
    with pytest.raises(InputError, match=rf"device \('cuda:1'\) is not here: .*{advice}"):
        torch_device("cuda:1")


def test_work_ahead_is_bounded_and_its_errors_come_out() -> None:
    begun: list[int] = []

    def make(x: int) -> int:
        begun.append(x)
        return square(x)

    work = ahead(make, range(10))
    assert [next(work) for _ in range(3)] == [0, 1, 4]
    assert len(begun) <= 5
    with pytest.raises(InputError, match="three is not for us"):
        next(work)
    assert list(ahead(make, ())) == []


def test_workers_must_be_positive() -> None:
    with pytest.raises(ValueError, match=r"workers \(0\) must be >= 1"):
        ExecutionParams(workers=0)


def test_devices_are_one_or_a_list() -> None:
    assert build(ExecutionParams, {"devices": "cuda:1"}, "params").device_names() == ["cuda:1"]
    assert build(ExecutionParams, {"devices": ["cuda:0", "cuda:1"]}, "params").device_names() == ["cuda:0", "cuda:1"]
    with pytest.raises(InputError, match=r"devices .* must be auto, a device or a list of devices"):
        build(ExecutionParams, {"devices": []}, "params")


def test_devices_must_be_here_and_of_one_kind(monkeypatch: pytest.MonkeyPatch) -> None:
    ExecutionParams(devices=("cpu", "cpu")).check_devices()
    with pytest.raises(InputError, match=r"device \('gpu0'\) must be auto, cpu, cuda or cuda:N"):
        ExecutionParams(devices=("cpu", "gpu0")).check_devices()
    monkeypatch.setattr(execute, "torch_device", torch.device)
    with pytest.raises(InputError, match=r"execution.devices \(cpu, cuda:0\) must be of one kind"):
        ExecutionParams(devices=("cpu", "cuda:0")).check_devices()
