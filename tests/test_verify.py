"""README and docs say what was measured: the committed ones do, and whatever does not is found."""

import io
import json
import shutil
import subprocess
import tarfile
from pathlib import Path
from typing import Any

import pytest

from avs.cli import main
from avs.core.errors import InputError
from avs.core.provenance import git
from avs.report import marks
from avs.report.verify import Report, verify
from benchmarks import ave_annotations

ROOT = Path(__file__).resolve().parents[1]
AVE = ROOT.parent / "shared/ave"
ORIGIN = {"command": "python -m benchmarks.x", "commit": "unknown", "machine": "m", "date": "2026-11-24"}


def page(folder: Path, text: str, name: str = "README.md", **figures: Any) -> Report:
    (folder / "docs/results").mkdir(parents=True, exist_ok=True)
    (folder / "docs/results/x.json").write_text(json.dumps(ORIGIN | figures))
    (folder / "README.md").touch()
    (folder / name).write_text(text, encoding="utf-8")
    return verify(folder)


@pytest.fixture
def committed(tmp_path: Path) -> Path:
    """The texts as they are here, and the results that were committed: those here may be of other parameters."""
    if git("rev-parse", "HEAD:results", folder=ROOT) is None:
        pytest.skip("this is no Git clone")
    command = ["git", "archive", "HEAD", "results", "dvc.lock", "params.yaml"]
    archive = subprocess.run(command, cwd=ROOT, capture_output=True, check=True)
    with tarfile.open(fileobj=io.BytesIO(archive.stdout)) as files:
        files.extractall(tmp_path)
    shutil.copytree(ROOT / "docs", tmp_path / "docs")
    shutil.copy(ROOT / "README.md", tmp_path)
    return tmp_path


def test_the_texts_say_what_was_measured(committed: Path) -> None:
    problems = verify(ROOT).problems
    assert not [problem for problem in problems if problem.startswith(("results/", "docs/results/"))]
    assert not problems or not verify(committed).problems


@pytest.mark.parametrize("path", ["README.md", "docs/eventness.md", "docs/containers.md", "docs/ave.md"])
def test_a_digit_that_changes_is_found(path: str, committed: Path) -> None:
    text = (committed / path).read_text(encoding="utf-8")
    places = [figure.end for figure in marks.read_marks(text).figures if figure.source]
    place = places[0] if places else text.index("0.8") + 4
    changed = text[: place - 1] + str((int(text[place - 1]) + 1) % 10) + text[place:]
    (committed / path).write_text(changed, encoding="utf-8")
    problems = verify(committed).problems
    assert [problem.partition(": ")[0] for problem in problems] == [f"{path}:{text.count(chr(10), 0, place) + 1}"]
    assert "python -m avs verify --write" in problems[0]
    verify(committed, write=True)
    assert (committed / path).read_text(encoding="utf-8") == text


def test_metrics_that_were_edited_are_found(committed: Path) -> None:
    path = committed / "results/p0/metrics.json"
    metrics = json.loads(path.read_text())
    accuracy = metrics["arms"]["uniform"]["accuracy"]
    before, accuracy["mean"] = accuracy["mean"], 0.9326
    path.write_text(json.dumps(metrics))
    report = verify(committed)
    assert "results/p0/metrics.json: is not what dvc.lock says (run: dvc repro" in "\n".join(report.problems)
    told = f"results/headline.json: accuracy_uniform is {before:g}, but results/p0/metrics.json gives 0.9326"
    assert any(problem.startswith(told) for problem in report.problems)
    assert any(problem.startswith("README.md:") for problem in report.problems)


def test_results_say_where_they_come_from(committed: Path) -> None:
    (committed / "params.yaml").write_text((committed / "params.yaml").read_text().replace("k: 2", "k: 1"))
    facts = verify(committed).files["results/p0/metrics.json"]
    assert facts["command"] == "python -m stages.p0 (stage p0)"
    assert "p0.seeds=5" in facts["parameters"]
    assert facts["parameters"].endswith("; but params.yaml now has k=1 (run: dvc repro)")
    assert "data/cache " in facts["data"]
    assert facts["committed in"] == "unknown (no Git clone here)"
    assert facts["made again"].startswith("no: results/p0/per_clip.jsonl is not at hand (run: dvc pull")
    (committed / "results/p0/per_clip.jsonl").write_text("{}")
    assert "is not the one that dvc.lock names" in verify(committed).files["results/p0/metrics.json"]["made again"]


