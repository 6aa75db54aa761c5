"""From the stages' outputs to every arm's answers: what the arms share, their plans, and their training."""

from __future__ import annotations

import json
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import torch

from avs.core.clips import Clip, class_names, read_table, targets
from avs.core.errors import InputError
from avs.core.store import read_array
from avs.localization.arms import ARMS, Proposal, check_budgets, propose_all
from avs.localization.layout import Material, curve_plans, lay_out
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
    motion: np.ndarray  # [N, T]
    trained: dict[str, np.ndarray]  # arm → resolutions [S, N, T] in training
    plans: dict[str, np.ndarray]  # the same in evaluation
    curve: dict[int, dict[str, np.ndarray]]  # tokens a clip → kind of plan → resolutions [N, T]
    tokens_per_clip: int
    failed_clips: int


@dataclass(frozen=True)
class Answers:
    """Each arm's answers for the clips at `positions`: class indices [S, n, T]; `foreground` without background."""

    positions: np.ndarray
    best: dict[str, np.ndarray]
    foreground: dict[str, np.ndarray]


def load_study(
    cache: Path, eventness: Path, *, k: int, anchors: AnchorParams, budget: BudgetParams, p: P0Params
) -> Study:
    """Read the stages' outputs and lay out every arm's plan. Raises InputError where they do not fit together."""
    clips = read_table(cache / "index.tsv", Clip)
    if clips != read_table(eventness / "index.tsv", Clip):
        raise InputError(f"{cache} and {eventness} hold different clips (run: dvc repro)")
    meta = json.loads((cache / "meta.json").read_text())
    if meta["patch_size"] != budget.patch_size:
        raise InputError(f"budget.patch_size ({budget.patch_size}) must be the encoder's ({meta['patch_size']})")
    budget.require_a_high_second(clips[0].seconds)
    scores = read_array(eventness / "scores.npy")
    audio_meta = json.loads((eventness / "meta.json").read_text())
    proposals = propose_all(scores, audio_meta["scale"]["std_threshold"], k=k, p=anchors, cap=budget.max_high)
    gflops = {r: meta["gflops"][str(r)] for r in budget.resolutions}
    motion = read_array(cache / "motion.npy")
    material = Material(clips, proposals, motion, gflops, budget, k)
    every = {
        name: lay_out(name, material, p.seeds)
        for name in {a.plan for a in ARMS.values()} | {a.evaluated for a in ARMS.values()}
    }
    plans = {name: every[arm.evaluated] for name, arm in ARMS.items()}
    return Study(
        clips=clips,
        classes=class_names(clips),
        scores=scores,
        audio_features=read_array(eventness / "features.npy"),
        features={r: read_array(cache / f"res_{r}.npy") for r in budget.resolutions},
        gflops=gflops,
        proposals=proposals,
        motion=motion,
        trained={name: every[arm.plan] for name, arm in ARMS.items()},
        plans=plans,
        curve=curve_plans(material, p.curve),
        tokens_per_clip=check_budgets(plans, budget),
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
        if name != "train" and not any(clip.event().any() for clip in study.clips if clip.split == name):
            raise InputError(f"no clip with an event in split {name!r} (see p0.eval_splits)")
    best, foreground = train_and_predict(_inputs(study, train, p), train, positions, p, device)
    names = [*ARMS, *(on_curve(total, kind) for total, kinds in study.curve.items() for kind in kinds)]
    return Answers(positions, dict(zip(names, best, strict=True)), dict(zip(names, foreground, strict=True)))


def on_curve(total: int, kind: str) -> str:
    """The name of a point of the budget curve among the arms."""
    return f"{kind}@{total}"


def _inputs(study: Study, train: np.ndarray, p: P0Params) -> Inputs:
    index = np.zeros(max(study.features) + 1, dtype=np.uint8)
    index[list(study.features)] = range(len(study.features))
    curve = [np.broadcast_to(plan, (p.seeds, *plan.shape)) for kinds in study.curve.values() for plan in kinds.values()]
    trained, judged = (
        torch.from_numpy(np.stack([index[plan] for plan in (*plans.values(), *curve)]))
        for plans in (study.trained, study.plans)
    )
    widths = {"score": 1, "features": study.audio_features.shape[-1], "plan": len(study.features)}
    seen = [arm.beside for arm in ARMS.values()] + ["none"] * len(curve)
    masks = [np.repeat([name == own for name in widths], list(widths.values())) for own in seen]
    features, beside = _tables(study, train, p)
    return Inputs(
        features=torch.from_numpy(features),
        beside=torch.from_numpy(beside),
        mask=torch.from_numpy(np.stack(masks).astype(np.float32)),
        plan=trained,
        targets=torch.from_numpy(targets(study.clips, study.classes)),
        classes=len(study.classes),
        eval_plan=judged,
    )


def _tables(study: Study, train: np.ndarray, p: P0Params) -> tuple[np.ndarray, np.ndarray]:
    """float32 [R, N, T, D], the visual features at each resolution, and [N, T, 11 + R], what stands beside: the score,
    the audio features and which resolution the anchored plan gives to the second."""
    plan = study.plans["anchored_topk"][0, ..., None] == np.array([*study.features])
    visual = np.stack(list(study.features.values()), dtype=np.float32)
    beside = np.concatenate([study.scores[..., None], study.audio_features, plan], axis=-1, dtype=np.float32)
    for table in (visual, beside) if p.standardize else ():
        standardized(table, train, out=table)
    return visual, beside
