"""How a stage begins and ends: wrong settings first, and a stop that is quick and quiet."""

import shutil
import signal
import subprocess
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from functools import partial
from pathlib import Path

import pytest
import torch

ROOT = Path(__file__).resolve().parents[1]
# Waits for ever in a thread and in a worker, which is where stages spend their time.
STUCK = """
import threading
from concurrent.futures import ThreadPoolExecutor

from avs.core.execute import ExecutionParams, map_items, running
from stages import run


def wait(item):
    if item:  # in a worker
        print("at work", flush=True)
    threading.Event().wait()


def main(config):
    with running(ThreadPoolExecutor(1)) as pool:
        pool.submit(wait, None)
        map_items(wait, [1, 2], ExecutionParams(workers=2), "stuck")


if __name__ == "__main__":
    run(main)
"""

LACKING = """
import errno

from stages import run

error = {error}
{at_once}


def main(config):
    raise error


if __name__ == "__main__":
    run(main)
"""


@pytest.fixture
def stage(tmp_path: Path) -> Path:
    """A folder with parameters and the stage `stuck.py`."""
    shutil.copy2(ROOT / "params.yaml", tmp_path)
    (tmp_path / "stuck.py").write_text(STUCK)
    return tmp_path


@contextmanager
def started(folder: Path) -> Iterator[subprocess.Popen[str]]:
    """The stage at work. Where the tests run in the background, SIGINT is ignored; the stage gets it as usual."""
    process = subprocess.Popen(
        [sys.executable, "-m", "stuck"],
        cwd=folder,
        env={"PYTHONPATH": f"{ROOT}:{folder}", "PATH": "", "AVS_STORE": str(folder / "store")},
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
        preexec_fn=partial(signal.signal, signal.SIGINT, signal.SIG_DFL),
    )
    with process:
        try:
            yield process
        finally:
            process.kill()


@pytest.mark.parametrize("number", [signal.SIGINT, signal.SIGTERM])
def test_a_signal_stops_it_at_once(stage: Path, number: signal.Signals) -> None:
    with started(stage) as process:
        assert process.stdout is not None
        assert [process.stdout.readline() for _ in range(2)] == ["at work\n"] * 2
        process.send_signal(number)
        _, said = process.communicate(timeout=60)
    assert process.returncode == 130
    assert said == "stuck: stopped; the same command goes on from here\n"
    assert not (stage / "results").exists()


def test_a_stop_while_it_still_imports_is_one_line(stage: Path) -> None:
    (stage / "stuck.py").write_text("import stages\n\nraise KeyboardInterrupt\n")
    with started(stage) as process:
        _, said = process.communicate(timeout=60)
    assert process.returncode != 0
    assert said == "stuck: stopped before it began\n"


def test_it_stops_though_nobody_listens(stage: Path) -> None:
    with started(stage) as process:
        assert process.stdout is not None
        assert process.stderr is not None
        assert [process.stdout.readline() for _ in range(2)] == ["at work\n"] * 2
        process.stderr.close()
        process.terminate()
        assert process.wait(timeout=60) == 130


@pytest.mark.skipif(torch.cuda.is_available(), reason="a CUDA device is here")
def test_a_missing_device_is_told_before_any_work(stage: Path) -> None:
    params = stage / "params.yaml"
    params.write_text(params.read_text().replace("devices: auto", "devices: cuda"))
    with started(stage) as process:
        printed, said = process.communicate(timeout=60)
    assert (process.returncode, printed) == (1, "")
    assert said.startswith("stuck: error: device ('cuda') is not here: ")


@pytest.mark.parametrize(
    ("error", "said"),
    [
        ('MemoryError("Unable to allocate 9 TiB")', "out of memory (Unable to allocate 9 TiB): give it more"),
        ('RuntimeError("DefaultCPUAllocator: can\'t allocate memory")', "out of memory (DefaultCPUAllocator: can't"),
        ('OSError(errno.ENOSPC, "No space left", "there")', "[Errno 28] No space left: 'there' (mended, the same"),
    ],
)
def test_what_a_machine_lacks_is_one_line(stage: Path, error: str, said: str) -> None:
    (stage / "stuck.py").write_text(LACKING.format(error=error, at_once=""))
    with started(stage) as process:
        printed, told = process.communicate(timeout=60)
    assert (process.returncode, printed) == (1, "")
    assert told.startswith(f"stuck: error: {said}")
    assert told.count("\n") == 1


def test_too_little_memory_to_import_is_one_line_too(stage: Path) -> None:
    text = LACKING.format(
        error='ImportError("lib.so: failed to map segment from shared object")', at_once="raise error"
    )
    (stage / "stuck.py").write_text(text)
    with started(stage) as process:
        _, told = process.communicate(timeout=60)
    assert process.returncode == 1
    assert told.startswith("stuck: error: out of memory (lib.so: failed to map segment from shared object): give it")


def test_other_mistakes_keep_their_trace(stage: Path) -> None:
    (stage / "stuck.py").write_text(LACKING.format(error='RuntimeError("of the code")', at_once=""))
    with started(stage) as process:
        _, told = process.communicate(timeout=60)
    assert process.returncode == 1
    assert "Traceback" in told
    assert "of the code" in told
