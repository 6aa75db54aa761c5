"""`dvc repro` of the whole DAG where nothing has changed, at AVE's size, beside DVC's floor, an empty pipeline."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path
from typing import Any

import yaml

from avs.core.clips import Clip, Failed, write_table
from benchmarks.speed import ave_size, clone
from benchmarks.speed.step import Clock, Found, Limit, Step

_TIMES = 5
_UP_TO_DATE = "Data and pipelines are up to date."


def prepare(folder: Path) -> None:
    """The DAG with AVE's outs and with outs of a line each; pipelines without a stage, and with 12 of the least."""
    for name, clips in (("full", ave_size.CLIPS), ("tiny", 1)):
        place = folder / name
        clone.make(place)
        for out in _outs(place):
            out.parent.mkdir(parents=True, exist_ok=True)
            out.write_text("{}\n") if out.suffix else _one_file(out)
        ave_size.write_media(place / "data/media/clips", clips)
        ave_size.write_features(place / "data/cache", place / "data/eventness", clips)
        write_table(place / "data/install/clips/clips.tsv", ave_size.table(clips), Clip)
        write_table(place / "data/install/clips/failures.tsv", [], Failed)
        clone.run(place, "dvc", "commit", "-q", "-f")
    least = {f"stage{n}": {"cmd": f"cp start {n}", "deps": ["start"], "outs": [str(n)]} for n in range(12)}
    for name, stages in (("empty", {}), ("twelve", least)):
        (folder / name).mkdir()
        (folder / name / "start").write_text("a line\n")
        (folder / name / "dvc.yaml").write_text(yaml.safe_dump({"stages": stages}))
        clone.commit(folder / name)
        clone.run(folder / name, "dvc", "init", "-q")
        clone.run(folder / name, "dvc", "repro", "-q")


def _outs(place: Path) -> Iterator[Path]:
    """All outs of dvc.yaml, those of a group once for each of its members."""
    for stage in yaml.safe_load((place / "dvc.yaml").read_text())["stages"].values():
        body = stage.get("do", stage)
        for out in (*body.get("outs", ()), *body.get("metrics", ())):
            name = out if isinstance(out, str) else next(iter(out))
            for key in stage.get("foreach", ("",)):
                yield place / name.replace("${key}", key)


def _one_file(folder: Path) -> None:
    folder.mkdir()
    (folder / "index.tsv").write_text("{}\n")


def _repro(place: Path) -> None:
    said = clone.run(place, "dvc", "repro")
    assert said.splitlines()[-1:] == [_UP_TO_DATE], said


def ours(folder: Path, clock: Clock) -> Found:
    return _timed(folder / "full", clock)


def alternative(folder: Path, clock: Clock) -> Found:
    """The empty pipeline; beside it, for the limit, our DAG with tiny outs, and 12 stages of one file each."""
    others = {name: _timed(folder / name, Clock())["once"] for name in ("tiny", "twelve")}
    return _timed(folder / "empty", clock) | others


def _timed(place: Path, clock: Clock) -> Found:
    """`once` is the seconds of one of them."""
    _repro(place)
    with clock:
        for _ in range(_TIMES):
            _repro(place)
    return {"once": clock.seconds / _TIMES}


def check(ours: Found, alternative: Found) -> dict[str, Any]:
    others = {name: alternative[name] for name in ("once", "twelve", "tiny")}
    return {"seconds_each": {name: round(seconds, 3) for name, seconds in ({"ours": ours["once"]} | others).items()}}


def limit(ours: Found, alternative: Found) -> Limit:
    why = (
        f"DVC takes {alternative['tiny']:.2f} s for a pipeline of this form whose outs are a few lines, most of it to "
        "read dvc.yaml, dvc.lock and, once a stage, params.yaml"
    )
    return Limit(alternative["once"] / alternative["tiny"], why)


STEP = Step(
    what=f"{_TIMES} times dvc repro of all 12 stages with nothing to do, {ave_size.CLIPS} clips (2.9 GB of outs, "
    "generated; those of speech are a line each)",
    alternative_is=f"{_TIMES} times dvc repro in a repository whose dvc.yaml has no stage: the least that DVC takes",
    goal=round(1 / 1.5, 2),
    prepare=prepare,
    ours=ours,
    alternative=alternative,
    check=check,
    limit=limit,
)
