"""Looks at the test split: counted in small repositories of their own, with DVC's experiments and without."""

import json
import os
import shutil
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest
import yaml

from avs.report.looks import METRICS, _ask, _Unknown, count_looks

pytestmark = pytest.mark.skipif(not shutil.which("git"), reason="git is not installed")

PARAMS: dict[str, Any] = {
    "k": 2,
    "dataset": "demo",
    "data": {"demo": {"seed": 0}, "local": {"seconds": 10}},
    "p0": {"eval_splits": ["test"]},
}
P0 = """
import json, pathlib, yaml
out = pathlib.Path("results/p0"); out.mkdir(parents=True, exist_ok=True)
k = yaml.safe_load(open("params.yaml"))["k"]
(out / "metrics.json").write_text(json.dumps({"arms": {"uniform": {"accuracy": {"mean": k / 10}}}}))
"""


class Repository:
    """A clone in which runs are made up (`look`) or really made (`dvc`)."""

    def __init__(self, folder: Path) -> None:
        self.folder = folder
        self.git("init", "-q", "-b", "main")
        self.git("config", "user.email", "test@example.org")
        self.git("config", "user.name", "test")

    def git(self, *command: str) -> str:
        done = subprocess.run(["git", *command], cwd=self.folder, check=True, capture_output=True, text=True)
        return done.stdout

    def dvc(self, *command: str) -> None:
        environment = os.environ | {"DVC_NO_ANALYTICS": "1"}
        run = [sys.executable, "-m", "dvc", *command]
        done = subprocess.run(run, cwd=self.folder, env=environment, capture_output=True, text=True)
        assert done.returncode == 0, done.stdout + done.stderr

    def commit(self) -> None:
        self.git("add", "-A")
        self.git("commit", "-qm", "results")

    def look(self, accuracy: float, **change: Any) -> None:
        """Commit the results and the lock of a run with such parameters."""
        params = {"k": 2, "dataset": "demo", "data.demo.seed": 0, "p0.eval_splits": ["test"]} | change
        data = {name: value for name, value in params.items() if name.startswith("data")}
        parts = {"install@clips": data, "p0": {name: params[name] for name in params.keys() - data.keys()}}
        stages = {stage: {"cmd": "true", "params": {"params.yaml": part}} for stage, part in parts.items()}
        stages |= {name: {"cmd": "true"} for name in ("preprocess@clips", "eventness", "cache")}
        (self.folder / "dvc.lock").write_text(yaml.safe_dump({"schema": "2.0", "stages": stages}))
        (self.folder / METRICS).parent.mkdir(parents=True, exist_ok=True)
        (self.folder / METRICS).write_text(json.dumps({"arms": {"uniform": {"accuracy": {"mean": accuracy}}}}))
        self.commit()


@pytest.fixture
def repository(tmp_path: Path) -> Repository:
    (tmp_path / "clone").mkdir()
    return Repository(tmp_path / "clone")


def counts(repository: Repository) -> tuple[int | None, int | None, int | None]:
    looks = count_looks(repository.folder)
    return looks.commits, looks.experiments, looks.settings


def test_commits_that_changed_results_on_test_are_looks(repository: Repository) -> None:
    repository.look(0.5)
    assert counts(repository) == (1, 0, 1)
    (repository.folder / "README").write_text("nothing new")
    repository.commit()
    repository.look(0.6, **{"p0.eval_splits": ["val"]})
    repository.look(0.7, dataset="local")
    repository.look(0.8, k=3)
    assert counts(repository) == (2, 0, 2)
    repository.look(0.52)
    looks = count_looks(repository.folder)
    assert (looks.commits, looks.settings, sorted(looks.baseline)) == (3, 2, [0.5, 0.52])
    assert "3 commits and 0 experiments, with 2 settings" in looks.text
    assert "choose on val" in looks.text
    assert "from 0.500 to 0.520" in looks.text


def test_other_branches_count(repository: Repository) -> None:
    repository.look(0.5)
    repository.git("checkout", "-qb", "try")
    repository.look(0.6, k=4)
    repository.git("checkout", "-q", "main")
    assert counts(repository) == (2, 0, 2)


