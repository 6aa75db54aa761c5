"""From the stages' outputs to every arm's answers: what the arms share, their plans, and their training."""

from __future__ import annotations

import json
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import torch

from avs.core.clips import Clip, class_names, read_table, targets
from avs.core.errors import InputError
from avs.localization.arms import ARMS, Proposal, check_budgets, plans, propose_all
from avs.localization.train import Inputs, P0Params, train_and_predict
from avs.sampling.anchors import AnchorParams
from avs.sampling.tokens import BudgetParams
from avs.standardize import standardized


@dataclass(frozen=True)
class Study:
    """Everything that the arms share: N clips, their audio and features, what the audio proposes, and the plans."""

    clips: list[Clip]
    classes: list[str]
    scores: np.ndarray  # [N, T]
    audio_features: np.ndarray  # [N, T, 10]
    features: dict[int, np.ndarray]  # resolution → [N, T, D]
    gflops: dict[int, float]
    proposals: list[Proposal]
    plans: dict[str, np.ndarray]  # arm → resolutions [S, N, T]
    tokens_per_clip: int
    failed_clips: int


@dataclass(frozen=True)
class Answers:
    """Each arm's answers for the clips at `positions`: class indices [S, n, T]; `foreground` without background."""

    positions: np.ndarray
    best: dict[str, np.ndarray]
    foreground: dict[str, np.ndarray]


def load_study(
    cache: Path, eventness: Path, *, k: int, anchors: AnchorParams, budget: BudgetParams, seeds: int
) -> Study:
    """Read the stages' outputs and lay out every arm's plan. Raises InputError where they do not fit together."""
    clips = read_table(cache / "index.tsv", Clip)
    if clips != read_table(eventness / "index.tsv", Clip):
        raise InputError(f"{cache} and {eventness} hold different clips (run: dvc repro)")
    meta = json.loads((cache / "meta.json").read_text())
    if meta["patch_size"] != budget.patch_size:
        raise InputError(f"budget.patch_size ({budget.patch_size}) must be the encoder's ({meta['patch_size']})")
    if not budget.max_high_seconds(clips[0].seconds):
        raise InputError(
            f"clips of {clips[0].seconds} s are too short for one second at high_res ({budget.high_res}) "
            "within the uniform budget: choose resolutions that are closer together"
        )
    scores = np.load(eventness / "scores.npy")
    audio_meta = json.loads((eventness / "meta.json").read_text())
    proposals = propose_all(scores, audio_meta["scale"]["std_threshold"], k=k, p=anchors, cap=budget.max_high)
    by_arm = {name: plans(arm, clips, proposals, budget, k=k, seeds=seeds) for name, arm in ARMS.items()}
    return Study(
        clips=clips,
        classes=class_names(clips),
        scores=scores,
        audio_features=np.load(eventness / "features.npy"),
        features={r: np.load(cache / f"res_{r}.npy") for r in budget.resolutions},
        gflops={r: meta["gflops"][str(r)] for r in budget.resolutions},
        proposals=proposals,
        plans=by_arm,
        tokens_per_clip=check_budgets(by_arm, budget),
        failed_clips=audio_meta["failed_clips"],
    )


def answer(study: Study, p: P0Params, device: str) -> Answers:
    """Train every arm with every seed on the training clips, and answer for the clips of `eval_splits`."""
    splits = np.array([clip.split for clip in study.clips])
    train = np.flatnonzero(splits == "train")
    positions = np.flatnonzero(np.isin(splits, p.eval_splits))
    for name in ("train", *p.eval_splits):
        if name not in splits:
            raise InputError(f"no clip in split {name!r} (see data/media/clips/failures.tsv, or p0.eval_splits)")
    best, foreground = train_and_predict(_inputs(study, train, p), train, positions, p, device)
    return Answers(positions, dict(zip(ARMS, best, strict=True)), dict(zip(ARMS, foreground, strict=True)))


def _inputs(study: Study, train: np.ndarray, p: P0Params) -> Inputs:
    index = np.zeros(max(study.features) + 1, dtype=np.int64)
    index[list(study.features)] = range(len(study.features))
    columns = {"none": [0, 0], "score": [1, 0], "features": [0, 1]}
    masks = [np.repeat(columns[arm.audio], [1, study.audio_features.shape[-1]]) for arm in ARMS.values()]
    return Inputs(
        features=torch.from_numpy(_feature_tables(study, train, p)),
        audio_mask=torch.from_numpy(np.stack(masks).astype(np.float32)),
        plan=torch.from_numpy(index[np.stack(list(study.plans.values()))]),
        targets=torch.from_numpy(targets(study.clips, study.classes)),
        classes=len(study.classes),
    )


def _feature_tables(study: Study, train: np.ndarray, p: P0Params) -> np.ndarray:
    """float32 [R, N, T, D + 11]: visual features at each resolution, the score and the audio features beside them."""
    audio = [study.scores[..., None], study.audio_features]
    tables = np.stack([np.concatenate([v, *audio], axis=-1, dtype=np.float32) for v in study.features.values()])
    return standardized(tables, train) if p.standardize else tables
