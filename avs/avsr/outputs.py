"""What the speech study leaves behind: networks, metrics, hypotheses, and what training cost."""

from __future__ import annotations

from pathlib import Path

from avs.avsr.checkpoints import write_network
from avs.avsr.scores import write_hypotheses
from avs.avsr.study import Study
from avs.core.store import write_metrics


def write_outputs(study: Study, models: Path, out: Path) -> dict[str, int]:
    """Write `recognizer.safetensors`, as `transcribe` takes it, `seanet.safetensors`, metrics.json and hypotheses.tsv;
    returned are counts, seconds a step and megabytes of what was trained in this run."""
    write_network("avhubert", study.recognizer, models / "recognizer.safetensors", trained=_steps(study))
    if study.seanet is not None:
        write_network("seanet", study.seanet, models / "seanet.safetensors", trained=_steps(study))
    metrics = study.metrics()
    write_metrics(out / "metrics.json", metrics)
    write_hypotheses(out / "hypotheses.tsv", study.rows)
    cost = {"clips": int(metrics["clips"])}
    for name, fitted in study.fitted.items():
        if fitted.seconds is not None:
            cost |= {f"{name}_step_ms": round(1000 * fitted.seconds), f"{name}_peak_mb": int(fitted.peak_mb or 0)}
    return cost


def _steps(study: Study) -> dict[str, int]:
    return {name: fitted.step for name, fitted in study.fitted.items()}
