"""Stage `avsr_train`: prepared speech and MuSE features → trained networks, and what they understand in which noise."""

from __future__ import annotations

import sys
from pathlib import Path
from typing import TYPE_CHECKING

from avs.avsr import launch
from avs.avsr.outputs import write_outputs
from avs.avsr.study import run_study
from stages import run

if TYPE_CHECKING:
    from avs.config import Config

MEDIA, MUSE, MIXTURES = Path("data/media/speech"), Path("data/muse"), Path("data/mixtures")
MODELS, OUT = Path("models/avsr"), Path("results/avsr")


def main(config: Config) -> dict[str, int]:
    devices = config.execution.device_names()
    if len(devices) > 1 and not launch.is_worker():
        launch.spread("stages.avsr_train", devices)  # they train; what they found is in the store when this goes on
    curves, voices = OUT / "curves", OUT / "voices"
    study = run_study(MEDIA, MUSE, MIXTURES, config.avsr, curves=curves, voices=voices, device=devices[0])
    if study is None:
        return {}
    for note in study.notes:
        print(f"avsr_train: {note}", file=sys.stderr)
    return write_outputs(study, MODELS, OUT)


if __name__ == "__main__":
    run(main)
