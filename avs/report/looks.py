"""How often the test split was looked at: the committed runs and DVC's experiments, and with how many settings."""

from __future__ import annotations

import json
import os
import re
import subprocess
import sys
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import yaml

BASELINE = "uniform"
METRICS = "results/p0/metrics.json"
SEEN = ("install@clips", "preprocess@clips", "eventness", "cache", "p0")  # the stages whose parameters are a setting
LIMIT = 20.0  # seconds that one question to Git or DVC may take

_ID = 40  # hexadecimal digits of a commit


@dataclass(frozen=True)
class Looks:
    """`commits` changed results on the test split of the data set at hand, finished `experiments` gave some;
    `settings` are the distinct sets of parameters among them and the run at hand. None where it is unknown: `text`
    says why, and how far the `baseline` (accuracy of each of those with the settings at hand) wandered."""

    commits: int | None
    experiments: int | None
    settings: int | None
    text: str
    baseline: tuple[float, ...] = ()


class _Unknown(Exception):
    """Git or DVC cannot tell; the message says why."""


@dataclass(frozen=True)
class _Run:
    """What dvc.lock says of a run, and the baseline's accuracy in it."""

    dataset: str
    on_test: bool
    setting: dict[str, Any]
    baseline: float | None

    def alike(self, other: _Run) -> bool:
        """Whether they agree on every parameter that both have: one that came later does not make another setting."""
        return all(self.setting[name] == other.setting[name] for name in self.setting.keys() & other.setting.keys())


def count_looks(folder: Path = Path(), limit: float = LIMIT) -> Looks:
    """Count over all branches of the clone in `folder`; no question to Git or DVC takes more than `limit` seconds."""
    try:
        now = _read_run(_lock(folder), "")
        committed = _of_data_set(now, folder, _commits(folder, limit), limit)
    except (ValueError, _Unknown) as error:
        return Looks(None, None, None, f"Looks at the test split: unknown ({error}).")
    try:
        tried: list[_Run] | None = _of_data_set(now, folder, _experiments(folder, limit), limit)
        why = ""
    except _Unknown as error:
        tried, why = None, f" ({error})"
    runs = committed + (tried or [])
    settings = _settings([run for run in (now, *runs) if run.on_test])
    baseline = tuple(run.baseline for run in runs if run.alike(now) and run.baseline is not None)
    experiments = None if tried is None else len(tried)
    text = _text(now.dataset, len(committed), experiments, why, settings, baseline, _shallow(folder, limit))
    return Looks(len(committed), experiments, settings, text, baseline)


def _lock(folder: Path) -> str:
    try:
        return (folder / "dvc.lock").read_text()
    except OSError as error:
        raise _Unknown("dvc.lock is not there; run: dvc repro") from error


def _settings(runs: Sequence[_Run]) -> int:
    distinct: list[_Run] = []
    for run in runs:
        if not any(run.alike(other) for other in distinct):
            distinct.append(run)
    return len(distinct)


def _text(
    dataset: str,
    commits: int,
    experiments: int | None,
    why: str,
    settings: int,
    baseline: tuple[float, ...],
    shallow: bool,
) -> str:
    tried = f"an unknown number of experiments{why}" if experiments is None else _count(experiments, "experiment")
    least = "at least " if shallow or experiments is None else ""
    text = f"Looks at the test split of {dataset}: {least}{_count(commits, 'commit')} and {tried}, "
    text += f"with {least}{_count(settings, 'setting')}."
    if settings > 1:
        text += " No p value here is corrected for a choice among them: choose on val."
    if len(baseline) > 1:
        text += (
            f" With the settings at hand, {BASELINE} had accuracies from {min(baseline):.3f} to {max(baseline):.3f}."
        )
    return text


def _count(number: int, name: str) -> str:
    return f"{number} {name}{'' if number == 1 else 's'}"


def _commits(folder: Path, limit: float) -> list[str]:
    """The commits on any branch or tag that changed the metrics."""
    everywhere = ("HEAD", "--branches", "--remotes", "--tags")
    return _ask(folder, limit, "git", "log", "--format=%H", *everywhere, "--", METRICS).split()


