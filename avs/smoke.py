"""The smoke check: a tiny generated data set through every stage, in a temporary folder, and what must hold of it.

`python -m avs smoke`, or `python -m avs.smoke all`, in a minute; it needs neither network nor DVC.
"""

from __future__ import annotations

import sys
import tempfile
import time
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np

from avs.audio.eventness import EventnessParams
from avs.audio.scoring import score_clips
from avs.core.clips import BACKGROUND, Clip, Failed, check_failures, read_table, targets, write_table
from avs.core.errors import InputError
from avs.core.execute import ExecutionParams
from avs.core.store import own_root, write_array
from avs.datasets import DataParams, install, open_dataset
from avs.datasets.demo import DemoParams
from avs.datasets.local import LocalParams
from avs.localization.anchor_eval import evaluate_anchors
from avs.localization.arms import ARMS
from avs.localization.p0 import Result, run_study
from avs.localization.train import P0Params
from avs.preprocess import MediaShards, preprocess
from avs.sampling.anchors import AnchorParams
from avs.sampling.tokens import BudgetParams, tokens
from avs.vision.cache import CacheParams, cache_features

K = 2
DATA = DataParams(DemoParams(train=20, val=1, test=12), LocalParams())
BUDGET = BudgetParams(low_res=32, base_res=64, high_res=128)
P0 = P0Params(head="mlp", hidden=32, seeds=2, batch_size=4, lr=0.01, resamples=500, curve=())


def smoke(weights: str = "random", execution: ExecutionParams | None = None) -> None:
    """Run everything and print each thing that was checked. Raises InputError naming what does not hold.

    weights: `random` needs no network; `published` takes the default encoder's own.
    """
    started = time.perf_counter()
    with tempfile.TemporaryDirectory(prefix="avs-smoke-") as folder, own_root(Path(folder)):
        _check_stages(Path(folder), None if weights == "published" else weights, execution or ExecutionParams())
    print(f"all is well ({time.perf_counter() - started:.1f} s)")


def _check_stages(folder: Path, weights: str | None, execution: ExecutionParams) -> None:
    media, scores, cache = folder / "media", folder / "eventness", folder / "cache"
    _check_media(media, execution)
    audio, visual = EventnessParams(), CacheParams(weights=weights)
    counts = [score_clips(media, scores, audio, execution) for _ in range(2)]
    _hold("eventness: finite scores and features of every second", _finite(scores, "scores.npy", "features.npy"))
    counts += [cache_features(media, cache, BUDGET.resolutions, visual, execution) for _ in range(2)]
    _hold("cache: finite features at every resolution", _finite(cache, *(f"res_{r}.npy" for r in BUDGET.resolutions)))
    made = [count["computed"] for count in counts]
    _hold("store: a second run computes nothing again", made[0] > 0 < made[2] and made[1] == made[3] == 0)
    _check_anchors(scores)
    _check_study(_study(cache, scores, epochs=1), read_table(cache / "index.tsv", Clip))
    _plant(cache)
    _check_planted(_study(cache, scores, epochs=20))


def _check_media(media: Path, execution: ExecutionParams) -> None:
    dataset = open_dataset("demo", DATA)
    clips, failed = install(dataset, execution)
    check_failures(failed, len(clips), 0)
    wanted = DATA.demo.train + DATA.demo.val + DATA.demo.test
    _hold(f"install: {wanted} clips, none failed", len(clips) == wanted)
    rows, failed, computed = preprocess(clips, dataset.folder(), media, execution)
    write_table(media / "failures.tsv", failed, Failed)
    _hold("preprocess: every clip decoded once, no flag raised", computed == wanted and not any(r.flags for r in rows))
    shards = MediaShards(media)
    whole = all(len(shards.frames(c)) == c.seconds and shards.waveform(c).size == 16000 * c.seconds for c in rows[:5])
    _hold("preprocess: a frame and 16000 samples a second", whole)


