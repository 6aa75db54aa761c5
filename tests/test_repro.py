"""The whole DAG through DVC, on a few generated clips, in a clone of its own."""

import json
import os
import shutil
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest

from avs.core.media import write_media
from benchmarks.speed.clone import set_params

ROOT = Path(__file__).resolve().parents[1]
SMALL = {
    "data.demo.train": 12,
    "data.demo.val": 2,
    "data.demo.test": 6,
    "speech_data.demo.train": 3,
    "speech_data.demo.val": 1,
    "speech_data.demo.test": 2,
    "avsr.max_steps": 1,
    "avsr.conditions": ["clean", "talker_0"],
    "avsr.voices": 1,
    "budget.low_res": 32,
    "budget.base_res": 64,
    "budget.high_res": 128,
    "p0.seeds": 2,
    "p0.epochs": 2,
    "p0.resamples": 200,
    "cache.weights": "random",
    "data.local.seconds": 6,
    "data.local.annotations": "rows.tsv",
    "data.local.videos": "mine",
}

BOTH = [f"{stage}@{data}" for stage in ("install", "preprocess") for data in ("clips", "speech")]

pytestmark = [pytest.mark.dag, pytest.mark.skipif(not shutil.which("git"), reason="git is not installed")]


def own_videos(folder: Path) -> None:
    """Eight videos of 6 s, and their rows."""
    (folder / "mine").mkdir()
    rows = ["video\tlabel\tstart\tend\tsplit"]
    for number in range(8):
        rng = np.random.default_rng(number)
        sound = np.rint(rng.normal(0, 1, (6, 16000)) * rng.uniform(30, 3000, (6, 1))).astype(np.int16).reshape(-1)
        write_media(folder / f"mine/{number}.mp4", rng.integers(0, 255, (6, 32, 32, 3), dtype=np.uint8), 1, sound)
        rows.append(f"{number}.mp4\t{'ab'[number % 2]}\t1\t4\t{'train' if number < 5 else 'test'}")
    (folder / "rows.tsv").write_text("\n".join(rows))


class Clone:
    """A clone with small parameters and videos of one's own; `run` runs a command in it and returns what it printed."""

    def __init__(self, folder: Path) -> None:
        self.folder = folder
        files = subprocess.run(["git", "ls-files"], cwd=ROOT, capture_output=True, text=True, check=True).stdout
        for name in files.splitlines():
            if (ROOT / name).is_file() and not name.startswith(("results/", "dvc.lock")):
                (folder / name).parent.mkdir(parents=True, exist_ok=True)
                shutil.copy2(ROOT / name, folder / name)
        self.run("git", "init", "-q")
        self.run("git", "config", "user.email", "test@example.org")
        self.run("git", "config", "user.name", "test")
        self.set(**SMALL)
        own_videos(folder)
        self.commit("start")

    def run(self, *command: str, ok: bool = True) -> str:
        path = f"{Path(sys.executable).parent}{os.pathsep}{os.environ['PATH']}"
        environment = os.environ | {"PATH": path, "DVC_NO_ANALYTICS": "1"}
        done = subprocess.run(
            command, cwd=self.folder, env=environment, stdout=subprocess.PIPE, stderr=subprocess.STDOUT, text=True
        )
        assert (done.returncode == 0) == ok, done.stdout
        return done.stdout

    def set(self, **values: object) -> None:
        """Change params.yaml as `dvc exp run -S` would, comments and all lost."""
        set_params(self.folder / "params.yaml", values)

    def commit(self, message: str) -> None:
        self.run("git", "add", "-A")
        self.run("git", "commit", "-qm", message)

    def stages(self, *command: str) -> list[str]:
        """The stages that a command ran."""
        return [line.split("'")[1] for line in self.run(*command).splitlines() if line.startswith("Running stage")]


@pytest.fixture(scope="module")
def clone(tmp_path_factory: pytest.TempPathFactory) -> Clone:
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("AVS_STORE", str(tmp_path_factory.mktemp("store")))
        clone = Clone(tmp_path_factory.mktemp("clone"))
        clone.everything = clone.stages("dvc", "repro")  # type: ignore[attr-defined]
        clone.commit("results")
        yield clone


@pytest.fixture(autouse=True)
def _shared_store(clone: Clone, monkeypatch: pytest.MonkeyPatch) -> None:
    """All tests here use the store of the first run."""
    monkeypatch.setenv("AVS_STORE", str(next(clone.folder.parent.glob("store*"))))


