"""Stage `anchor_eval`: eventness → recall of the anchors beside its controls."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING

from avs.core.store import write_json_lines, write_metrics
from avs.localization.anchor_eval import evaluate_anchors, recall_curves
from stages import run

if TYPE_CHECKING:
    from avs.config import Config

OUT = Path("results/anchor_eval")


def main(config: Config) -> dict[str, int]:
    metrics, rows = evaluate_anchors(
        Path("data/eventness"), k=config.k, anchors=config.anchors, splits=config.p0.eval_splits
    )
    write_metrics(OUT / "metrics.json", metrics)
    write_json_lines(OUT / "per_clip.jsonl", rows)
    write_metrics(OUT / "plots/recall.json", recall_curves(metrics))
    return {"clips": len(rows)}


if __name__ == "__main__":
    run(main)
