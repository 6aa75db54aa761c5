"""Ray: the bytes of a local run, the deaths of workers and nodes, and mistakes that are told before any work."""

import os
import re
import signal
import subprocess
import sys
import threading
import time
from collections import Counter
from collections.abc import Iterator
from dataclasses import replace
from functools import partial
from pathlib import Path
from typing import Any

import pytest
import yaml
from cluster_items import hang_on_two, leave_a_mark, square
from speech_clips import write_speech

from avs.audio.eventness import EventnessParams
from avs.audio.scoring import score_clips
from avs.core import cluster
from avs.core.clips import Clip, Failed, write_table
from avs.core.errors import InputError
from avs.core.execute import ExecutionParams, Failure, Job, map_items, save_all
from avs.core.store import sha256_file
from avs.lips.cache import muse_precompute
from avs.lips.features import MuseParams
from avs.preprocess import preprocess
from avs.vision.cache import CacheParams, cache_features

ROOT = Path(__file__).resolve().parents[1]
HERE = ExecutionParams(workers=2, devices="cpu")
LOCAL_RAY = replace(HERE, backend="ray")
try:
    import ray
    from ray.cluster_utils import Cluster
except ImportError:
    ray = None
needs_ray = pytest.mark.skipif(ray is None, reason="Ray is not installed (pip install ray)")


@pytest.fixture(scope="module")
def nodes() -> Iterator[Any]:
    """A head without cores, and two nodes of one core each, all on this machine."""
    if ray is None:
        pytest.skip("Ray is not installed (pip install ray)")
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("RAY_USAGE_STATS_ENABLED", "0")
        patch.setenv("RAY_raylet_start_wait_time_s", "60")
        cores: dict[str, Any] = {"num_cpus": 1, "num_gpus": 0, "object_store_memory": 100 * 2**20}
        made = Cluster(initialize_head=True, head_node_args=cores | {"num_cpus": 0, "include_dashboard": False})
        for _ in range(2):
            made.add_node(**cores)
        yield made
        made.shutdown()


@pytest.fixture
def execution(nodes: Any) -> ExecutionParams:
    return ExecutionParams(backend="ray", address=nodes.address, devices="cpu")


def contents(folder: Path) -> dict[str, bytes]:
    return {str(path.relative_to(folder)): path.read_bytes() for path in folder.rglob("*") if path.is_file()}


def installed(videos: Path) -> list[Clip]:
    return [
        Clip(f"{i}-v{i}", "test", "tone", 1, 2, 3, path.name, sha256_file(path))
        for i, path in enumerate(sorted(videos.iterdir()))
    ]


def prepared(videos: Path, out: Path, execution: ExecutionParams) -> Path:
    _, failed, computed = preprocess(installed(videos), videos, out, execution)
    assert (failed, computed) == ([], 6)
    write_table(out / "failures.tsv", [], Failed)
    return out


