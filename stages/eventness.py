"""Stage `eventness`: media shards → per-second audio scores and features."""

from __future__ import annotations

from pathlib import Path

from avs.audio.eventness import EventnessParams
from avs.audio.scoring import score_clips
from avs.core.execute import ExecutionParams
from avs.core.params import params
from stages import run


@params
class Needs:
    """The blocks of params.yaml that the stage reads."""

    eventness: EventnessParams
    execution: ExecutionParams


def main(config: Needs) -> dict[str, int]:
    return score_clips(Path("data/media/clips"), Path("data/eventness"), config.eventness, config.execution)


if __name__ == "__main__":
    run(main, needs=Needs)
