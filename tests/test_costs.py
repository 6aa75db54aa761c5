from pathlib import Path

import pytest

from avs.core.store import write_json
from avs.report.costs import StageCost, last_run, print_costs


def test_the_table_sets_the_last_run_beside(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.chdir(tmp_path)
    assert last_run() == {}
    write_json(Path("results/cost.json"), {"cache": {"seconds": 7.5, "clips": 3}})
    print_costs([StageCost("cache", 600, 3 << 30, 1 << 30), StageCost("p0", 9000, 1 << 20, 1 << 20)], last_run())
    said = capsys.readouterr().out
    for part in ("10.0 min", "7.5 s", "3.0 GiB", "2.5 h", "2.7 h"):
        assert part in said
