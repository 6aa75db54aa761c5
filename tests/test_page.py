import json
import re
from pathlib import Path

import pytest
from lxml import html
from page_study import HOSTILE, LONG, RTL, SECONDS

from avs.core.errors import InputError
from avs.core.media import unjpeg
from avs.report.page import write_page
from avs.report.results import Results, load_results
from avs.report.words import ARM_NOTES


@pytest.fixture(scope="module")
def results(page_study: Path) -> Results:
    return load_results(page_study / "results", page_study / "media")


@pytest.fixture(scope="module")
def page(results: Results, tmp_path_factory: pytest.TempPathFactory) -> Path:
    out = tmp_path_factory.mktemp("page")
    assert write_page(out, results, clips=60, dataset="local", effect="none") == 12
    return out


def data(page: Path) -> dict:
    return json.loads((page / "data.js").read_text().removeprefix("window.AVS_DATA = ").removesuffix(";\n"))


def cells(page: Path, caption: str) -> dict[str, list[str]]:
    """Rows of the table whose caption begins so: cells by the name in front, white space made one."""
    tree = html.fromstring((page / "index.html").read_text())
    (table,) = [t for t in tree.iter("table") if " ".join(t.xpath("string(caption)").split()).startswith(caption)]
    text = [[" ".join(cell.xpath("string()").split()) for cell in row] for row in table.iter("tr")]
    return {row[0]: row[1:] for row in text}


def in_points(share: float) -> str:
    return re.sub("^[+-](?=0.0$)", "", f"{100 * share:+.1f}").replace("-", "−")


def test_the_numbers_are_those_of_the_metrics(page: Path, results: Results) -> None:
    arms = cells(page, "Arms over 12 clips and 2 seeds")
    for name, arm in results.metrics["arms"].items():
        row = arms[f"{name} {ARM_NOTES[name]}"]
        wanted = [f"{arm[m]['mean']:.3f} ({arm[m]['std']:.3f})" for m in ("accuracy", "accuracy_event", "class_event")]
        assert row[:3] == wanted
        assert row[3:] == [f"{arm['tokens']:.0f}", f"{arm['gflops']:.1f}"]
    contrasts = cells(page, "Planned contrasts") | cells(page, "Explanatory contrasts")
    for measure, column in (("accuracy", 0), ("class_event", 2)):
        for name, contrast in results.metrics["contrasts"][measure].items():
            row = contrasts[name.replace("-", " − ")]
            low, diff, high = (in_points(contrast[key]) for key in ("ci_low", "diff", "ci_high"))
            assert row[column] == f"{diff} [{low}, {high}]"
            assert float(row[column + 1].rstrip(" *")) == pytest.approx(contrast["p_holm"], abs=0.0005)


def test_recall_and_its_controls_are_those_of_the_metrics(page: Path, results: Results) -> None:
    table = cells(page, "Recall of event seconds")
    for text, kind in (("audio anchors", "anchors"), ("random", "random"), ("best possible", "best")):
        columns = ("recall_d0", "recall_d1", "recall_d2", "precision_d0")
        assert table[text] == [f"{results.recall[kind][column]:.3f}" for column in columns]


def test_the_verdict_stands_first_with_its_interval_and_cautions(page: Path) -> None:
    tree = html.fromstring((page / "index.html").read_text())
    assert [section.get("id") for section in tree.iter("section")] == [
        "verdict", "arms", "contrasts", "efficiency", "recall", "diagnosis", "run", "clips"
    ]  # fmt: skip
    verdict = tree.get_element_by_id("verdict").text_content()
    assert "No difference between audio anchors and uniform sampling can be told" in verdict
    assert "95 % interval [" in verdict
    assert "Only 12 clips: below 20" in verdict


def test_equal_results_give_equal_bytes(page: Path, results: Results, tmp_path: Path) -> None:
    write_page(tmp_path, results, clips=60, dataset="local", effect="none")
    first, second = (
        {str(p.relative_to(out)): p.read_bytes() for p in out.rglob("*") if p.is_file()} for out in (page, tmp_path)
    )
    assert first == second
    assert len(first) > 12 * (SECONDS + 1)


def test_names_of_others_end_neither_script_nor_markup(page: Path) -> None:
    text = (page / "data.js").read_text()
    assert text.isascii()
    assert not set("<>&") & set(text)
    assert text.count("\n") == 1
    labels = {clip["label"] for clip in data(page)["clips"]}
    assert labels == {"dog", HOSTILE, RTL, LONG}
    assert "<img" not in (page / "index.html").read_text()
    for clip in data(page)["clips"]:
        assert re.fullmatch("[0-9a-f]{16}", clip["folder"])


