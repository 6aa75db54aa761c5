"""What of a run differs each time: environment, cost, pace, looks at the test split. It lies beside the page."""

from __future__ import annotations

import time
from collections.abc import Iterable, Mapping
from itertools import cycle, islice
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np

from avs.report import figures
from avs.report.looks import count_looks
from avs.report.machine import write_facts
from avs.report.results import Results
from avs.vision.encoder import Encoder, load_encoder

if TYPE_CHECKING:
    from avs.config import Config

_PASSES = 3


def write_run(path: Path, results: Results, config: Config) -> None:
    """Write the script `run.js`, with the fingerprint of the results that it belongs to."""
    clip = results.media.clips[0]
    pace = encoding_pace(results.media.frames(clip), _resolutions(results), config)
    arms = {name: {"seconds": seconds} for name, seconds in arm_seconds(results.rows, pace).items()}
    bounds = {row["arm"]: row for row in results.arms_plot}
    paces = ", ".join(f"{1000 * seconds:.0f} ms at {resolution}" for resolution, seconds in sorted(pace.items()))
    write_facts(
        path,
        results.fingerprint,
        config,
        looks=count_looks().text,
        seconds_figure=figures.efficiency("seconds", arms, bounds),
        seconds_note=f"Measured when the page was made, best of {_PASSES} passes: "
        f"a frame takes {paces} pixels. A machine that was busy then shows here.",
    )


def encoding_pace(frames: list[np.ndarray], resolutions: Iterable[int], config: Config) -> dict[int, float]:
    """Seconds that the encoder takes for a frame at each resolution, here and now; its weights do not matter."""
    device = config.execution.device_names()[0]
    encoder = load_encoder(config.cache.encoder, weights="random", device=device, dtype=config.cache.dtype)
    images = {}
    for resolution in resolutions:
        whole = list(islice(cycle(frames), encoder.batch_size(resolution)))  # it always runs on as many
        images[resolution] = encoder.prepare(whole, resolution)
    passes = [{r: _timed(encoder, batch) / len(batch) for r, batch in images.items()} for _ in range(_PASSES)]
    return {resolution: min(times[resolution] for times in passes) for resolution in images}


def arm_seconds(rows: Iterable[Mapping[str, Any]], pace: Mapping[int, float]) -> dict[str, float]:
    """Seconds to encode a clip by each arm's plan, mean over clips and seeds."""
    spent: dict[str, list[float]] = {}
    for row in rows:
        for arm, plan in row["plans"].items():
            seconds = np.vectorize(pace.__getitem__, otypes=[float])(np.atleast_2d(plan))
            spent.setdefault(arm, []).append(float(seconds.sum(axis=1).mean()))
    return {arm: float(np.mean(seconds)) for arm, seconds in spent.items()}


def _timed(encoder: Encoder, images: np.ndarray) -> float:
    started = time.perf_counter()
    encoder.embed(images)
    return time.perf_counter() - started


def _resolutions(results: Results) -> list[int]:
    return sorted({int(r) for row in results.rows for plan in row["plans"].values() for r in np.unique(plan)})
