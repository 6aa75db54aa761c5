"""Stage `p0`: cached features and eventness → every arm's accuracy, and the planned contrasts between them."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING

from avs.core.store import write_json_lines, write_metrics
from avs.localization.p0 import run_study
from stages import run

if TYPE_CHECKING:
    from avs.config import Config

OUT = Path("results/p0")


def main(config: Config) -> dict[str, int]:
    result = run_study(
        Path("data/cache"),
        Path("data/eventness"),
        k=config.k,
        anchors=config.anchors,
        budget=config.budget,
        p=config.p0,
        device=config.execution.device_names()[0],
    )
    write_metrics(OUT / "metrics.json", result.metrics)
    write_metrics(Path("results/headline.json"), result.headline)
    write_json_lines(OUT / "per_clip.jsonl", result.rows)
    write_metrics(OUT / "plots/arms.json", result.arms_plot)
    write_metrics(OUT / "plots/curve.json", result.curve_plot)
    write_metrics(OUT / "diagnosis.json", result.diagnosis)
    return {"clips": len(result.rows)}


if __name__ == "__main__":
    run(main)
