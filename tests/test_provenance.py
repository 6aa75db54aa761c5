"""What a run records about itself."""

import json
from pathlib import Path

import pytest

from avs.core import provenance


def test_cost_and_environment_are_recorded(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    monkeypatch.setenv("AVS_IMAGE", "avs:7")
    monkeypatch.setenv("AVS_REVISION", "f00d")
    for stage in ("one", "two"):
        with provenance.measured(stage) as cost:
            cost["clips"] = 3
    costs = json.loads(provenance.COST.read_text())
    assert list(costs) == ["one", "two"]
    assert costs["two"]["clips"] == 3
    assert costs["two"]["seconds"] >= 0
    environment = json.loads(provenance.ENVIRONMENT.read_text())
    assert (environment["image"], environment["commit"]) == ("avs:7", "f00d")
    assert "torch" in environment["packages"]


def test_a_clone_names_its_own_commit(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(Path(__file__).parent)
    monkeypatch.setenv("AVS_REVISION", "f00d")
    commit = provenance._commit()
    if commit is None:
        pytest.skip("this is no Git clone")
    assert provenance._environment()["commit"] == commit
