import json
import shutil
from dataclasses import replace
from io import BytesIO
from pathlib import Path

import numpy as np
import pytest
from lxml import etree, html
from page_study import HOSTILE
from PIL import Image
from speech_study import CLIPS, CONDITIONS, FRAMES, HOSTILE_KEY, KEPT, MODELS, mouths

from avs.avsr.voices import kept_voices
from avs.config import load_config
from avs.core.errors import InputError
from avs.core.media import unwav
from avs.core.store import write_json
from avs.report.site import folder_name
from avs.report.speech_figures import _LOOKS, learning_curve, word_errors
from avs.report.speech_media import choose_speech, strip
from avs.report.speech_page import write_speech_page
from avs.report.speech_results import SpeechResults, load_speech
from avs.report.speech_words import MODELS as MODELS_IN_WORDS
from stages import report_avsr

ROOT = Path(__file__).resolve().parents[1]


@pytest.fixture(scope="module")
def results(speech_study: Path) -> SpeechResults:
    return load_speech(speech_study / "results", speech_study / "media")


@pytest.fixture(scope="module")
def page(results: SpeechResults, tmp_path_factory: pytest.TempPathFactory) -> Path:
    out = tmp_path_factory.mktemp("speech-page")
    assert write_speech_page(out, results, clips=60) == CLIPS
    return out


def data(page: Path) -> dict:
    return json.loads((page / "data.js").read_text().removeprefix("window.AVS_DATA = ").removesuffix(";\n"))


def cells(page: Path, caption: str) -> dict[str, list[str]]:
    """Rows of the table whose caption begins so: cells by the name in front, white space made one."""
    tree = html.fromstring((page / "index.html").read_text())
    (table,) = [t for t in tree.iter("table") if " ".join(t.xpath("string(caption)").split()).startswith(caption)]
    text = [[" ".join(cell.xpath("string()").split()) for cell in row] for row in table.iter("tr")]
    return {row[0].split()[0]: row[1:] for row in text[1:]} | {"heads": text[0][1:]}


def test_the_numbers_are_those_of_the_metrics(page: Path, results: SpeechResults) -> None:
    table = cells(page, "Words wrong in %")
    assert [head.split()[-1] for head in table["heads"]] == list(CONDITIONS)
    for model in MODELS:
        rows = [results.metrics["wer"][model][condition] for condition in CONDITIONS]
        assert table[model] == [f"{100 * r['wer']:.1f} [{100 * r['low']:.1f}, {100 * r['high']:.1f}]" for r in rows]
    separation = cells(page, "SI-SDR in dB")
    assert separation["heads"] == ["mixture", "SEANet", "gain with its own lips", "with another clip's lips"]
    assert separation["another"] == ["0.1", "6.3", "+6.2 [+5.0, +7.4]", "−1.9 [−3.0, −0.8]"]
    assert cells(page, "STOI")["another"] == ["0.610", "0.780", "+0.170"]


def test_differences_are_those_of_the_contrasts_and_starred_after_holm(page: Path, results: SpeechResults) -> None:
    table = html.fromstring((page / "index.html").read_text()).xpath("//section[@id='verdict']//table")[0]
    pairs = (("av", "audio"), ("audio_seanet", "audio"), ("av_seanet", "av"))
    for line, (a, b) in zip(table.xpath("tbody/tr"), pairs, strict=True):
        assert line.xpath("string(th)").endswith(f"{a} − {b}")
        for cell, condition in zip(line.xpath("td"), CONDITIONS, strict=True):
            row = results.metrics["contrasts"][condition][f"{a}-{b}"]
            text = " ".join(cell.xpath("string()").split())
            assert text.startswith(f"{100 * row['diff']:+.1f}".replace("-", "−"))
            assert ("*" in text) == (row["p_holm"] < 0.05)
            assert cell.get("class") == ({True: "good", False: "bad"}[row["diff"] < 0] if "*" in text else None)


def test_it_has_its_parts_and_a_link_to_the_other_study(page: Path) -> None:
    tree = html.fromstring((page / "index.html").read_text())
    sections = [section.get("id") for section in tree.iter("section")]
    assert sections == ["verdict", "errors", "separation", "curves", "run", "clips"]
    assert tree.xpath("//nav/a/@href")[-1] == "../avs/index.html"
    phases = tree.xpath("//section[@id='curves']//summary")
    assert [phase.text_content() for phase in phases] == ["audio", "both"]
    assert len(tree.xpath("//section[@id='curves']//svg")) == 3


