"""Stage `muse_precompute`: mouth crops → MuSE features of every clip, which steer SEANet."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING

from avs.lips.cache import muse_precompute
from stages import run

if TYPE_CHECKING:
    from avs.config import Config


def main(config: Config) -> dict[str, int]:
    return muse_precompute(Path("data/media/speech"), Path("data/muse"), config.muse, config.execution)


if __name__ == "__main__":
    run(main)