def test_the_command_prints_all_and_fails_where_something_differs(
    committed: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.chdir(committed)
    main(["verify"])
    printed = capsys.readouterr().out
    assert "results/p0/metrics.json\n  committed in" in printed
    assert "docs/eventness.md: " in printed
    (committed / "docs/more.md").write_text("It took 3.5 s.\n")
    with pytest.raises(SystemExit, match="1 disagreement"):
        main(["verify", "--brief"])
    assert "docs/more.md:1: 3.5 without a source" in capsys.readouterr().out


@pytest.mark.parametrize(
    ("printed", "value"),
    [
        ("0.46", 0.4637),
        ("+.4", 0.35),
        ("−0.03", -0.031),
        ("5,665", 5664.7),
        ("12 %", 0.1234),
        ("1.1 points", 0.0108),
        ("0.19", 0.185),
        ("0.18", 0.185),
        ("3", 3),
    ],
)
def test_figures_are_rounded_values(printed: str, value: float, tmp_path: Path) -> None:
    number, _, unit = printed.partition(" ")
    text = f"It is {number}<!--x:a.b-->{' ' if unit else ''}{unit} today."
    assert not page(tmp_path, text, a={"b": value}).problems
    scale = 100 if unit else 1
    assert page(tmp_path, text, a={"b": value + 1.01 / scale}).problems[0].startswith("README.md:1: prints")


@pytest.mark.parametrize(
    ("printed", "value", "now"),
    [
        ("0.46", 0.5, "0.50"),
        (".46", 0.5, ".50"),
        ("+.4", -0.35, "−.3"),
        ("5,665", 1234567.8, "1,234,568"),
        ("-3", -4, "-4"),
        ("12 %", 0.5, "50 %"),
        ("+1", 2, "+2"),
    ],
)
def test_write_mends_figures_in_their_own_style(printed: str, value: float, now: str, tmp_path: Path) -> None:
    number, _, unit = printed.partition(" ")
    page(tmp_path, f"It is {number}<!--x:a-->{' ' if unit else ''}{unit} or 7 s.\n<!-- given: y -->\n", a=value)
    assert not verify(tmp_path, write=True).problems
    mended = (tmp_path / "README.md").read_text(encoding="utf-8").replace("<!--x:a-->", "")
    assert mended == f"It is {now} or 7 s.\n<!-- given: y -->\n"


@pytest.mark.parametrize(
    "text",
    [
        "It took 0.3 of it.",
        "It took 12 s.",
        "- one\n- 5 GB of it\n\nMore. <!-- given: y -->",
        "Some 1,234 of them.",
        "| a |\n|---|\n| 9 % |",
        "```\nit took 12 s\n```\n\nMore. <!-- given: y -->",
        "**42 clips**",
        "a 3.5-fold gain",
    ],
)
def test_a_figure_without_a_source_is_found(text: str, tmp_path: Path) -> None:
    problems = page(tmp_path, text, name="docs/new.md").problems
    assert len(problems) == 1
    assert problems[0].startswith("docs/new.md:")
    assert "without a source (name it: NUMBER<!--NAME:KEY-->" in problems[0]
    assert not page(tmp_path, f"{text.split(chr(10) + chr(10))[0]}\n<!-- given: y -->\n", name="docs/new.md").problems


@pytest.mark.parametrize(
    "text",
    [
        "`-S a=0.5` and `0.5\n0.6`",
        "Python 3.11, 2.13.0, CUDA **13.0**, CC BY 4.0",
        "160/224/352 and 320×320 pixels",
        "`p` with k = 2 of 10",
        "[a](b_0.5.md)",
        "```\nrun -S a=0.5\n```",
        "<!-- 0.5 s -->",
        "in 2026, on 2026-11-24",
    ],
)
def test_settings_versions_and_names_are_no_figures(text: str, tmp_path: Path) -> None:
    assert not page(tmp_path, text).problems


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("It is 3<!--y:a-->.", "no source 'y' (there is none of docs/results/y.json, results/y/metrics.json"),
        ("It is 3<!--x:b.c-->.", "docs/results/x.json has no number at 'b.c'"),
        ("It is 3<!--x:command-->.", "docs/results/x.json has no number at 'command'"),
        ("It is<!--x:a-->.", "no number stands before <!--x:a-->"),
        ("It is 3<!--x:a--><!--x:a-->.", "no number stands before <!--x:a-->"),
        ("<!-- from: docs/results/y.json by avs.report.table.study -->\na\n<!-- end -->", "y.json is not there"),
        ("<!-- from: docs/results/x.json by avs.report.table.study -->\na\n<!-- end -->", "study cannot read docs"),
        ("<!-- from: docs/results/x.json by avs.report.none -->\na\n<!-- end -->", "no function avs.report.none"),
        ("<!-- from: docs/results/x.json by os.path.exists -->\na\n<!-- end -->", "must be a function of avs or"),
        ("<!-- from: docs/results/x.json -->\na\n<!-- end -->", "is not 'FILE by MODULE.FUNCTION'"),
        ("<!-- from: docs/results/x.json by json.dumps -->\na\n", "has no <!-- end -->"),
        ("![a](docs/a.png)", "docs/a.png has no source: add <!-- drawn: FILE by MODULE.FUNCTION -->"),
    ],
)
def test_marks_that_lead_nowhere_are_told(text: str, message: str, tmp_path: Path) -> None:
    problems = page(tmp_path, text, a=3).problems
    assert len(problems) == 1
    assert problems[0].startswith("README.md:1: ")
    assert message in problems[0]


