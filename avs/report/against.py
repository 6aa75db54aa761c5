"""What changed since a commit: parameters, numbers, and the clips that are answered differently."""

from __future__ import annotations

import json
import subprocess
import sys
import tempfile
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np
import yaml

from avs.core.errors import InputError
from avs.report.results import BASELINE, MAIN, MEASURES, Results, Tree, clip_score, ordered

ROWS = "results/p0/per_clip.jsonl"
_MOST = 25  # clips that are listed


def changes(revision: str, results: Results, params: Path, headline: Tree, shown: set[str]) -> dict[str, Any]:
    """Tables of what differs from a commit; `shown` are the keys of the clips that the page has.

    Raises InputError where there is no such commit, or it has no results.
    """
    commit = resolve(revision)
    before = _json_at(commit, "results/p0/metrics.json")
    rows, absent = rows_at(commit)
    return {
        "revision": revision,
        "commit": _git("show", "-s", "--format=%h, %cs: %s", commit).strip(),
        "params": differing(yaml.safe_load(_show(commit, "params.yaml")), yaml.safe_load(params.read_text())),
        "headline": differing(_json_at(commit, "results/headline.json"), headline),
        "arms": _arms(before, results.metrics),
        "contrasts": _contrasts(before, results.metrics),
        "clips": changed_clips(rows, results.rows, shown) if rows else [],
        "absent": absent,
    }


def resolve(revision: str) -> str:
    """The full hash of a commit. Raises InputError for what names none."""
    try:
        return _git("rev-parse", "--verify", "--quiet", "--end-of-options", f"{revision}^{{commit}}").strip()
    except subprocess.CalledProcessError:
        raise InputError(f"--against ({revision!r}) names no commit (see: git log --oneline)") from None


def differing(before: Tree, now: Tree) -> list[tuple[str, Any, Any]]:
    """Leaves of two trees that are not the same: dotted name, then, now; None where absent."""
    first, second = _leaves(before), _leaves(now)
    return [
        (name, first.get(name), second.get(name))
        for name in dict.fromkeys([*second, *first])
        if name not in first or name not in second or first[name] != second[name]
    ]


def changed_clips(before: Sequence[Tree], now: Sequence[Tree], shown: set[str]) -> list[dict[str, Any]]:
    """Clips of both whose seconds are right in another share of the seeds, by either arm; most changed first."""
    old = {row["clip"]: row for row in before}
    pairs = [(old[row["clip"]], row) for row in now if row["clip"] in old]
    comparable = [pair for pair in pairs if len(pair[0]["target"]) == len(pair[1]["target"])]
    found = [
        {
            "clip": row["clip"],
            "shown": row["clip"] in shown,
            "change": max(float(np.abs(_right(then, arm) - _right(row, arm)).mean()) for arm in (MAIN, BASELINE)),
            "scores": [
                (clip_score(then, arm, "accuracy"), clip_score(row, arm, "accuracy")) for arm in (MAIN, BASELINE)
            ],
        }
        for then, row in comparable
    ]
    return sorted((row for row in found if row["change"] > 0), key=lambda row: (-row["change"], row["clip"]))[:_MOST]


def rows_at(commit: str) -> tuple[list[dict[str, Any]], str]:
    """The clips' rows of a commit as DVC's cache or remote has them, or none and the reason."""
    with tempfile.TemporaryDirectory() as folder:
        out = Path(folder) / "rows.jsonl"
        command = [sys.executable, "-m", "dvc", "get", "--quiet", "--rev", commit, "--out", str(out), ".", ROWS]
        done = subprocess.run(command, capture_output=True, text=True)
        if done.returncode or not out.is_file():
            return [], f"The answers of that commit ({ROWS}) are not in DVC's cache, so clips cannot be compared."
        return [json.loads(line) for line in out.read_text(encoding="utf-8").splitlines()], ""


def _arms(before: Tree, now: Tree) -> list[tuple[str, list[tuple[Any, Any]]]]:
    """Each arm of either: its means then and now."""
    names = ordered({*before["arms"], *now["arms"]})
    measures = ("accuracy", "accuracy_event", "class_event")
    return [(name, [(_mean(before, name, m), _mean(now, name, m)) for m in measures]) for name in names]


def _mean(metrics: Tree, arm: str, measure: str) -> float | None:
    return metrics["arms"][arm][measure]["mean"] if arm in metrics["arms"] else None


def _contrasts(before: Tree, now: Tree) -> list[tuple[str, str, Any, Any]]:
    """Contrast, measure, its row then and now."""
    return [
        (name.replace("-", " − "), text, before["contrasts"].get(measure, {}).get(name), row)
        for measure, text in MEASURES.items()
        for name, row in sorted(now["contrasts"][measure].items())
        if name.startswith((f"{MAIN}-", "oracle_topk-"))
    ]


def _right(row: Tree, arm: str) -> np.ndarray:
    """[T]: in what share of the seeds each second is right."""
    return (np.array(row["answers"][arm]) == np.array(row["target"])).mean(axis=0)


def _leaves(tree: Any, at: str = "") -> dict[str, Any]:
    if not isinstance(tree, Mapping):
        return {at: tree}
    return {
        name: leaf for key, value in tree.items() for name, leaf in _leaves(value, f"{at}.{key}".strip(".")).items()
    }


def _json_at(commit: str, path: str) -> Any:
    return json.loads(_show(commit, path))


def _show(commit: str, path: str) -> str:
    try:
        return _git("show", f"{commit}:./{path}")
    except subprocess.CalledProcessError:
        raise InputError(f"commit {commit[:10]} has no {path}: nothing to compare with") from None


def _git(*arguments: str) -> str:
    try:
        return subprocess.run(["git", *arguments], capture_output=True, text=True, check=True).stdout
    except OSError as error:
        raise InputError(f"git is needed to look at another commit: {error.strerror}") from error
