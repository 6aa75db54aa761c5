"""Stage `preprocess`: the clip table → media shards with one frame a second and 16 kHz mono sound."""

from __future__ import annotations

from pathlib import Path

from avs.core.clips import Clip, Failed, check_failures, read_table, write_table
from avs.core.execute import ExecutionParams
from avs.core.params import params
from avs.datasets import DataParams, DatasetName, open_dataset
from avs.datasets.demo import Demo
from avs.preprocess import preprocess
from stages import run

INSTALLED, OUT = Path("data/install/clips"), Path("data/media/clips")


@params
class Needs:
    """The blocks of params.yaml that the stage reads."""

    dataset: DatasetName
    data: DataParams
    execution: ExecutionParams


def main(config: Needs) -> dict[str, int]:
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
    run(main, needs=Needs)