def _experiments(folder: Path, limit: float) -> list[str]:
    """The commits of DVC's finished experiments, whatever commit they started from."""
    # refs/exps/<two digits>/<the other digits of the commit that it started from>/<name>
    names = _ask(folder, limit, "git", "for-each-ref", "--format=%(refname)", "refs/exps").split()
    parts = [name.split("/") for name in names]
    starts = sorted({p[2] + p[3] for p in parts if len(p) == 5 and len(p[2] + p[3]) == _ID})
    if not starts:
        return []
    asked = (part for start in starts for part in ("--rev", start))
    shown = _ask(folder, limit, sys.executable, "-m", "dvc", "exp", "show", "--json", "--hide-queued", *asked)
    try:
        return sorted(set(_finished(json.loads(shown))))
    except (ValueError, LookupError, TypeError, AttributeError) as error:
        raise _Unknown("dvc exp show speaks in a way that is not known here") from error


def _finished(shown: list[dict[str, Any]]) -> Iterator[str]:
    for start in shown:
        for experiment in start.get("experiments") or ():
            last = experiment["revs"][0]
            if (last.get("data") or {}).get("metrics", {}).get(METRICS, {}).get("data"):
                yield last["rev"]


def _of_data_set(now: _Run, folder: Path, revisions: list[str], limit: float) -> list[_Run]:
    """The runs at these commits that are on the test split of the data set at hand."""
    runs = []
    for revision in revisions:
        try:
            run = _read_run(*(_ask(folder, limit, "git", "show", f"{revision}:./{f}") for f in ("dvc.lock", METRICS)))
        except (_Unknown, ValueError):
            continue  # a commit that removed them, or one from before DVC: nothing to look at
        if run.on_test and run.dataset == now.dataset:
            runs.append(run)
    return runs


def _read_run(lock: str, metrics: str) -> _Run:
    """A run from the text of its dvc.lock and metrics. Raises ValueError where the lock knows of no run of p0."""
    try:
        stages = yaml.load(lock, Loader=getattr(yaml, "CSafeLoader", yaml.SafeLoader))["stages"]
        params = [stages[name].get("params", {}).get("params.yaml", {}) for name in SEEN]
        setting = dict(_leaves({name: value for part in params for name, value in part.items()}))
        dataset, splits = setting["dataset"], setting["p0.eval_splits"]
    except (yaml.YAMLError, KeyError, TypeError, AttributeError) as error:
        raise ValueError("dvc.lock holds no run of the study; run: dvc repro") from error
    others = re.compile(rf"data\.(?!{re.escape(str(dataset))}\.)\w+\.")  # blocks of other data sets
    setting = {name: value for name, value in setting.items() if not others.match(name)}
    return _Run(dataset, "test" in splits, setting, _accuracy(metrics))


def _leaves(tree: Mapping[str, Any], prefix: str = "") -> Iterator[tuple[str, Any]]:
    for name, value in tree.items():
        if isinstance(value, dict):
            yield from _leaves(value, f"{prefix}{name}.")
        else:
            yield f"{prefix}{name}", value


def _accuracy(metrics: str) -> float | None:
    try:
        found: Mapping[str, Any] = json.loads(metrics)["arms"][BASELINE]["accuracy"]
        return float(found["mean"])
    except (ValueError, KeyError, TypeError):
        return None


def _shallow(folder: Path, limit: float) -> bool:
    return _ask(folder, limit, "git", "rev-parse", "--is-shallow-repository").strip() == "true"


def _ask(folder: Path, limit: float, *command: str) -> str:
    """What the command prints. Raises _Unknown where it cannot run, fails, or takes too long."""
    name = "dvc" if "dvc" in command else "git"
    quiet = os.environ | {"DVC_NO_ANALYTICS": "1", "GIT_OPTIONAL_LOCKS": "0"}
    try:
        done = subprocess.run(
            command, cwd=folder, env=quiet, capture_output=True, text=True, check=True, timeout=limit, errors="replace"
        )
    except OSError as error:
        raise _Unknown(f"{name}: {error.strerror}") from error
    except subprocess.TimeoutExpired as error:
        raise _Unknown(f"{name} took more than {limit:g} s") from error
    except subprocess.CalledProcessError as error:
        raise _Unknown(f"{name}: {' '.join(error.stderr.split()[:20]) or error.returncode}") from error
    return done.stdout
