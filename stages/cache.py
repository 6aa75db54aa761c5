"""Stage `cache`: media shards → frozen visual features of every second at every resolution of the budget."""

from __future__ import annotations

from pathlib import Path

from avs.core.execute import ExecutionParams
from avs.core.params import params
from avs.sampling.tokens import BudgetParams
from avs.vision.cache import CacheParams, cache_features
from stages import run


@params
class Needs:
    """The blocks of params.yaml that the stage reads."""

    budget: BudgetParams
    cache: CacheParams
    execution: ExecutionParams


def main(config: Needs) -> dict[str, int]:
    media, out = Path("data/media/clips"), Path("data/cache")
    return cache_features(media, out, config.budget.resolutions, config.cache, config.execution)


if __name__ == "__main__":
    run(main, needs=Needs)
