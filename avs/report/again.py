"""Holds the committed metrics of the study against the rows of single clips, where those are at hand."""

from __future__ import annotations

import json
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any

from avs.core.errors import InputError
from avs.localization.p0 import headline
from avs.localization.rederive import anchors_again, p0_again
from avs.report.origin import Stage, md5

P0, ANCHORS, HEADLINE = "results/p0/metrics.json", "results/anchor_eval/metrics.json", "results/headline.json"
_ROUNDED = 1.001e-6  # metrics are written with six decimals


def made_again(root: Path, path: str, stage: Stage, committed: Mapping[str, Any]) -> tuple[str, list[str]]:
    """What of a stage's metrics follows from something else that is at hand, and where it disagrees."""
    try:
        source, tree = _again(root, path, stage)
    except InputError as error:
        return str(error), []
    except (KeyError, IndexError, TypeError, ValueError) as error:
        return f"no: the code has changed since, and cannot read what was left: {error!r} (run: dvc repro)", []
    before, now = dict(_leaves(committed)), {key: value for key, value in _leaves(tree) if value == value}
    wrong = [
        f"{key} is {before.get(key)}, but {source} gives {value:g} (run: dvc repro -f {stage.name})"
        for key, value in now.items()
        if key not in before or abs(before[key] - value) > _ROUNDED
    ]
    told = f"{len(now) - len(wrong)} of {len(before)} numbers, from {source}"
    rest = sorted({key.rpartition(".")[2] for key in before.keys() - now.keys()})
    return f"{told}; not told there: {', '.join(rest)}" if rest else told, wrong


def _again(root: Path, path: str, stage: Stage) -> tuple[str, dict[str, Any]]:
    """The metrics anew, and from what. Raises InputError where that is not at hand."""
    p = stage.params
    if path == HEADLINE:
        return P0, headline(_json(root / P0))
    if path not in (P0, ANCHORS):
        raise InputError("no: only its stage makes it")
    rows_path = str(Path(path).with_name("per_clip.jsonl"))
    rows = _rows(root, rows_path, stage)
    if path == ANCHORS:
        return rows_path, anchors_again(rows, splits=p["p0.eval_splits"], k=p["k"])
    meta = root / "data/cache/meta.json"
    gflops = {int(r): cost for r, cost in _json(meta)["gflops"].items()} if meta.exists() else None
    settings = {"splits": p["p0.eval_splits"], "resamples": p["p0.resamples"], "patch_size": p["budget.patch_size"]}
    return rows_path + (f" and {meta.relative_to(root)}" if gflops else ""), p0_again(rows, gflops=gflops, **settings)


def _rows(root: Path, path: str, stage: Stage) -> list[dict[str, Any]]:
    if not (root / path).is_file():
        raise InputError(f"no: {path} is not at hand (run: dvc pull, where there is a remote; or: dvc repro)")
    if md5(root / path) != stage.outs.get(path):
        raise InputError(f"no: {path} is not the one that dvc.lock names (run: dvc checkout {path}; or: dvc repro)")
    return [json.loads(line) for line in (root / path).read_text(encoding="utf-8").splitlines()]


def _json(path: Path) -> dict[str, Any]:
    try:
        return json.loads(path.read_text(encoding="utf-8"))
    except (OSError, ValueError) as error:
        raise InputError(f"{path} cannot be read: {error}") from None


def _leaves(tree: Any, key: str = "") -> Iterator[tuple[str, float]]:
    if isinstance(tree, Mapping):
        for name, value in tree.items():
            yield from _leaves(value, f"{key}.{name}" if key else name)
    elif isinstance(tree, (int, float)):
        yield key, float(tree)
