"""params.yaml as one typed tree: each block is a dataclass that lives beside the code that uses it."""

from __future__ import annotations

import os

from avs.audio.eventness import EventnessParams
from avs.avsr.recipes import AvsrParams
from avs.core.execute import ExecutionParams
from avs.core.params import params, read
from avs.datasets import DataParams, DatasetName
from avs.lips.features import MuseParams
from avs.lips.preprocess import LipsParams
from avs.localization.train import P0Params
from avs.report.selection import ReportParams
from avs.sampling.anchors import AnchorParams
from avs.sampling.tokens import BudgetParams
from avs.speech import SpeechDataParams, SpeechName
from avs.vision.cache import CacheParams


@params
class Config:
    """All parameters; `k` is the number of anchors a clip."""

    k: int
    dataset: DatasetName
    data: DataParams
    eventness: EventnessParams
    anchors: AnchorParams
    budget: BudgetParams
    cache: CacheParams
    p0: P0Params
    report: ReportParams
    speech_dataset: SpeechName
    speech_data: SpeechDataParams
    lips: LipsParams
    muse: MuseParams
    avsr: AvsrParams
    execution: ExecutionParams

    def __post_init__(self) -> None:
        if self.k < 0:
            raise ValueError(f"k ({self.k}) must be >= 0")


def load_config(path: str | os.PathLike[str] = "params.yaml") -> Config:
    """Read and check all of params.yaml, so that a mistake anywhere in it is found before any work starts."""
    return read(Config, path)
