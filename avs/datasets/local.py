"""The user's own videos: a folder of them, and annotations in AVE's format or as a TSV."""

from __future__ import annotations

from pathlib import Path

from avs.core.errors import InputError
from avs.core.execute import ExecutionParams
from avs.core.params import params
from avs.datasets.annotations import Annotation, read_annotations, with_hashed_splits


@params
class LocalParams:
    """`annotations` is a file or a folder; the fractions serve only rows that come without a split."""

    videos: str = "data/local/videos"
    annotations: str = "data/local/Annotations.txt"
    seconds: int = 10
    val_fraction: float = 0.15
    test_fraction: float = 0.3

    def __post_init__(self) -> None:
        if self.seconds < 1:
            raise ValueError(f"seconds ({self.seconds}) must be >= 1")
        if min(self.val_fraction, self.test_fraction) < 0 or self.val_fraction + self.test_fraction >= 1:
            raise ValueError(
                f"val_fraction ({self.val_fraction}) and test_fraction ({self.test_fraction}) "
                "must be >= 0 and leave something for training"
            )


class Local:
    """`local` and `manifest` are two of this kind, so that two sets of one's own lie side by side."""

    def __init__(self, name: str, p: LocalParams) -> None:
        self._name, self._p = name, p

    def folder(self) -> Path:
        return Path(self._p.videos)

    def prepare(self, execution: ExecutionParams) -> None:
        if not self.folder().is_dir():
            raise InputError(f"data.{self._name}.videos ({self.folder()}) is not a folder")

    def annotations(self, check: bool = True) -> list[Annotation]:
        rows = read_annotations(Path(self._p.annotations), self._p.seconds, check)
        some = {bool(row.split) for row in rows} == {True, False}
        return rows if some and not check else with_hashed_splits(rows, self._p.val_fraction, self._p.test_fraction)
