"""Where a committed file of figures comes from: its commit, command, parameters, data, code and environment.

Only what was recorded is told: `dvc.lock` has it for `results/`, the file itself for `docs/results/`.
"""

from __future__ import annotations

import hashlib
import json
from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import yaml

from avs.core.errors import InputError
from avs.core.provenance import ENVIRONMENT, git
from avs.core.store import sha256_file

RESULTS = Path("docs/results")
RECORDED = ("command", "commit", "machine", "date")
UNKNOWN = "unknown"
_NO_GIT = f"{UNKNOWN} (no Git clone here)"


@dataclass(frozen=True)
class Stage:
    """A stage as `dvc.lock` has it; `deps` and `outs` are md5 digests by path."""

    name: str
    command: str
    params: Mapping[str, Any] = field(default_factory=dict)
    deps: Mapping[str, str] = field(default_factory=dict)
    outs: Mapping[str, str] = field(default_factory=dict)


@dataclass(frozen=True)
class Origin:
    """What is known of a file, as titled lines, and what about it is wrong."""

    facts: dict[str, str]
    problems: list[str]


def read_lock(root: Path) -> dict[str, Stage]:
    """The stages of `dvc.lock`, none where it is not there."""
    tree = _yaml(root / "dvc.lock")
    return {name: _stage(name, body) for name, body in tree.get("stages", {}).items()}


def sources(root: Path, lock: Mapping[str, Stage]) -> list[str]:
    """All files that figures may come from: the metrics of the stages, and docs/results."""
    made = [path for stage in lock.values() for path in stage.outs if path.endswith(".json")]
    return [*made, *(str(path.relative_to(root)) for path in sorted((root / RESULTS).glob("*.json")))]


def maker(lock: Mapping[str, Stage], path: str) -> Stage | None:
    """The stage that writes `path`."""
    return next((stage for stage in lock.values() if path in stage.outs), None)


def of_file(root: Path, path: str, tree: Mapping[str, Any]) -> Origin:
    """What a file of docs/results, read as `tree`, says of itself."""
    facts = {name: str(tree.get(name, UNKNOWN)) for name in (*RECORDED, "data")}
    if git("rev-parse", "HEAD", folder=root) and not facts["commit"].startswith(UNKNOWN):
        there = git("cat-file", "-e", f"{facts['commit'].removesuffix('-dirty')}^{{commit}}", folder=root) is not None
        facts["commit"] += "" if there else " (not in this clone)"
    absent = [name for name in RECORDED if name not in tree]
    problems = [f"does not say its {', '.join(absent)} (where that is lost, say {UNKNOWN!r})"] if absent else []
    return Origin({"committed in": _committed(root, path)} | facts, problems)


def of_stage(root: Path, path: str, stage: Stage, lock: Mapping[str, Stage]) -> Origin:
    """What `dvc.lock` and Git say of one of a stage's outs."""
    facts = {"committed in": _committed(root, path), "command": f"{stage.command} (stage {stage.name})"}
    problems = []
    if (root / path).exists() and md5(root / path) != stage.outs[path]:
        problems.append("is not what dvc.lock says (run: dvc repro; or: git checkout results dvc.lock)")
    chain = [*_upstream(lock, stage), stage]
    parameters = {name: value for part in chain for name, value in part.params.items()}
    facts["parameters"] = ", ".join(f"{name}={_brief(value)}" for name, value in sorted(parameters.items()))
    if changed := list(_changed(root, parameters)):
        facts["parameters"] += f"; but params.yaml now has {', '.join(changed)} (run: dvc repro)"
    data = {name: digest for part in chain for name, digest in part.outs.items() if name.startswith("data/")}
    facts["data"] = ", ".join(f"{name} {digest[:8]}" for name, digest in data.items())
    code = sorted({name for part in chain for name in part.deps if not name.startswith("data/")})
    facts["code"] = _code(root, code)
    return Origin(facts | {"environment": _environment(root)}, problems)


def md5(path: Path) -> str:
    """As DVC has it."""
    with path.open("rb") as file:
        return hashlib.file_digest(file, lambda: hashlib.md5(usedforsecurity=False)).hexdigest()


def _stage(name: str, body: Mapping[str, Any]) -> Stage:
    files = [{item["path"]: item.get("md5", "") for item in body.get(part, ())} for part in ("deps", "outs")]
    return Stage(name, body["cmd"], body.get("params", {}).get("params.yaml", {}), *files)


def _upstream(lock: Mapping[str, Stage], stage: Stage) -> list[Stage]:
    """The stages that its data come from, first ones first."""
    found: dict[str, Stage] = {}
    for path in stage.deps:
        before = maker(lock, path)
        if before:
            found |= {part.name: part for part in [*_upstream(lock, before), before]}
    return list(found.values())


def _committed(root: Path, path: str) -> str:
    """The last commit that changed a file, and whether it changed since."""
    if git("rev-parse", "HEAD", folder=root) is None:
        return _NO_GIT
    last = git("log", "-1", "--format=%h of %cs, %s", "--", path, folder=root)
    if not last:
        return "not committed"
    same = git("diff", "--quiet", "HEAD", "--", path, folder=root) is not None
    return last if same else f"{last}; changed since, and not committed"


def _changed(root: Path, parameters: Mapping[str, Any]) -> Iterator[str]:
    """The parameters that params.yaml now has otherwise."""
    tree = _yaml(root / "params.yaml")
    for name, value in parameters.items():
        now: Any = tree
        for part in name.split("."):
            now = now.get(part) if isinstance(now, dict) else None
        if tree and now != value:
            yield f"{name}={_brief(now)}"


def _yaml(path: Path) -> dict[str, Any]:
    """Nothing where the file is not there. Raises InputError where it is no YAML."""
    try:
        return yaml.safe_load(path.read_text(encoding="utf-8")) or {}
    except FileNotFoundError:
        return {}
    except (OSError, yaml.YAMLError) as error:
        raise InputError(f"{path}: cannot be read as YAML: {error}") from None


def _code(root: Path, paths: list[str]) -> str:
    """The code that a stage and those before it depend on, and what of it changed since dvc.lock was committed."""
    commit = git("log", "-1", "--format=%h", "--", "dvc.lock", folder=root)
    if not commit:
        return f"{', '.join(paths)}; commit {_NO_GIT}"
    changes = git("diff", "--name-only", commit, "--", *paths, folder=root)
    since = f"changed since: {', '.join((changes or '').split())} (see: dvc status)" if changes else "unchanged since"
    return f"of {commit}, which committed dvc.lock; {since}"


def _environment(root: Path) -> str:
    """What the packages were, and what the last run here records of its machine."""
    pins = root / "requirements.lock"
    packages = f"requirements.lock, sha256 {sha256_file(pins)[:8]}" if pins.exists() else f"packages {UNKNOWN}"
    told = f"{packages}; machine {UNKNOWN}: it is not committed"
    try:
        last = json.loads((root / ENVIRONMENT).read_text(encoding="utf-8"))
    except (OSError, ValueError):
        return told
    here = f"Python {last['python']}, torch {last['packages'].get('torch')}, {last['cpu']}, {last['cores']} cores"
    return f"{told}. The last stage that ran here: {here}, commit {last['commit']}"


def _brief(value: Any) -> str:
    return json.dumps(value, separators=(",", ":")).replace('"', "")
