"""dvc.yaml against the code: each stage depends on the modules that it imports and the parameters that it reads."""

import ast
import subprocess
from pathlib import Path
from typing import get_args

import pytest
import yaml

from avs.datasets import DatasetName

ROOT = Path(__file__).resolve().parents[1]
STAGES = yaml.safe_load((ROOT / "dvc.yaml").read_text())["stages"]
UNTRACKED = ("avs/core", "avs/config.py", "avs/__init__.py", "stages/__init__.py")


def body(stage: str) -> dict:
    return STAGES[stage].get("do", STAGES[stage])


def imported(path: Path) -> set[Path]:
    """The project's files that a module imports when it runs (not those for type checking)."""
    found: set[Path] = set()
    tree = ast.parse(path.read_text())
    skipped = {id(inner) for node in ast.walk(tree) if _for_types(node) for inner in ast.walk(node)}
    for node in ast.walk(tree):
        if id(node) in skipped:
            continue
        if isinstance(node, ast.ImportFrom) and node.module:
            names = [node.module, *(f"{node.module}.{alias.name}" for alias in node.names)]
        elif isinstance(node, ast.Import):
            names = [alias.name for alias in node.names]
        else:
            continue
        found |= {file for name in names if (file := _file(name))}
    return found


def _for_types(node: ast.AST) -> bool:
    return isinstance(node, ast.If) and isinstance(node.test, ast.Name) and node.test.id == "TYPE_CHECKING"


def _file(module: str) -> Path | None:
    path = ROOT / module.replace(".", "/")
    return next((p for p in (path.with_suffix(".py"), path / "__init__.py") if p.is_file()), None)


def closure(path: Path) -> set[Path]:
    found, waiting = set(), [path]
    while waiting:
        module = waiting.pop()
        if module not in found and not str(module.relative_to(ROOT)).startswith(UNTRACKED):
            found.add(module)
            waiting += imported(module)
    return found


def unit(path: Path) -> str:
    """How dvc.yaml names a module: a package of avs/ whole, other files by themselves."""
    relative = path.relative_to(ROOT)
    return "/".join(relative.parts[:2])


@pytest.mark.parametrize("stage", STAGES)
def test_code_dependencies_are_the_imports(stage: str) -> None:
    declared = {dep for dep in body(stage)["deps"] if dep.startswith(("avs/", "stages/"))}
    assert declared == {unit(module) for module in closure(ROOT / f"stages/{stage}.py")}


@pytest.mark.parametrize("stage", STAGES)
def test_parameters_are_those_that_the_stage_reads(stage: str) -> None:
    """Each block of `config` that the script touches is tracked, and no other, but for `execution`."""
    tree = ast.parse((ROOT / f"stages/{stage}.py").read_text())
    touched = {
        node.attr
        for node in ast.walk(tree)
        if isinstance(node, ast.Attribute) and isinstance(node.value, ast.Name) and node.value.id == "config"
    }
    tracked = {name.split(".")[0] for name in body(stage)["params"]}
    # preprocess needs the data set only to find the folder: what lies there is pinned by digest in clips.tsv
    assert touched - {"execution"} - ({"dataset"} if stage == "preprocess" else set()) == tracked


@pytest.mark.parametrize("stage", STAGES)
def test_tracked_parameters_are_leaves(stage: str) -> None:
    """But for the block of the chosen data set, all of which `install` reads, and none of another's."""
    params = yaml.safe_load((ROOT / "params.yaml").read_text())
    for name in body(stage)["params"]:
        if name != "data.${dataset}":
            assert not isinstance(named(params, name), dict), name


def named(tree: dict, name: str) -> object:
    for part in name.split("."):
        tree = tree[part]
    return tree


def test_each_data_set_has_a_block_of_leaves() -> None:
    params = yaml.safe_load((ROOT / "params.yaml").read_text())
    for dataset in get_args(DatasetName):
        assert not any(isinstance(value, dict) for value in params["data"][dataset].values()), dataset


def test_what_data_sets_are_read_from_is_there_in_a_clone() -> None:
    """DVC refuses a dependency that is absent, and all data sets' are dependencies of `install`."""
    params = yaml.safe_load((ROOT / "params.yaml").read_text())
    names = [dep[2:-1] for dep in body("install")["deps"] if dep.startswith("${")]
    assert len(names) >= 7
    files = subprocess.run(["git", "ls-files"], cwd=ROOT, capture_output=True, text=True, check=True).stdout.split()
    for path in (str(named(params, name)) for name in names):
        assert any(file == path or file.startswith(f"{path}/") for file in files), path


@pytest.mark.parametrize("stage", STAGES)
def test_commands_run_as_modules(stage: str) -> None:
    assert body(stage)["cmd"].startswith(f"python -m stages.{stage}")


def test_nothing_imports_upwards() -> None:
    layers = [
        "core",
        "datasets preprocess standardize doctor",
        "audio sampling vision lips",
        "localization",
        "report",
        "config cli smoke estimate calibration",
    ]
    rank = {name: number for number, names in enumerate(layers) for name in names.split()}
    for path in (ROOT / "avs").rglob("*.py"):
        if path.name in ("__init__.py", "__main__.py") and path.parent == ROOT / "avs":
            continue
        here = rank[path.relative_to(ROOT / "avs").parts[0].removesuffix(".py")]
        for other in imported(path):
            parts = other.relative_to(ROOT).parts
            if parts[0] == "avs" and parts[1] != "__init__.py":
                assert rank[parts[1].removesuffix(".py")] <= here, f"{path.relative_to(ROOT)} imports {'/'.join(parts)}"