def test_a_clip_has_all_that_the_inspector_shows(page: Path, results: Results) -> None:
    shown, row = data(page), results.rows[0]
    clip = next(clip for clip in shown["clips"] if clip["key"] == row["clip"])
    assert shown["results"] == results.fingerprint
    assert shown["highest"] == 272
    assert (clip["answers"], clip["foreground"]) == (row["answers"], row["answers_foreground"])
    assert (clip["scores"], clip["anchors"], clip["plans"]) == (row["scores"], row["anchors"], row["plans"])
    assert (clip["event"], clip["seconds"], clip["fallback"]) == ([1, 2], SECONDS, row["fallback"])
    folder = page / "media" / clip["folder"]
    media = next(c for c in results.media.clips if c.key == row["clip"])
    assert (folder / "audio.wav").read_bytes() == results.media.files(media)["audio.wav"]
    assert [unjpeg((folder / f"{t}.jpg").read_bytes()).shape for t in range(SECONDS)] == [(48, 48, 3)] * SECONDS


def test_the_page_is_no_larger_than_its_limit_and_keeps_nothing_old(results: Results, tmp_path: Path) -> None:
    (tmp_path / "media/old").mkdir(parents=True)
    (tmp_path / "media/old/0.jpg").write_bytes(b"old")
    assert write_page(tmp_path, results, clips=3, dataset="local", effect="none") == 3
    assert len(list((tmp_path / "media").iterdir())) == 3
    assert "3 of 12 judged clips are shown" in (tmp_path / "index.html").read_text()
    assert write_page(tmp_path, results, clips=0, dataset="local", effect="none") == 0
    assert not (tmp_path / "media").exists()
    assert sum(path.stat().st_size for path in tmp_path.rglob("*") if path.is_file()) < 500_000


def test_what_else_p0_may_say_has_its_place(results: Results, tmp_path: Path) -> None:
    metrics = dict(results.metrics)
    control = next(iter(metrics["contrasts"]["accuracy"].values()))
    metrics["contrasts"] = {
        m: rows | {"anchored_topk-of_another_version": control} for m, rows in metrics["contrasts"].items()
    }
    metrics["splits"] = {"val": results.metrics}
    line = {kind: {"accuracy": {"mean": 0.5, "std": 0.1}, "gflops": 1.0} for kind in ("even", "anchored", "oracle")}
    metrics["curve"] = {str(tokens): {k: row | {"tokens": tokens} for k, row in line.items()} for tokens in (64, 256)}
    group, recall = {"clips": 3, "diff": 0.25, "ci_low": -0.5, "ci_high": 0.75}, {"clips": 3, "spearman": 0.5}
    kinds = {"by_class": {HOSTILE: group, LONG: {"clips": 1, "diff": 0.1}}, "by_fallback": {"anchored": group}}
    kinds["recall"] = {"all": recall | {"ci_low": -0.25, "ci_high": 1.0}, "with_anchors": recall}
    diagnosis = {"anchored_topk": {"accuracy": kinds, "class_event": kinds}}
    write_page(
        tmp_path,
        Results(**(vars(results) | {"metrics": metrics, "diagnosis": diagnosis})),
        clips=0,
        dataset="local",
        effect="none",
    )
    assert list(cells(tmp_path, "Explanatory contrasts"))[-1] == "anchored_topk − of_another_version"
    assert len(cells(tmp_path, "Planned contrasts: difference")) == 11
    assert len(cells(tmp_path, "Planned contrasts on split val")) == 11
    assert (tmp_path / "figures/explanatory-accuracy.svg").exists()
    assert (tmp_path / "figures/budgets-tokens.svg").exists()
    gain = "+25.0 [−50.0, +75.0]"
    assert cells(tmp_path, "By class")[HOSTILE.replace("\u2028", " ")] == ["3", gain, gain]
    assert cells(tmp_path, "By fallback or not")["anchored"] == ["3", gain, gain]
    assert cells(tmp_path, "Rank correlation")["all clips with an event"] == ["+0.50 [-0.25, +1.00]"] * 2
    assert cells(tmp_path, "Rank correlation")["clips with anchors"] == ["cannot be had"] * 2
    assert "<img src=x" not in (tmp_path / "index.html").read_text()


def test_points_of_the_figures_lie_there_for_dvc(page: Path, results: Results) -> None:
    families = ("planned", "explanatory")
    rows = [row for family in families for row in json.loads((page / f"plots/{family}_accuracy.json").read_text())]
    wanted = results.metrics["contrasts"]["accuracy"]
    assert {row["contrast"]: row["difference"] for row in rows} == {name: row["diff"] for name, row in wanted.items()}
    efficiency = json.loads((page / "plots/efficiency.json").read_text())
    assert {row["arm"] for row in efficiency if row["kind"] == "arms"} == set(results.metrics["arms"])
    assert {row["kind"] for row in efficiency} == {"arms", "even", "anchored", "oracle"}


def test_what_is_missing_is_named(page_study: Path, tmp_path: Path) -> None:
    with pytest.raises(InputError, match=r"metrics\.json is not there yet \(run: dvc repro\)"):
        load_results(tmp_path, page_study / "media")