def test_a_block_is_rendered_anew_and_keeps_what_it_leaves_out(tmp_path: Path) -> None:
    metrics = json.loads((ROOT / "results/p0/metrics.json").read_text())
    mark = "<!-- from: docs/results/x.json by avs.report.table.study -->"
    old = "```\n 9 clips, 5 seeds: mean (standard deviation between seeds)\n\n uniform 0.1 (0.2) 0 0 0\n …\n```\n"
    problems = page(tmp_path, f"{mark}\n{old}<!-- end -->\nafter\n", **metrics).problems
    assert "README.md:3: prints '9 clips" in problems[0]
    assert not verify(tmp_path, write=True).problems
    lines = (tmp_path / "README.md").read_text(encoding="utf-8").splitlines()
    assert lines[2].startswith(f"{metrics['clips']} clips, {metrics['seeds']} seeds")
    assert [line.split()[0] for line in lines if line.strip()][3:] == [
        "arm",
        "─" * 108,
        "uniform",
        "…",
        "```",
        "<!--",
        "after",
    ]


def test_stages_files_are_sources_too(tmp_path: Path) -> None:
    for path, value in (("results/p0/metrics.json", 1), ("results/p0/diagnosis.json", 2), ("results/headline.json", 3)):
        (tmp_path / path).parent.mkdir(parents=True, exist_ok=True)
        (tmp_path / path).write_text(json.dumps({"a b-c": {"d": value}}))
    text = "1<!--p0:a b-c.d-->, 2<!-- p0/diagnosis: a b-c.d --> and 3<!--headline:a b-c.d-->"
    assert not page(tmp_path, text).problems


def test_it_runs_in_the_repository_only(tmp_path: Path) -> None:
    with pytest.raises(InputError, match="run this in the repository's own folder"):
        verify(tmp_path)


def draw(figures: dict[str, Any], path: Path) -> None:
    from matplotlib.figure import Figure

    figure = Figure(figsize=(1, 1))
    figure.subplots().plot([0, figures["a"]])
    figure.savefig(path)


def test_an_image_is_what_its_function_draws(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("avs.report.verify._TRUSTED", ("test_verify",))
    text = "![a](a.png)\n<!-- drawn: docs/results/x.json by test_verify.draw -->\n"
    assert "a.png is not what docs/results/x.json gives" in page(tmp_path, text, name="docs/p.md", a=3).problems[0]
    assert not verify(tmp_path, write=True).problems
    assert len(page(tmp_path, text, name="docs/p.md", a=4).problems) == 1


def test_a_source_says_where_it_comes_from(tmp_path: Path) -> None:
    report = page(tmp_path, "nothing")
    assert (
        report.files["docs/results/x.json"]
        == {"committed in": "unknown (no Git clone here)", "data": "unknown"} | ORIGIN
    )
    (tmp_path / "docs/results/x.json").write_text('{"command": "c"}')
    assert "does not say its commit, machine, date" in verify(tmp_path).problems[0]
    (tmp_path / "docs/results/x.json").write_text("{")
    assert "docs/results/x.json cannot be read" in verify(tmp_path).problems[0]


@pytest.mark.skipif(not AVE.exists(), reason="the AVE annotation files are not beside this repository")
def test_what_aves_annotations_say_is_measured_again() -> None:
    recorded = json.loads((ROOT / "docs/results/ave_annotations.json").read_text())
    assert recorded | ave_annotations.measure(AVE) == recorded
