"""The container's files, as far as they can be held without an engine; `docker/check.sh` holds the rest."""

import fcntl
import json
import os
import re
import shutil
import subprocess
from pathlib import Path

import pytest
import yaml

ROOT = Path(__file__).resolve().parents[1]
ENTRYPOINT = ROOT / "docker/entrypoint.sh"


def test_the_base_is_pinned() -> None:
    assert re.search(r"^ARG BASE_IMAGE=[\w./-]+:[\w.-]+@sha256:[0-9a-f]{64}$", dockerfile(), re.MULTILINE)


def test_the_lock_is_installed_before_the_source_is_copied() -> None:
    assert dockerfile().index("--requirement") < dockerfile().index("COPY avs") < dockerfile().index("COPY . ")


def test_only_listed_files_reach_the_image() -> None:
    lines = (ROOT / ".dockerignore").read_text().splitlines()
    assert lines[1] == "*"
    listed = [line[1:] for line in lines if line.startswith("!")]
    assert [name for name in listed if not list(ROOT.glob(name.rstrip("/")))] == []
    assert not {".git", ".dvc", "data", "results"} & {name.rstrip("/") for name in listed}


def test_the_services_give_a_container_no_more_than_it_needs() -> None:
    services = yaml.safe_load((ROOT / "docker/compose.yaml").read_text())["services"]
    assert set(services) == {"cpu", "gpu", "test"}
    for service in services.values():
        assert service["read_only"]
        assert service["cap_drop"] == ["ALL"]
        assert service["security_opt"] == ["no-new-privileges:true"]
        assert not service["user"].startswith("0")
    assert services["test"]["network_mode"] == "none"
    (device,) = services["gpu"]["deploy"]["resources"]["reservations"]["devices"]
    assert device["capabilities"] == ["gpu"]


def test_the_dev_container_is_the_same_image() -> None:
    lines = (ROOT / ".devcontainer/devcontainer.json").read_text().splitlines()
    settings = json.loads("\n".join(line for line in lines if not line.startswith("//")))
    assert (ROOT / ".devcontainer" / settings["build"]["dockerfile"]).samefile(ROOT / "docker/Dockerfile")


@pytest.fixture
def workspace(tmp_path: Path) -> Path:
    """A copy of the kit without Git, in which a killed container left DVC's lock."""
    (tmp_path / ".dvc/tmp").mkdir(parents=True)
    (tmp_path / ".dvc/tmp/rwlock").write_text("{}")
    return tmp_path


def enter(workspace: Path) -> str:
    done = subprocess.run(
        ["sh", str(ENTRYPOINT), "echo", "the command"], cwd=workspace, capture_output=True, text=True, check=True
    )
    return done.stdout


needs_flock = pytest.mark.skipif(not shutil.which("flock"), reason="flock is not installed")


@needs_flock
def test_what_a_killed_container_left_does_not_block(workspace: Path) -> None:
    assert enter(workspace) == "the command\n"
    assert not (workspace / ".dvc/tmp/rwlock").exists()
    assert "no_scm = true" in (workspace / ".dvc/config.local").read_text()


@needs_flock
def test_the_lock_of_a_container_at_work_stays(workspace: Path) -> None:
    holder = os.open(workspace / ".dvc/tmp/container.lock", os.O_CREAT | os.O_RDWR)
    fcntl.flock(holder, fcntl.LOCK_SH)
    enter(workspace)
    os.close(holder)
    assert (workspace / ".dvc/tmp/rwlock").exists()


@needs_flock
def test_files_that_are_not_the_kit_are_told(tmp_path: Path) -> None:
    (tmp_path / "video.mp4").touch()
    done = subprocess.run(["sh", str(ENTRYPOINT), "true"], cwd=tmp_path, capture_output=True, text=True, check=True)
    assert "holds files, but not the kit: mount a clone of it, or an empty folder" in done.stderr
    assert list(tmp_path.iterdir()) == [tmp_path / "video.mp4"]


@needs_flock
def test_a_clone_keeps_its_git(workspace: Path) -> None:
    (workspace / ".git").mkdir()
    enter(workspace)
    assert not (workspace / ".dvc/config.local").exists()


def dockerfile() -> str:
    return (ROOT / "docker/Dockerfile").read_text()