def _check_anchors(eventness: Path) -> None:
    metrics, rows = evaluate_anchors(eventness, k=K, anchors=AnchorParams(), splits=["test"])
    inside = all(len(set(row["anchors"]) & set(range(len(row["scores"])))) == K for row in rows)
    _hold("anchors: as many as asked for, distinct, inside the clip", inside)
    found, chance = metrics["anchors"]["recall_d0"], metrics["random"]["recall_d0"]
    # energy is right in the three quarters of the clips that have no other, louder sound
    _hold(f"anchors: recall {found:.2f} beats chance {chance:.2f}", found > chance)


def _check_study(result: Result, clips: list[Clip]) -> None:
    spent = {arm: _spent(result, arm) for arm, one in ARMS.items() if one.budget_matched}
    equal = len(set().union(*spent.values())) == 1
    total = clips[0].seconds * tokens(BUDGET.base_res)
    _hold(f"plans: exactly {total} tokens a clip in each of {len(spent)} arms", equal and spent["uniform"] == {total})
    arms = result.metrics["arms"]
    shares = [row[measure]["mean"] for row in arms.values() for measure in ("accuracy", "class_event")]
    judged = set(arms) == set(ARMS) and 0 <= min(shares) <= max(shares) <= 1
    _hold("p0: every arm is judged, by shares between 0 and 1", judged)


def _spent(result: Result, arm: str) -> set[int]:
    """The different totals of tokens that an arm spends on the judged clips, counted from its plans."""
    plans = [plan for row in result.rows for plan in _plans(row["plans"][arm])]
    return {sum(tokens(resolution) for resolution in plan) for plan in plans}


def _plans(plan: list[Any]) -> list[list[int]]:
    """One plan a seed, also where all seeds share one."""
    return plan if isinstance(plan[0], list) else [plan]


def _plant(cache: Path) -> None:
    """Features with a known answer: event seconds show at any resolution, their class at the highest only."""
    clips = read_table(cache / "index.tsv", Clip)
    classes = sorted({clip.label for clip in clips})
    answer = targets(clips, ["background", *classes])
    rng = np.random.default_rng(0)
    for resolution in BUDGET.resolutions:
        planted = 0.1 * rng.normal(size=(*answer.shape, len(classes) + 1))
        planted[..., BACKGROUND] += answer != BACKGROUND
        if resolution == BUDGET.high_res:
            planted[..., 1:] += 2 * (answer[..., None] == np.arange(1, len(classes) + 1))
        write_array(cache / f"res_{resolution}.npy", planted.astype(np.float32))


def _check_planted(result: Result) -> None:
    arms = result.metrics["arms"]
    uniform, oracle = (arms[name]["class_event"]["mean"] for name in ("uniform", "oracle_topk"))
    accuracy = arms["oracle_topk"]["accuracy"]["mean"]
    row = result.metrics["contrasts"]["class_event"]["anchored_topk-uniform"]
    _hold(
        f"planted: class right in {oracle:.2f} with high resolution on it, {uniform:.2f} without", oracle > 2 * uniform
    )
    _hold(f"planted: accuracy {accuracy:.2f} beats always answering background", accuracy > _background(result))
    _hold(f"planted: anchored beats uniform by {row['diff']:.2f}, at least {row['ci_low']:.2f}", row["ci_low"] > 0)


def _background(result: Result) -> float:
    return float(np.mean([np.mean(np.array(row["target"]) == BACKGROUND) for row in result.rows]))


def _study(cache: Path, eventness: Path, epochs: int) -> Result:
    p = replace(P0, epochs=epochs)
    return run_study(cache, eventness, k=K, anchors=AnchorParams(), budget=BUDGET, p=p)


def _finite(folder: Path, *names: str) -> bool:
    return all(np.isfinite(np.load(folder / name)).all() for name in names)


def _hold(what: str, holds: bool) -> None:
    if not holds:
        raise InputError(f"smoke check failed: {what}")
    print(f"  ok  {what}", flush=True)


if __name__ == "__main__":
    try:
        smoke()
    except InputError as error:
        sys.exit(f"error: {error}")
