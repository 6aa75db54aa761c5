"""A small study on disk, as the stages leave it, with names that no one should trust."""

from __future__ import annotations

from pathlib import Path

import numpy as np

from avs.core.clips import Clip, Failed, write_table
from avs.core.execute import ExecutionParams
from avs.core.media import write_media
from avs.core.store import sha256_file, write_array, write_json, write_json_lines, write_metrics
from avs.localization.anchor_eval import evaluate_anchors, recall_curves
from avs.localization.p0 import run_study
from avs.localization.train import P0Params
from avs.preprocess import preprocess
from avs.sampling.anchors import AnchorParams
from avs.sampling.tokens import BudgetParams

SECONDS, VIDEOS, CLIPS = 4, 3, 24
HOSTILE = '</script><img src=x onerror="window.hacked=1">\'&\u2028{{ 7*7 }}'
RTL = "\u202eمرحبا dlrow"
LONG = "x" * 10_000
LABELS = ("dog", HOSTILE, RTL, LONG)
NAME = '<img src=x onerror="window.hacked=2">%2e#&'  # of videos, so that keys hold it


def write_study(folder: Path) -> Path:
    """`media`, `results` and `params.yaml`'s worth of numbers below `folder`, from 24 clips of three videos."""
    names = [f"{NAME}{number}.mp4" for number in range(VIDEOS)]
    for number, name in enumerate(names):
        rng = np.random.default_rng(number)
        frames = [rng.integers(0, 255, (32, 48, 3), dtype=np.uint8) for _ in range(SECONDS)]
        tone = 8000 * np.sin(np.arange(SECONDS * 16000) * 0.1 * (1 + number))
        write_media(folder / "videos" / name, frames, fps=1, audio=tone.astype(np.int16))
    clips = [_clip(folder, row, names[row % VIDEOS]) for row in range(CLIPS)]
    inline = ExecutionParams(backend="inline")
    written, failed, _ = preprocess(clips, folder / "videos", folder / "media", inline)
    assert not failed
    write_table(folder / "media/failures.tsv", failed, Failed)
    table = [Clip(**{name: getattr(clip, name) for name in Clip.__dataclass_fields__}) for clip in written]
    _write_features(folder, table)
    _write_results(folder)
    return folder


def _clip(folder: Path, row: int, video: str) -> Clip:
    split = ("train", "test")[row % 2]
    digest = sha256_file(folder / "videos" / video)
    return Clip(f"{row}-{video[:-4]}", split, LABELS[row // 2 % 4], 1, 3, SECONDS, video, digest)


def _write_features(folder: Path, clips: list[Clip]) -> None:
    rng = np.random.default_rng(0)
    for name in ("cache", "eventness"):
        write_table(folder / f"{name}/index.tsv", clips, Clip)
    for resolution in (112, 208, 272):
        write_array(folder / f"cache/res_{resolution}.npy", rng.normal(size=(CLIPS, SECONDS, 5)).astype(np.float32))
    write_array(folder / "cache/motion.npy", rng.random((CLIPS, SECONDS), np.float32))
    write_json(folder / "cache/meta.json", {"patch_size": 16, "gflops": {"112": 1.0, "208": 2.0, "272": 5.0}})
    scores = rng.normal(size=(CLIPS, SECONDS)).astype(np.float32)
    scores[1] = 0  # flat: sampled uniformly
    write_array(folder / "eventness/scores.npy", scores)
    write_array(folder / "eventness/features.npy", rng.normal(size=(CLIPS, SECONDS, 10)).astype(np.float32))
    write_json(folder / "eventness/meta.json", {"scale": {"unit": "nat", "std_threshold": 0.1}, "failed_clips": 0})


def _write_results(folder: Path) -> None:
    p = P0Params(head="mlp", hidden=8, seeds=2, epochs=4, batch_size=4, lr=0.01, resamples=200)
    anchors, budget = AnchorParams(std_threshold=0.1), BudgetParams(low_res=112, base_res=208, high_res=272)
    study = run_study(folder / "cache", folder / "eventness", k=1, anchors=anchors, budget=budget, p=p)
    recall, rows = evaluate_anchors(folder / "eventness", k=1, anchors=anchors, splits=("test",))
    p0, anchor_eval = folder / "results/p0", folder / "results/anchor_eval"
    write_metrics(p0 / "metrics.json", study.metrics)
    write_metrics(folder / "results/headline.json", study.headline)
    write_json_lines(p0 / "per_clip.jsonl", study.rows)
    write_metrics(p0 / "plots/arms.json", study.arms_plot)
    write_metrics(p0 / "plots/curve.json", study.curve_plot)
    write_metrics(p0 / "diagnosis.json", study.diagnosis)
    write_metrics(anchor_eval / "metrics.json", recall)
    write_json_lines(anchor_eval / "per_clip.jsonl", rows)
    write_metrics(anchor_eval / "plots/recall.json", recall_curves(recall))
