"""Stage `preprocess`: the clip table → media shards with one frame a second and 16 kHz mono sound."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING

from avs.core.clips import Clip, Failed, check_failures, read_table, write_table
from avs.datasets import open_dataset
from avs.datasets.demo import Demo
from avs.preprocess import preprocess
from stages import run

if TYPE_CHECKING:
    from avs.config import Config


INSTALLED, OUT = Path("data/install/clips"), Path("data/media/clips")


def main(config: Config) -> dict[str, int]:
    clips = read_table(INSTALLED / "clips.tsv", Clip)
    missing = read_table(INSTALLED / "failures.tsv", Failed)
    dataset = open_dataset(config.dataset, config.data)
    if isinstance(dataset, Demo):  # its videos can be made again; to fetch others is for install
        dataset.prepare(config.execution)
    written, failed, computed = preprocess(clips, dataset.folder(), OUT, config.execution)
    write_table(OUT / "failures.tsv", missing + failed, Failed)
    check_failures(failed, len(clips), config.data.max_failed_fraction)
    return {"clips": len(written), "failed": len(failed), "computed": computed}


if __name__ == "__main__":
    run(main)
