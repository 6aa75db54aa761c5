"""A few of the trials of each family; all of them: `make torture`."""

from functools import partial
from pathlib import Path

import pytest

from tests.reliability import kills, lacks, mutations, together
from tests.reliability.mutate import mutated
from tests.reliability.soak import growth
from tests.reliability.trials import faults, read_journal, run_trials

SCENARIOS = {scenario.name: scenario for scenario in kills.SCENARIOS}


@pytest.fixture(scope="module")
def preprocess(tmp_path_factory: pytest.TempPathFactory) -> kills.Reference:
    """The stage `preprocess`, undisturbed."""
    return kills.undisturbed(SCENARIOS["preprocess"], tmp_path_factory.mktemp("reference"))


def test_hostile_files_are_read_or_refused(tmp_path: Path) -> None:
    seeds = range(4 * len(mutations.NAMES))
    with mutations.open_cage() as cage:
        rows = run_trials(tmp_path / "journal", "mutations", seeds, partial(mutations.trial, cage))
    assert not faults(rows)
    assert {row["outcome"] for row in rows} == {"taken", "refused"}


@pytest.mark.parametrize("seed", range(2))
def test_a_killed_stage_loses_nothing(preprocess: kills.Reference, seed: int, tmp_path: Path) -> None:
    assert "fault" not in kills.trial(SCENARIOS["preprocess"], preprocess, seed, tmp_path)


def test_two_at_once_end_as_one_does(preprocess: kills.Reference, tmp_path: Path) -> None:
    assert "fault" not in together.trial(SCENARIOS["preprocess"], preprocess, 0, tmp_path)


@pytest.mark.skipif(lacks.needs() is not None, reason=str(lacks.needs()))
@pytest.mark.parametrize("lack", sorted(lacks.LACKS))
def test_what_a_machine_lacks_is_told(preprocess: kills.Reference, lack: str, tmp_path: Path) -> None:
    row = lacks.trial(SCENARIOS["preprocess"], preprocess, 0, tmp_path, lack)
    assert "fault" not in row, row


def test_a_seed_gives_one_file() -> None:
    good = [b"some bytes of a file", b"others"]
    files = [mutated(seed, good, text=False) for seed in range(50)]
    assert files == [mutated(seed, good, text=False) for seed in range(50)]
    assert len(set(files)) > 40


def test_trials_go_on_where_they_stopped(tmp_path: Path) -> None:
    journal, ran = tmp_path / "journal", []

    def trial(seed: int, folder: Path) -> dict[str, int]:
        ran.append(seed)
        assert list(folder.iterdir()) == []
        return {"square": seed**2}

    run_trials(journal, "trials", range(3), trial)
    journal.write_text(journal.read_text() + '{"seed": 3, "squ')  # torn by a kill
    rows = run_trials(journal, "trials", range(5), trial)
    assert ran == [0, 1, 2, 3, 4]
    assert [row["square"] for row in rows] == [0, 1, 4, 9, 16]
    assert len(read_journal(journal)) == 5


def test_what_grows_is_found() -> None:
    steady, growing = [{"mib": 100 + n % 3} for n in range(21)], [{"mib": 100 + 5 * n} for n in range(21)]
    assert growth(steady, "mib") == pytest.approx(1, abs=0.03)
    assert growth(growing, "mib") > 1.5