def test_one_command_rebuilds_everything(clone: Clone) -> None:
    clips = ["anchor_eval", "cache", "eventness", "p0", "report@avs"]
    everything = [*clips, *BOTH, "avsr_train", "muse_precompute", "report@avsr"]
    assert sorted(clone.everything) == sorted(everything)  # type: ignore[attr-defined]
    metrics = json.loads((clone.folder / "results/p0/metrics.json").read_text())
    assert (metrics["clips"], metrics["seeds"]) == (6, 2)
    assert json.loads((clone.folder / "results/avsr/metrics.json").read_text())["clips"] == 2
    assert clone.run("git", "status", "--porcelain") == ""


def test_a_second_run_does_nothing(clone: Clone) -> None:
    assert clone.stages("dvc", "repro") == []


def test_k_reruns_the_last_stages_only(clone: Clone) -> None:
    ran = clone.stages("dvc", "exp", "run", "-S", "k=1")
    assert sorted(ran) == ["anchor_eval", "p0", "report@avs"]
    pages = clone.run("python", "-m", "avs", "report", "--against", "HEAD").split()
    assert pages == ["results/report/against/index.html", "results/report/avsr/index.html"]
    text = (clone.folder / pages[0]).read_text()
    assert "Clips whose answers changed most" in text  # from DVC's cache
    assert "not in DVC" not in text
    assert "Running stage" not in clone.run("dvc", "repro", "report@avs")  # the page that the stage made is as it was
    assert "k" in clone.run("dvc", "params", "diff")
    assert "arms.anchored_topk.accuracy.mean" in clone.run("dvc", "metrics", "diff", "--all")
    back = clone.run("dvc", "exp", "run", "-S", "k=2")
    assert "Running stage" not in back
    clone.run("git", "checkout", "-q", ".")


def test_speech_and_clips_leave_each_other_alone(clone: Clone) -> None:
    """The other way round is in the next test: another data set of clips runs none of speech."""
    (clone.folder / "data/speech_manifest/videos/new.mp4").write_bytes(b"new")
    ran = clone.stages("dvc", "exp", "run", "-S", "speech_data.demo.test=3")
    assert ran == ["install@speech", "preprocess@speech", "muse_precompute", "avsr_train", "report@avsr"]
    (clone.folder / "data/speech_manifest/videos/new.mp4").unlink()
    clone.run("git", "checkout", "-q", ".")
    clone.run("dvc", "checkout", "-q")


def test_another_data_set_and_back_computes_nothing(clone: Clone) -> None:
    """Six-second clips of one's own go through all stages; then the demo is there again at once."""
    before = (clone.folder / "results/p0/metrics.json").read_text()
    assert len(clone.stages("dvc", "exp", "run", "-S", "dataset=local")) == 7
    assert json.loads((clone.folder / "results/p0/metrics.json").read_text())["clips"] == 3
    assert clone.stages("dvc", "exp", "run", "-S", "dataset=demo", "-S", "data.local.val_fraction=0.2") == []
    assert (clone.folder / "results/p0/metrics.json").read_text() == before
    # another data set's inputs have changed: the clip table is made again, and is the same
    (clone.folder / "mine/new.mp4").write_bytes(b"new")
    assert clone.stages("dvc", "repro") == ["install@clips"]
    (clone.folder / "mine/new.mp4").unlink()
    clone.run("git", "checkout", "-q", ".")
    clone.run("dvc", "checkout", "-q")


def test_mistakes_are_told_before_any_work(clone: Clone) -> None:
    for change, message in [
        ("p0.head=mpl", "p0.head ('mpl'): input should be 'mlp' or 'temporal_conv'"),
        ("k=-1", "k (-1) must be >= 0"),
        ("budget.high_res=336", "nearest that can"),
    ]:
        said = clone.run("dvc", "exp", "run", "-S", change, ok=False)
        assert message in said
        assert "Traceback" not in said
        clone.run("git", "checkout", "-q", ".")
        clone.run("dvc", "checkout", "-q")


def test_plots_are_drawn(clone: Clone) -> None:
    clone.run("dvc", "plots", "show", "-o", "plots_page")
    page = (clone.folder / "plots_page/index.html").read_text()
    for title in (
        "Accuracy by arm",
        "Recall against tolerance",
        "Accuracy against tokens",
        "Accuracy against GFLOP",
        "Accuracy by budget",
        "Contrasts in accuracy",
    ):
        assert title in page
    shutil.rmtree(clone.folder / "plots_page")
