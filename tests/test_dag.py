"""dvc.yaml against the code: each stage depends on the modules that it imports and the parameters that it reads."""

import ast
import re
import subprocess
from pathlib import Path
from typing import get_args

import pytest
import yaml

from avs.datasets import DatasetName
from avs.speech import SpeechName

ROOT = Path(__file__).resolve().parents[1]
UNTRACKED = ("avs/core", "avs/config.py", "avs/__init__.py", "stages/__init__.py")


def expanded(dvc_yaml: dict) -> dict[str, dict]:
    """Stages by the names that DVC gives them: parts of `foreach` items in their places, repeats left out."""
    stages = {}
    for name, stage in dvc_yaml["stages"].items():
        each = stage.get("foreach", {})
        each = each if isinstance(each, dict) else {key: {} for key in each}
        items = {f"{name}@{key}": (key, item) for key, item in each.items()} or {name: ("", {})}
        for full, (key, item) in items.items():
            text = yaml.safe_dump(stage.get("do", stage)).replace("${key}", key).replace("${item}", key)
            text = re.sub(r"\$\{item\.(\w+)\[(\d+)\]\}", lambda m, item=item: item[m[1]][int(m[2])], text)
            body = yaml.safe_load(re.sub(r"\$\{item\.(\w+)\}", lambda m, item=item: item[m[1]], text))
            repeats = {part: list(dict.fromkeys(body[part])) for part in ("deps", "params")}
            assert all(set(item[part]) <= set(body[part]) for part in repeats if item), f"{full} leaves something out"
            stages[full] = body | repeats
    return stages


STAGES = expanded(yaml.safe_load((ROOT / "dvc.yaml").read_text()))
STUDIES = {"clips": ("data", DatasetName, 7), "speech": ("speech_data", SpeechName, 8)}


def script(stage: str) -> Path:
    return ROOT / f"{STAGES[stage]['cmd'].removeprefix('python -m ').split()[0].replace('.', '/')}.py"


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
    declared = {dep for dep in STAGES[stage]["deps"] if dep.startswith(("avs/", "stages/"))}
    assert declared == {unit(module) for module in closure(script(stage))}


@pytest.mark.parametrize("stage", STAGES)
def test_parameters_are_those_that_the_stage_reads(stage: str) -> None:
    """Each block of `config` that the script touches is tracked, and no other, but for `execution`."""
    tree = ast.parse(script(stage).read_text())
    touched = {
        node.attr
        for node in ast.walk(tree)
        if isinstance(node, ast.Attribute) and isinstance(node.value, ast.Name) and node.value.id == "config"
    }
    tracked = {name.split(".")[0] for name in STAGES[stage]["params"]}
    # preprocess needs the data set only to find the folder: what lies there is pinned by digest in clips.tsv
    chosen = {"dataset", "speech_dataset"} if stage.startswith("preprocess@") else set()
    assert touched - {"execution"} - chosen == tracked


@pytest.mark.parametrize("stage", STAGES)
def test_a_stage_that_names_what_it_needs_reads_just_that(stage: str) -> None:
    tree = ast.parse(script(stage).read_text())
    needs = next((node for node in tree.body if isinstance(node, ast.ClassDef) and node.name == "Needs"), None)
    if needs:
        named = {node.target.id for node in needs.body if isinstance(node, ast.AnnAssign)}
        assert named == set(re.findall(r"\bconfig\.(\w+)", script(stage).read_text()))


@pytest.mark.parametrize("stage", STAGES)
def test_tracked_parameters_are_leaves(stage: str) -> None:
    """But for the block of the chosen data set, all of which `install` reads, and those that a mixture is made of."""
    params = yaml.safe_load((ROOT / "params.yaml").read_text())
    for name in STAGES[stage]["params"]:
        if name not in ("data.${dataset}", "speech_data"):
            assert not isinstance(named(params, name), dict), name


def named(tree: dict, name: str) -> object:
    for part in name.split("."):
        tree = tree[part]
    return tree


@pytest.mark.parametrize("study", STUDIES)
def test_each_data_set_has_a_block_of_leaves(study: str) -> None:
    block, names, _ = STUDIES[study]
    params = yaml.safe_load((ROOT / "params.yaml").read_text())
    for dataset in get_args(names):
        assert not any(isinstance(value, dict) for value in params[block][dataset].values()), dataset


def test_the_number_of_anchors_concerns_the_last_stages_only() -> None:
    """`-S k=3` reruns anchor_eval, p0 and report@avs: what tracks it, and what depends on that."""
    concerned = {stage for stage in STAGES if "k" in STAGES[stage]["params"]}
    outs = {
        out if isinstance(out, str) else next(iter(out))
        for stage in concerned
        for kind in ("outs", "metrics")
        for out in STAGES[stage].get(kind, [])
    }
    concerned |= {stage for stage in STAGES if outs & set(STAGES[stage]["deps"])}
    assert concerned == {"anchor_eval", "p0", "report@avs"}


@pytest.mark.parametrize("study", STUDIES)
def test_what_data_sets_are_read_from_is_there_in_a_clone(study: str) -> None:
    """DVC refuses a dependency that is absent, and all data sets' are dependencies of `install`."""
    params = yaml.safe_load((ROOT / "params.yaml").read_text())
    names = [dep[2:-1] for dep in STAGES[f"install@{study}"]["deps"] if dep.startswith("${")]
    assert len(names) >= STUDIES[study][2]
    files = subprocess.run(["git", "ls-files"], cwd=ROOT, capture_output=True, text=True, check=True).stdout.split()
    for path in (str(named(params, name)) for name in names):
        assert any(file == path or file.startswith(f"{path}/") for file in files), path


@pytest.mark.parametrize("stage", ["install", "preprocess"])
def test_the_data_sets_of_the_studies_share_nothing(stage: str) -> None:
    """So that a change of one never reruns the other."""
    clips, speech = STAGES[f"{stage}@clips"], STAGES[f"{stage}@speech"]
    for part in ("deps", "params", "outs"):
        assert not set(clips[part]) & set(speech[part]), part


@pytest.mark.parametrize("stage", STAGES)
def test_commands_run_as_modules(stage: str) -> None:
    assert STAGES[stage]["cmd"].startswith(f"python -m stages.{stage.partition('@')[0]}")


def test_nothing_imports_upwards() -> None:
    layers = [
        "core",
        "datasets speech preprocess standardize doctor",
        "audio sampling vision lips",
        "avsr localization",
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
