"""Stage `eventness`: media shards → per-second audio scores and features."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING

from avs.audio.scoring import score_clips
from stages import run

if TYPE_CHECKING:
    from avs.config import Config


def main(config: Config) -> dict[str, int]:
    return score_clips(Path("data/media/clips"), Path("data/eventness"), config.eventness, config.execution)


if __name__ == "__main__":
    run(main)
