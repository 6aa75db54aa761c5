"""Studies in which there is nothing to find, with the trainer itself: arms that differ in the draw of random plans.

On the features of the cache, of which the first principal components are kept, for speed.
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import torch

from avs.core.clips import Clip, class_names, read_table, targets
from avs.core.execute import progress
from avs.localization.train import Inputs, P0Params, train_and_predict
from avs.sampling.plans import plan_resolutions
from avs.standardize import standardized

COMPONENTS = 48
TRAINING = P0Params(hidden=32, seeds=5, epochs=20)
AT_ONCE = 40  # arms that are trained together


@dataclass(frozen=True)
class Material:
    """Features float32 [R, N, T, D], from low to high resolution; targets [N, T]; positions of the clips of a split."""

    features: np.ndarray
    targets: np.ndarray
    classes: int
    resolutions: list[int]
    train: np.ndarray
    test: np.ndarray


def load_material(cache: Path, components: int = COMPONENTS) -> Material:
    clips = read_table(cache / "index.tsv", Clip)
    names = class_names(clips)
    resolutions = sorted(int(path.stem.removeprefix("res_")) for path in cache.glob("res_*.npy"))
    train, test = (np.array([i for i, clip in enumerate(clips) if clip.split == s]) for s in ("train", "test"))
    tables = standardized(np.stack([np.load(cache / f"res_{r}.npy").astype(np.float32) for r in resolutions]), train)
    rows = tables[:, train].reshape(-1, tables.shape[-1])
    axes = np.linalg.eigh(rows.T @ rows)[1][:, ::-1][:, :components]
    reduced = standardized(tables @ axes, train)
    return Material(reduced, targets(clips, names), len(names), resolutions, train, test)


def trained_nulls(material: Material, studies: int, *, apart: bool, p: P0Params = TRAINING) -> Iterator[np.ndarray]:
    """Accuracies [2, seeds, clips] of two arms with the budget of the study, studies times.

    Both put their two seconds of high resolution at random, drawn once for all seeds: `apart`, in training too; else
    the trained heads are the same, and the arms differ at test time only.
    """
    rng = np.random.default_rng(0)
    low, base, high = material.resolutions
    seconds = material.targets.shape[1]
    plan = plan_resolutions(seconds, [0, 1], low_res=low, base_res=base, high_res=high)
    pattern = np.searchsorted(material.resolutions, plan)
    pattern = np.tile(pattern, (1, len(material.targets), 1))
    common = rng.permuted(pattern, axis=-1)[:, material.train]
    for start in progress(range(0, 2 * studies, AT_ONCE), "nulls of the trainer"):
        plans = rng.permuted(np.repeat(pattern, min(AT_ONCE, 2 * studies - start), axis=0), axis=-1)
        if not apart:
            plans[:, material.train] = common
        accuracies = _accuracies(material, plans, p)
        yield from zip(accuracies[::2], accuracies[1::2], strict=True)


def reruns(material: Material, groups: int, p: P0Params = TRAINING) -> np.ndarray:
    """Accuracies [groups, seeds, clips] of uniform sampling in as many runs that differ in their seeds."""
    middle = np.ones((1, *material.targets.shape), dtype=np.int64)
    seeds = P0Params(**vars(p) | {"seeds": groups * p.seeds})
    return _accuracies(material, middle, seeds).reshape(groups, p.seeds, -1)


def _accuracies(material: Material, plans: np.ndarray, p: P0Params) -> np.ndarray:
    """[A, S, n] of the test clips, with plans [A, N, T] of indices of resolutions."""
    inputs = Inputs(
        torch.from_numpy(material.features),
        torch.zeros(*material.targets.shape, 0),
        torch.zeros(len(plans), 0),
        torch.from_numpy(np.repeat(plans[:, None], p.seeds, axis=1)),
        torch.from_numpy(material.targets),
        material.classes,
    )
    best = train_and_predict(inputs, material.train, material.test, p, "cpu")[0]
    return (best == material.targets[material.test]).mean(-1)