def test_equal_results_give_equal_bytes(page: Path, results: SpeechResults, tmp_path: Path) -> None:
    (tmp_path / "media/old").mkdir(parents=True)
    (tmp_path / "media/old/lips.jpg").write_bytes(b"old")
    write_speech_page(tmp_path, results, clips=60)
    first, second = (
        {str(p.relative_to(out)): p.read_bytes() for p in out.rglob("*") if p.is_file()} for out in (page, tmp_path)
    )
    assert first == second
    assert len(first) == 6 + 2 * CLIPS + 4 * KEPT


def test_texts_of_others_end_neither_script_nor_markup(page: Path) -> None:
    text = (page / "data.js").read_text()
    assert text.isascii()
    assert not set("<>&") & set(text)
    assert text.count("\n") == 1
    assert "<img" not in (page / "index.html").read_text()
    assert {clip["key"] for clip in data(page)["clips"]} >= {HOSTILE_KEY}


def test_a_clip_has_all_that_the_inspector_shows(page: Path, results: SpeechResults, speech_study: Path) -> None:
    shown = data(page)
    assert [condition["name"] for condition in shown["conditions"]] == list(CONDITIONS)
    assert [model["name"] for model in shown["models"]] == list(MODELS)
    for clip in shown["clips"]:
        folder = page / "media" / clip["folder"]
        assert clip["frames"] == FRAMES
        np.testing.assert_array_equal(
            unwav((folder / "clean.wav").read_bytes()), results.media.audio(results.of_media[clip["key"]])
        )
        kept = kept_voices(speech_study / "results/voices", clip["key"])
        assert clip["sounds"].keys() == kept.keys()
        for condition, files in clip["sounds"].items():
            for kind, name in files.items():
                assert (folder / name).read_bytes() == kept[condition][kind].read_bytes()
    for answer in results.answers:
        clip = next(clip for clip in shown["clips"] if clip["key"] == answer.clip)
        found = clip["answers"][answer.condition][answer.model]
        assert (found["errors"], found["words"]) == (answer.errors, answer.words)
        heard = " ".join(edit[-1] for edit in found["edits"] if edit[0] != "d")
        assert heard == " ".join(answer.hypothesis.split())
    assert shown["clips"][0]["said"] == [[HOSTILE, 0.2, 0.6]]


def test_the_strip_of_lips_has_a_second_a_row() -> None:
    pictures = mouths(1)
    found = np.asarray(Image.open(BytesIO(strip(pictures))))
    assert found.shape == (2 * 96, 25 * 96)
    for number in (0, 24, 25, 29):
        y, x = divmod(number, 25)
        tile = found[96 * y : 96 * (y + 1), 96 * x : 96 * (x + 1)]
        assert np.abs(tile.astype(int) - pictures[number]).mean() < 3  # grey levels, of JPEG
    assert strip(np.zeros((2000, 96, 96), np.uint8))[:2] == b"\xff\xd8"  # longer than a picture may be


def test_which_clips_are_shown_does_not_hang_on_results(results: SpeechResults, tmp_path: Path) -> None:
    keys, rule = choose_speech(results, 6)
    assert keys[:KEPT] == results.clips[:KEPT]
    assert len(keys) == 6
    assert rule.startswith("6 of 9 judged clips are shown, spread evenly")
    silent, rule = choose_speech(replace(results, voices=tmp_path), 3)
    assert silent == [results.clips[place] for place in (0, 3, 6)]
    assert "kept" not in rule
    assert choose_speech(results, 0)[0] == []


def test_a_study_with_less_in_it_has_a_smaller_page(speech_study: Path, tmp_path: Path) -> None:
    shutil.copytree(speech_study / "results", tmp_path / "results")
    shutil.rmtree(tmp_path / "results/voices")
    shutil.rmtree(tmp_path / "results/curves")
    write_json(tmp_path / "results/metrics.json", {"wer": {"av": {"clean": {"wer": 0.5}}}})
    results = load_speech(tmp_path / "results", speech_study / "media")
    assert write_speech_page(tmp_path / "page", results, clips=2) == 2
    tree = html.fromstring((tmp_path / "page/index.html").read_text())
    assert [section.get("id") for section in tree.iter("section")] == ["verdict", "errors", "run", "clips"]
    assert cells(tmp_path / "page", "Words wrong in %")["av"] == ["50.0"]
    assert [clip["sounds"] for clip in data(tmp_path / "page")["clips"]] == [{}, {}]


