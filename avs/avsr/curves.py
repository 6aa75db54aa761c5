"""Learning curves by DVCLive, for `dvc plots`. No time of day enters them, so that they can be a stage's outputs."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from pathlib import Path
from types import TracebackType

Row = Mapping[str, float]


class Curves:
    """A file for each number, `<folder>/plots/metrics/NAME.tsv`: step and value; and the last ones in `metrics.json`.

    What lies in `folder` is replaced by `rows`, which are all that a resumed training had logged: the files are then
    those of a training that was never stopped. Without a folder nothing is written.
    """

    def __init__(self, folder: Path | None, rows: Iterable[Row] = ()) -> None:
        self._live = None
        if folder is not None:
            from dvclive import Live  # takes a while, and most that import this train nothing

            self._live = Live(str(folder), save_dvc_exp=False, dvcyaml=None)
        for row in rows:
            self.log(row)

    def log(self, row: Row) -> None:
        """A row has a step, and numbers by their names."""
        if self._live is None:
            return
        self._live.step = int(row["step"])
        for name, value in row.items():
            if name != "step":
                self._live.log_metric(name, value)
        self._live.make_summary()

    def __enter__(self) -> Curves:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        if self._live is not None:
            self._live.end()
