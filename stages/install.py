"""Stage `install`: a data set and its annotations → the clip table `clips.tsv`, and `failures.tsv`."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING

from avs import datasets
from avs.core.clips import Clip, Failed, check_failures, write_table
from avs.datasets import subsets
from stages import run

if TYPE_CHECKING:
    from avs.config import Config

OUT = Path("data/install/clips")


def main(config: Config) -> dict[str, int]:
    dataset = datasets.open_dataset(config.dataset, config.data)
    clips, failed = datasets.install(dataset, config.execution)
    write_table(OUT / "clips.tsv", clips, Clip)
    write_table(OUT / "failures.tsv", failed, Failed)
    subsets.write_lists(OUT, dataset.annotations(), clips, datasets.TAGS.get(config.dataset, config.dataset))
    check_failures(failed, len(clips) + len(failed), config.data.max_failed_fraction)
    datasets.check_splits(clips)
    return {"clips": len(clips), "failed": len(failed)}


if __name__ == "__main__":
    run(main)
