"""Several sets of speech in one table: each clip's name begins with its set's, and `dataset_name` stays its own."""

from __future__ import annotations

from collections.abc import Mapping
from contextlib import suppress
from dataclasses import replace
from pathlib import Path
from typing import TYPE_CHECKING

from avs.core.execute import ExecutionParams
from avs.core.params import params
from avs.core.speech import Utterance, Word
from avs.core.store import item_key, raw_root

if TYPE_CHECKING:
    from avs.speech import SpeechSet

SETS = ("demo", "grid", "manifest", "mcorec", "lrs2", "vox2", "avyt")
_MADE = ("demo", "grid")  # that may be made or downloaded


@params
class MixtureParams:
    """sets: whose clips come together, each as its own block says; evaluate: sets whose clips outside of train are
    kept, empty: all. The published recipe with MCoRec is evaluated on MCoRec's alone: [mcorec]."""

    sets: tuple[str, ...] = ("lrs2", "mcorec")
    evaluate: tuple[str, ...] = ()

    def __post_init__(self) -> None:
        if not self.sets or len(set(self.sets)) < len(self.sets):
            raise ValueError(f"sets ({list(self.sets)}) must name at least one set, and each once")
        if unknown := [name for name in self.sets if name not in SETS]:
            raise ValueError(f"sets ({unknown[0]!r}) must be of {', '.join(SETS)}")
        if unknown := [name for name in self.evaluate if name not in self.sets]:
            raise ValueError(f"evaluate ({unknown[0]!r}) must be of the sets ({', '.join(self.sets)})")


class Mixture:
    def __init__(self, p: MixtureParams, sets: Mapping[str, SpeechSet]) -> None:
        self._p = p
        self._sets = {name: sets[name] for name in p.sets}

    def folder(self) -> Path:
        """A folder with a link to each set's, which `prepare` makes."""
        places = {name: str(one.folder().absolute()) for name, one in self._sets.items()}
        return raw_root() / f"speech-mixture-{item_key(**places)[:12]}"

    def prepare(self, execution: ExecutionParams) -> None:
        for name in sorted(self._sets, key=lambda name: name in _MADE):  # what is missing is told first
            self._sets[name].prepare(execution)
        for name, one in self._sets.items():
            _link(self.folder() / name, one.folder().absolute())

    def utterances(self) -> list[Utterance]:
        return [_named(name, row) for name, row in self._kept()]

    def words(self) -> list[Word]:
        return [replace(word, clip=_key(name, word.clip)) for name, one in self._sets.items() for word in one.words()]

    def _kept(self) -> list[tuple[str, Utterance]]:
        evaluated = self._p.evaluate or self._p.sets
        rows = [(name, row) for name, one in self._sets.items() for row in one.utterances()]
        return [(name, row) for name, row in rows if row.split == "train" or name in evaluated]


def _key(name: str, key: str) -> str:
    return f"{name}_{key}"


def _named(name: str, row: Utterance) -> Utterance:
    landmarks = f"{name}/{row.landmarks}" if row.landmarks else ""
    return replace(row, key=_key(name, row.key), video=f"{name}/{row.video}", landmarks=landmarks)


def _link(link: Path, target: Path) -> None:
    link.parent.mkdir(parents=True, exist_ok=True)
    with suppress(FileExistsError):  # the folder's name holds the target, so that it leads there
        link.symlink_to(target, target_is_directory=True)
