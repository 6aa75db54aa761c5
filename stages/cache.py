"""Stage `cache`: media shards → frozen visual features of every second at every resolution of the budget."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING

from avs.vision.cache import cache_features
from stages import run

if TYPE_CHECKING:
    from avs.config import Config


def main(config: Config) -> dict[str, int]:
    media, out = Path("data/media/clips"), Path("data/cache")
    return cache_features(media, out, config.budget.resolutions, config.cache, config.execution)


if __name__ == "__main__":
    run(main)
