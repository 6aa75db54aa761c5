import json
import shutil
import subprocess
from pathlib import Path

import pytest

from avs.core.errors import InputError
from avs.report.against import changed_clips, changes, differing
from avs.report.page import write_page
from avs.report.results import Results, load_results

pytestmark = pytest.mark.skipif(not shutil.which("git"), reason="git is not installed")


@pytest.fixture
def results(page_study: Path) -> Results:
    return load_results(page_study / "results", page_study / "media")


@pytest.fixture
def repository(page_study: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A Git repository (no DVC) whose first commit has the study's numbers, and k = 2."""
    monkeypatch.chdir(tmp_path)
    (tmp_path / "results/p0").mkdir(parents=True)
    for name in ("results/p0/metrics.json", "results/headline.json"):
        shutil.copy(page_study / name, tmp_path / name)
    Path("params.yaml").write_text("k: 2\nanchors: {shift: 0}\n")
    for command in ("init -q", "add .", "-c user.name=t -c user.email=t@example.org commit -qm <b>first</b>"):
        subprocess.run(["git", *command.split(" ")], check=True)
    return tmp_path


def row(clip: str, answers: list[list[int]], target: tuple[int, ...] = (0, 1)) -> dict:
    return {"clip": clip, "target": list(target), "answers": {"anchored_topk": answers, "uniform": [[0, 1]]}}


def test_leaves_that_differ_are_found_wherever_they_are() -> None:
    before, now = {"a": {"b": 1, "c": 2}, "d": [1]}, {"a": {"b": 1, "c": 3}, "d": [1], "e": None}
    assert differing(before, now) == [("a.c", 2, 3), ("e", None, None)]
    assert differing(before, before) == []


def test_clips_that_are_answered_differently_come_most_changed_first() -> None:
    before = [row("same", [[0, 1]]), row("half", [[0, 1]]), row("all", [[0, 1]]), row("gone", [[0, 0]])]
    now = [row("same", [[0, 1], [0, 1]]), row("half", [[0, 0]]), row("all", [[1, 0]]), row("new", [[0, 0]])]
    found = changed_clips(before, now, {"all"})
    assert [(clip["clip"], clip["change"], clip["shown"]) for clip in found] == [("all", 1, True), ("half", 0.5, False)]
    assert found[1]["scores"] == [(1, 0.5), (1, 1)]


def test_clips_of_another_length_are_not_compared() -> None:
    assert changed_clips([row("a", [[0, 1]])], [row("a", [[1, 0, 1]], (0, 1, 0))], set()) == []


def test_a_page_says_what_changed_and_leads_to_the_clips(repository: Path, results: Results) -> None:
    Path("params.yaml").write_text("k: 3\nanchors: {shift: 0}\n")
    headline = json.loads(Path("results/headline.json").read_text())
    headline["accuracy_uniform"] += 0.25
    found = changes("HEAD", results, Path("params.yaml"), headline, set())
    assert found["params"] == [("k", 2, 3)]
    assert [name for name, _, _ in found["headline"]] == ["accuracy_uniform"]
    assert found["clips"] == []
    assert "are not in DVC's cache" in found["absent"]
    clip = {"clip": results.rows[0]["clip"], "shown": True, "change": 0.5, "scores": [(1.0, 0.5), (0.25, 0.75)]}
    found |= {"clips": [clip], "absent": ""}
    out, media = repository / "results/report/against", repository / "results/report/avs/media"
    write_page(out, results, clips=3, dataset="local", effect="none", media=media, changes=found)
    text = (out / "index.html").read_text()
    assert "What changed since HEAD" in text
    assert "&lt;b&gt;first&lt;/b&gt;" in text
    assert "#clip=1-%3Cimg%20src%3Dx" in text
    assert "1.00 → 0.50" in text
    assert "<img src=x" not in text
    assert not (out / "media").exists()
    assert '"media":"../avs/media"' in (out / "data.js").read_text()


@pytest.mark.parametrize("revision", ["nowhere", "--output=/tmp/x", "HEAD~9", ""])
def test_what_names_no_commit_is_refused(repository: Path, results: Results, revision: str) -> None:
    with pytest.raises(InputError, match="names no commit"):
        changes(revision, results, Path("params.yaml"), {}, set())


def test_a_commit_without_results_is_refused(repository: Path, results: Results) -> None:
    subprocess.run(["git", "rm", "-q", "--cached", "results/p0/metrics.json"], check=True)
    subprocess.run(
        ["git", "-c", "user.name=t", "-c", "user.email=t@example.org", "commit", "-qm", "second"], check=True
    )
    with pytest.raises(InputError, match=r"has no results/p0/metrics\.json: nothing to compare with"):
        changes("HEAD", results, Path("params.yaml"), {}, set())
