"""Stage `install`: a data set and its annotations → the clip table `clips.tsv`, and `failures.tsv`."""

from __future__ import annotations

from pathlib import Path

from avs import datasets
from avs.core.clips import Clip, Failed, check_failures, write_table
from avs.core.execute import ExecutionParams
from avs.core.params import params
from avs.datasets import subsets
from stages import run

OUT = Path("data/install/clips")


@params
class Needs:
    """The blocks of params.yaml that the stage reads."""

    dataset: datasets.DatasetName
    data: datasets.DataParams
    execution: ExecutionParams


def main(config: Needs) -> dict[str, int]:
    dataset = datasets.open_dataset(config.dataset, config.data)
    clips, failed = datasets.install(dataset, config.execution)
    write_table(OUT / "clips.tsv", clips, Clip)
    write_table(OUT / "failures.tsv", failed, Failed)
    subsets.write_lists(OUT, dataset.annotations(), clips, datasets.TAGS.get(config.dataset, config.dataset))
    check_failures(failed, len(clips) + len(failed), config.data.max_failed_fraction)
    datasets.check_splits(clips)
    return {"clips": len(clips), "failed": len(failed)}


if __name__ == "__main__":
    run(main, needs=Needs)
