"""Stage `report`: a study's results and media → a page to look at, and beside it what differs from run to run."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING

from avs.report.page import write_page
from avs.report.results import load_results
from avs.report.run_facts import write_run
from stages import run

if TYPE_CHECKING:
    from avs.config import Config

RESULTS, MEDIA = Path("results"), Path("data/media/clips")
OUT = RESULTS / "report/avs"


def main(config: Config) -> dict[str, int]:
    results = load_results(RESULTS, MEDIA)
    shown = write_page(OUT, results, clips=config.report.clips, dataset=config.dataset, effect=config.data.demo.effect)
    write_run(OUT.parent / "run.js", results, config)
    return {"clips": shown}


if __name__ == "__main__":
    run(main)
