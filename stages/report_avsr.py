"""Stage `report@avsr`: the speech study's results and media → a page to look at, listen to and read."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING

from avs.report.machine import write_facts
from avs.report.speech_page import RUN, write_speech_page
from avs.report.speech_results import load_speech
from stages import run

if TYPE_CHECKING:
    from avs.config import Config

RESULTS, MEDIA = Path("results/avsr"), Path("data/media/speech")
OUT = Path("results/report/avsr")


def main(config: Config) -> dict[str, int]:
    results = load_speech(RESULTS, MEDIA)
    shown = write_speech_page(OUT, results, clips=config.report.clips)
    write_facts(OUT.parent / RUN, results.fingerprint, config)
    return {"clips": shown}


if __name__ == "__main__":
    run(main, "report@avsr")