def test_a_parameter_that_came_later_makes_no_other_setting(repository: Repository) -> None:
    repository.look(0.5)
    repository.look(0.51, **{"p0.new": 1})
    repository.look(0.52, **{"p0.new": 2})
    assert counts(repository) == (3, 0, 2)


def test_commits_without_results_are_passed_over(repository: Repository) -> None:
    repository.look(0.5)
    lock = (repository.folder / "dvc.lock").read_text()
    (repository.folder / METRICS).unlink()
    repository.commit()
    (repository.folder / METRICS).write_text("not JSON")
    (repository.folder / "dvc.lock").write_text("[not, a, lock")
    repository.commit()
    (repository.folder / "dvc.lock").write_text(lock)
    assert counts(repository) == (1, 0, 1)


def test_what_is_unknown_is_said(repository: Repository, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    assert "unknown (dvc.lock is not there" in count_looks(repository.folder).text
    repository.look(0.5)
    outside = tmp_path / "outside"
    outside.mkdir()
    shutil.copy(repository.folder / "dvc.lock", outside)
    monkeypatch.setenv("GIT_CEILING_DIRECTORIES", str(tmp_path))
    looks = count_looks(outside)
    assert (looks.commits, looks.experiments, looks.settings) == (None, None, None)
    assert "not a git repository" in looks.text
    monkeypatch.setenv("PATH", str(outside))
    assert "unknown (git: No such file" in count_looks(repository.folder).text


def test_a_shallow_clone_knows_the_least(repository: Repository, tmp_path: Path) -> None:
    repository.look(0.5)
    repository.look(0.6, k=3)
    repository.git("clone", "-q", "--depth", "1", f"file://{repository.folder}", str(tmp_path / "shallow"))
    looks = count_looks(tmp_path / "shallow")
    assert looks.commits == 1
    assert "at least 1 commit and 0 experiments" in looks.text


def test_a_question_is_asked_no_longer_than_allowed(tmp_path: Path) -> None:
    with pytest.raises(_Unknown, match=r"dvc took more than 0\.05 s"):
        _ask(tmp_path, 0.05, sys.executable, "-c", "while True: pass", "dvc")


@pytest.mark.dag
def test_experiments_count_where_dvc_can_tell(repository: Repository, monkeypatch: pytest.MonkeyPatch) -> None:
    """One experiment on test, from a commit before the last, and one on val; then DVC is gone."""
    stages: dict[str, Any] = {
        name: {"foreach": ["clips"], "do": {"cmd": "true", "params": ["dataset", "data.${dataset}"]}}
        for name in ("install", "preprocess")
    }
    stages |= {name: {"cmd": "true", "params": ["dataset"]} for name in ("eventness", "cache")}
    stages["p0"] = {"cmd": f"{sys.executable} p0.py", "deps": ["p0.py"], "params": ["k", "p0.eval_splits"]}
    stages["p0"]["metrics"] = [{METRICS: {"cache": False}}]
    (repository.folder / "dvc.yaml").write_text(yaml.safe_dump({"stages": stages}))
    (repository.folder / "params.yaml").write_text(yaml.safe_dump(PARAMS))
    (repository.folder / "p0.py").write_text(P0)
    repository.dvc("init", "-q")
    repository.dvc("repro", "-q")
    repository.commit()
    repository.dvc("exp", "run", "-q", "-S", "k=3")
    repository.git("checkout", "-q", ".")
    (repository.folder / "README").write_text("a later commit")
    repository.commit()
    repository.dvc("exp", "run", "-q", "-S", "k=5", "-S", "p0.eval_splits=[val]")
    repository.git("checkout", "-q", ".")
    assert counts(repository) == (1, 1, 2)
    monkeypatch.setattr(sys, "executable", str(repository.folder / "absent"))
    looks = count_looks(repository.folder)
    assert (looks.commits, looks.experiments, looks.settings) == (1, None, 1)
    assert "at least 1 commit and an unknown number of experiments (dvc: No such file" in looks.text
