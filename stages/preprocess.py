"""Stage `preprocess`: the clip table → media shards with one frame a second and 16 kHz mono sound."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING

from avs.core.clips import Clip, check_failures, read_table
from avs.datasets import open_dataset
from avs.preprocess import preprocess
from stages import run

if TYPE_CHECKING:
    from avs.config import Config


def main(config: Config) -> dict[str, int]:
    clips = read_table(Path("data/install/clips/clips.tsv"), Clip)
    folder = open_dataset(config.dataset, config.data).folder()
    written, failed, computed = preprocess(clips, folder, Path("data/media/clips"), config.execution)
    check_failures(failed, len(clips), config.data.max_failed_fraction)
    return {"clips": len(written), "failed": len(failed), "computed": computed}


if __name__ == "__main__":
    run(main)