def test_what_is_missing_or_no_result_is_named(speech_study: Path, tmp_path: Path) -> None:
    media = speech_study / "media"
    with pytest.raises(InputError, match=r"metrics\.json is not there yet \(run: dvc repro\)"):
        load_speech(tmp_path, media)
    shutil.copytree(speech_study / "results", tmp_path / "results")
    for text, words in (("{", "is no JSON"), ("[]", "has no `wer`"), ('{"wer": {}}', "has no `wer`")):
        (tmp_path / "results/metrics.json").write_text(text)
        with pytest.raises(InputError, match=words):
            load_speech(tmp_path / "results", media)
    shutil.copy(speech_study / "results/metrics.json", tmp_path / "results")
    curve = tmp_path / "results/curves/audio/plots/metrics/train/loss.tsv"
    curve.write_text("step\tvalue\n1\tmuch\n")
    with pytest.raises(InputError, match=r"loss\.tsv: must have columns step and value"):
        load_speech(tmp_path / "results", media)
    curve.write_text("step\tvalue\n1\tnan\n")
    (tmp_path / "results/hypotheses.tsv").write_text(
        "clip\tdataset_name\tspeaker\tcondition\tmodel\treference\thypothesis\terrors\twords\n"
        "elsewhere\tgrid\ts1\tclean\tav\ta\ta\t0\t1\n"
    )
    with pytest.raises(InputError, match=r"lacks 1 clips of .*, first 'elsewhere'"):
        load_speech(tmp_path / "results", media)


def test_a_sound_that_is_none_is_named(speech_study: Path, tmp_path: Path) -> None:
    shutil.copytree(speech_study / "results", tmp_path / "results")
    found = load_speech(tmp_path / "results", speech_study / "media")
    path = tmp_path / "results/voices" / folder_name(found.clips[1]) / "snr_0/mixture.wav"
    path.write_bytes(b"<script>")
    with pytest.raises(InputError, match=r"mixture\.wav: is no sound"):
        write_speech_page(tmp_path / "page", found, clips=60)


def test_figures_are_the_same_each_time_and_take_any_name(results: SpeechResults) -> None:
    odd = {"<b>$\\x$": {"<i>$": {"wer": 0.5}}}
    wer = {**results.metrics["wer"], **odd}
    assert word_errors(wer) == word_errors(wer)
    for svg in (word_errors(wer), learning_curve("<b>$\\x$", [(0, 1.0), (1, float("nan")), (2, 0.5)], 0)):
        etree.fromstring(svg.encode())
        assert "<b>" not in svg
    assert "audio over 0 steps" in learning_curve("audio", [], 1)
    long = learning_curve("long", [(step, step / 7) for step in range(100_000)], 2)
    assert len(long) < 60_000


def test_whatever_comes_after_seanet_is_dashed_and_open_in_the_figure() -> None:
    after = {name for name, text in MODELS_IN_WORDS.items() if text.startswith("SEANet")}
    assert {name for name, (*_, dashed) in _LOOKS.items() if dashed} == after
    assert {name for name, (*_, dashed) in _LOOKS.items() if not dashed} == MODELS_IN_WORDS.keys() - after
    assert len(set(_LOOKS.values())) == len(_LOOKS)


def test_the_stage_writes_the_page_and_what_differs_beside_it(
    speech_study: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    shutil.copytree(speech_study / "results", tmp_path / "results/avsr")
    shutil.copytree(speech_study / "media", tmp_path / "data/media/speech")
    config = load_config(ROOT / "params.yaml")
    monkeypatch.chdir(tmp_path)
    assert report_avsr.main(config) == {"clips": CLIPS}
    facts = json.loads((Path("results/report/run_avsr.js").read_text()).removeprefix("window.AVS_RUN = ")[:-2])
    assert facts["results"] == data(Path("results/report/avsr"))["results"]
    assert facts["params"]["report"]["clips"] == 60
    assert "../run_avsr.js" in Path("results/report/avsr/index.html").read_text()
