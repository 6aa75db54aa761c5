"""The same seed gives the same bytes of every DVC out, however the work is spread; and what another machine changes."""

from __future__ import annotations

import json
import shutil
from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field
from functools import cache
from pathlib import Path
from tempfile import mkdtemp
from typing import Any

import numpy as np
import yaml

from tests.reliability import project
from tests.reliability.kills import clone


@dataclass(frozen=True)
class Variant:
    """Another way to run the whole DAG; `elsewhere` where it stands for another machine, whose last bits differ."""

    name: str
    params: Mapping[str, Any] = field(default_factory=dict)
    environment: Mapping[str, str] = field(default_factory=dict)
    elsewhere: bool = False


# What libraries offer to keep them from a processor's wider instructions.
_AVX2 = {"ATEN_CPU_CAPABILITY": "avx2", "ONEDNN_MAX_CPU_ISA": "AVX2", "MKL_ENABLE_INSTRUCTIONS": "AVX2"}
_PLAIN = {
    "ATEN_CPU_CAPABILITY": "default",
    "ONEDNN_MAX_CPU_ISA": "SSE41",
    "MKL_ENABLE_INSTRUCTIONS": "SSE4_2",
    "OPENBLAS_CORETYPE": "Nehalem",
    "NPY_DISABLE_CPU_FEATURES": "AVX2 FMA3 AVX512F AVX512CD AVX512_SKX",
}
VARIANTS = (
    Variant("again"),
    Variant("one worker", {"execution.workers": 1}),
    Variant("no workers", {"execution.backend": "inline"}),
    Variant("Ray", {"execution.backend": "ray"}),
    Variant("one thread", environment={"OMP_NUM_THREADS": "1"}),
    Variant("AVX2 alone", environment=_AVX2, elsewhere=True),
    Variant("SSE4 alone", environment=_PLAIN, elsewhere=True),
)
# How far a number may lie beside the reference's: of the largest number of its array, or of its file's metrics.
TOLERANCE = {"data": 1e-4, "results": 0.15}


def trial(number: int, folder: Path) -> dict[str, Any]:
    variant, reference = VARIANTS[number], _reference()
    there = _run(folder, variant)
    differ = sorted(path for path, digest in outs(there).items() if outs(reference)[path] != digest)
    row: dict[str, Any] = {"variant": variant.name, "outs": len(outs(there)), "differ": differ}
    if not variant.elsewhere:
        return row | ({"fault": f"other bytes: {', '.join(differ)}"} if differ else {})
    row["largest"] = {name: largest(reference, there, name) for name in TOLERANCE}
    beyond = [name for name, found in row["largest"].items() if found > TOLERANCE[name]]
    return row | ({"fault": f"differs by more than is stated: {', '.join(beyond)}"} if beyond else {})


@cache
def _reference() -> Path:
    return _run(Path(mkdtemp(prefix="avs-torture-")), Variant("reference"))


def _run(folder: Path, variant: Variant) -> Path:
    place, store = folder / "project", folder / "store"
    clone(place, **variant.params)
    store.mkdir()
    done = project.run(place, store, ("dvc", "repro"), environment=variant.environment)
    assert done.status == 0, f"{variant.name}: {done.said[-2000:]}"
    shutil.rmtree(store)
    return place


def outs(folder: Path) -> dict[str, str]:
    """The digest of every out, as dvc.lock has it."""
    stages = yaml.safe_load((folder / "dvc.lock").read_text())["stages"].values()
    return {out["path"]: out["md5"] for stage in stages for out in stage.get("outs", [])}


def largest(one: Path, other: Path, name: str) -> float:
    """The largest difference of any number in the arrays (relative to the largest of its array) or metrics below."""
    kinds = {"*.npy": _arrays, "*.json": _metrics}
    files = [(path, read) for pattern, read in kinds.items() for path in sorted((one / name).rglob(pattern))]
    pairs = [(read(path), read(other / path.relative_to(one))) for path, read in files if path.name not in _NO_RESULT]
    found = [_apart(a[key], b[key]) for a, b in pairs for key in a.keys() & b.keys()]
    return max(found, default=0.0)


_NO_RESULT = ("cost.json", "environment.json", "params.json")


def _apart(a: np.ndarray, b: np.ndarray) -> float:
    if a.shape != b.shape:
        return float("inf")
    return float(np.max(np.abs(a - b), initial=0) / max(1e-12, np.max(np.abs(a), initial=0)))


def _arrays(path: Path) -> dict[str, np.ndarray]:
    array = np.load(path)
    return {"": array.astype(np.float64)} if array.dtype.kind in "fiu" else {}


def _metrics(path: Path) -> dict[str, np.ndarray]:
    return {where: np.array([number, 1.0]) for where, number in _numbers(json.loads(path.read_text()))}


def _numbers(tree: Any, where: str = "") -> Iterator[tuple[str, float]]:
    if isinstance(tree, dict):
        for key, value in tree.items():
            yield from _numbers(value, f"{where}/{key}")
    elif isinstance(tree, float):
        yield where, tree