@needs_ray
def test_a_ray_of_our_own_gives_the_bytes_of_a_local_run(
    tiny_videos: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    outs = []
    for name, execution in {"here": HERE, "ray": LOCAL_RAY}.items():
        monkeypatch.setenv("AVS_STORE", str(tmp_path / f"store-{name}"))
        media = prepared(tiny_videos, tmp_path / name / "media", execution)
        counts = cache_features(media, tmp_path / name / "cache", (32, 64), CacheParams(weights="random"), execution)
        assert counts == {"clips": 6, "computed": 12}
        outs.append(contents(tmp_path / name))
    assert outs[0] == outs[1]
    assert not list(tmp_path.rglob(".partial-*"))


def test_eventness_and_lips_on_a_cluster_give_the_bytes_of_a_local_run(
    execution: ExecutionParams, tiny_videos: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    media = prepared(tiny_videos, tmp_path / "media", HERE)
    speech = write_speech(tmp_path / "speech", {"a": 3, "b": 7, "c": 1, "d": 5})
    outs = []
    for name, how in {"here": HERE, "ray": execution}.items():
        monkeypatch.setenv("AVS_STORE", str(tmp_path / f"store-{name}"))
        out = tmp_path / name
        panns = EventnessParams("energy+panns", weights="random", window=1.0)
        assert score_clips(media, out / "eventness", panns, how)["computed"] == 6
        assert muse_precompute(speech, out / "muse", MuseParams(), how) == {"clips": 4, "frames": 16, "computed": 4}
        outs.append(contents(out))
    assert outs[0] == outs[1]


def test_an_item_that_kills_its_workers_fails_alone(execution: ExecutionParams, capfd: pytest.CaptureFixture) -> None:
    results = map_items(square, range(40), execution, "square")
    died = "its worker died 3 times: out of memory, a fault in a decoder, or more than 3600 s (execution.timeout)"
    failures = {3: Failure("three is not for us"), 5: Failure(died)}
    assert results == [failures.get(x, x * x) for x in range(40)]
    printed, said = capfd.readouterr()
    assert printed == ""
    assert all(line.startswith("square: a worker on ") for line in said.splitlines())
    with pytest.raises(InputError, match=r"square: 1 of 4 failed, first clip-3: three is not for us"):
        save_all(square, [Job((f"clip-{x}",), x) for x in range(1, 5)], execution, "square")


def test_an_item_that_hangs_fails_alone(execution: ExecutionParams, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(cluster, "_TRIES", 1)
    hung, *others = map_items(hang_on_two, [2, 3, 4], replace(execution, timeout=2), "hang")
    assert others == [3, 4]
    assert isinstance(hung, Failure)
    assert "more than 2 s (execution.timeout)" in hung.reason


def test_the_death_of_a_node_costs_only_what_it_had_in_hand(
    nodes: Any, execution: ExecutionParams, tmp_path: Path
) -> None:
    victim = nodes.add_node(num_cpus=1, num_gpus=0, object_store_memory=100 * 2**20)
    marks = tmp_path / "marks"
    marks.mkdir()

    def kill() -> None:
        while not (marks / "doomed").exists():
            threading.Event().wait(0.01)
        nodes.remove_node(victim, allow_graceful=False)

    killer = threading.Thread(target=kill)
    killer.start()
    results = map_items(partial(leave_a_mark, marks, victim.node_id), range(60), execution, "mark")
    killer.join()
    assert results == [-item for item in range(60)]
    runs = Counter(path.name.partition(".")[0] for path in marks.iterdir() if path.name != "doomed")
    assert sorted(runs.values()) == [1] * 59 + [2]


def test_a_node_that_differs_is_named(
    execution: ExecutionParams, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    theirs = cluster._software()
    monkeypatch.setattr(cluster, "_software", lambda: theirs | {"torch": "9.9"})
    with pytest.raises(
        InputError, match=rf"node \S+:\w+ has torch {re.escape(theirs['torch'])}, not 9.9: all nodes need the same"
    ):
        map_items(square, [1, 2], execution, "square")


def test_a_node_needs_the_same_folders(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    (tmp_path / "videos").mkdir()
    with cluster._marked(partial(leave_a_mark, Path("videos"), "")) as here:
        assert here.problem() == ""
        (tmp_path / "videos").rename(tmp_path / "elsewhere")
        assert here.problem() == "has no videos: all nodes need it at this path"
        for mark in here.marks:
            assert f"does not see {Path(mark).parent}" in replace(here, marks=(f"{mark}x",)).problem()
    assert not list(tmp_path.rglob(".partial-*"))


def test_without_ray_the_way_out_is_told(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(sys.modules, "ray", None)
    with pytest.raises(InputError, match=r"needs Ray \(run: pip install (ray==\S+)\)") as told:
        map_items(square, [1, 2], LOCAL_RAY, "square")
    assert f'"{str(told.value).split()[-1][:-1]}"' in (ROOT / "pyproject.toml").read_text()
    assert map_items(square, [], LOCAL_RAY, "square") == []


@needs_ray
@pytest.mark.parametrize(
    ("address", "reason"),
    [
        ("127.0.0.1:1", "no Ray answers there: .*refused"),
        ("ray://127.0.0.1:1", "no Ray answers there: .*refused"),
        ("somewhere", "must be auto, HOST:PORT or ray://HOST:PORT"),
    ],
)
def test_an_address_where_nobody_answers(address: str, reason: str) -> None:
    with pytest.raises(InputError, match=rf"execution.address \({address}\).*{reason}"):
        map_items(square, [1, 2], replace(LOCAL_RAY, address=address), "square")


@needs_ray
def test_a_cluster_that_has_ended_is_told_too(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("RAY_ADDRESS", "127.0.0.1:1")
    with pytest.raises(InputError, match=r"execution.address \(\S+:1\): no Ray answers there"):
        map_items(square, [1, 2], replace(LOCAL_RAY, address="auto"), "square")


def test_an_address_needs_ray() -> None:
    with pytest.raises(ValueError, match=r"address \(auto\) needs backend: ray"):
        ExecutionParams(address="auto")


def test_what_a_worker_takes_of_a_node() -> None:
    small, large = {"CPU": 4.0}, {"CPU": 32.0, "GPU": 4.0}
    one = cluster._needs([small, large], None, None)
    assert (one.cpus, one.gpus, one.places([small, large])) == (1, 0, 36)
    wide = cluster._needs([small, large], "cpu", None)
    assert (wide.cpus, wide.gpus, wide.places([small, large])) == (4, 0, 9)
    gpu = cluster._needs([small, large], "cuda", None)
    assert (gpu.cpus, gpu.gpus, gpu.places([small, large])) == (8, 1, 4)
    with pytest.raises(InputError, match=r"execution.address \(auto\): no node of this Ray has a GPU"):
        cluster._needs([small], "cuda", "auto")


STUCK = """
import threading

from avs.core.execute import map_items
from stages import run


def wait(item):
    open(f"at-work-{item}", "x")
    threading.Event().wait()


def main(config):
    map_items(wait, [1, 2], config.execution, "stuck")


if __name__ == "__main__":
    run(main)
"""


@needs_ray
def test_a_stop_leaves_no_process_behind(tmp_path: Path) -> None:
    """Ctrl-C goes to all processes of a terminal."""
    params = yaml.safe_load((ROOT / "params.yaml").read_text())
    params["execution"] |= {"backend": "ray", "workers": 2, "devices": "cpu"}
    (tmp_path / "params.yaml").write_text(yaml.safe_dump(params))
    (tmp_path / "stuck.py").write_text(STUCK)
    process = subprocess.Popen(
        [sys.executable, "-m", "stuck"],
        cwd=tmp_path,
        env=os.environ | {"PYTHONPATH": f"{ROOT}:{tmp_path}"},
        stderr=subprocess.PIPE,
        text=True,
        start_new_session=True,
        preexec_fn=partial(signal.signal, signal.SIGINT, signal.SIG_DFL),
    )
    with process:
        while len(list(tmp_path.glob("at-work-*"))) < 2:
            assert process.poll() is None
            threading.Event().wait(0.05)
        os.killpg(process.pid, signal.SIGINT)
        _, said = process.communicate(timeout=30)
    assert process.returncode == 130
    assert said == "stuck: stopped; the same command goes on from here\n"
    deadline = time.monotonic() + 30
    while left := living(process.pid):
        assert time.monotonic() < deadline, left


def living(session: int) -> list[str]:
    """The processes of a session."""
    found = subprocess.run(["ps", "-s", str(session), "-o", "stat=,args="], capture_output=True, text=True, check=False)
    return [line for line in found.stdout.splitlines() if not line.startswith("Z")]
