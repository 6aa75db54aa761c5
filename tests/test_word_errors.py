"""The tables of the speech study."""

import json
import re
from pathlib import Path
from typing import Any

import pytest

from avs.avsr.scores import CONTROLS, MODELS, families
from avs.cli import main
from avs.report.speech_words import condition_text
from avs.report.word_errors import speech

CONDITIONS = ("clean", "snr_0", "snr_-5", "talker_0")


def metrics(models: tuple[str, ...] = MODELS, clips: int = 60) -> dict[str, Any]:
    rate = {"wer": 0.123, "low": 0.08, "high": 0.171}
    row = {"diff": -0.05, "ci_low": -0.081, "ci_high": -0.02, "p": 0.001, "p_holm": 0.01}
    contrasts: dict[str, dict[str, Any]] = {c: {} for c in CONDITIONS}
    for family in families([(m, c) for m in models for c in CONDITIONS]).values():
        for condition, a, b in family:
            contrasts[condition][f"{a}-{b}"] = row
    rates = {model: dict.fromkeys(CONDITIONS, rate) for model in models}
    # JSON files are sorted by name
    return json.loads(
        json.dumps({"clips": clips, "words": 6 * clips, "wer": rates, "contrasts": contrasts}, sort_keys=True)
    )


def test_rates_are_a_row_a_model_from_clean_to_hard() -> None:
    text = speech(metrics((*MODELS, *CONTROLS)))
    lines = text.splitlines()
    assert "60 clips, 360 words" in lines[0]
    assert [head.strip() for head in re.split("  +", lines[2].strip())] == list(map(condition_text, CONDITIONS))
    rows = [*MODELS, *CONTROLS]
    assert [line.split()[0] for line in lines[4 : 4 + len(rows)]] == rows
    assert lines[4].count("12.3 [8.0, 17.1]") == len(CONDITIONS)
    assert max(map(len, lines)) <= 136
    assert "…" not in text


def test_contrasts_stand_in_their_families() -> None:
    text = speech(metrics())
    planned, explanatory = text.split("Planned contrasts")[1].split("What explains it")
    assert planned.count("−5.0 [−8.1, −2.0]") == 9
    assert "av_seanet − av " in planned
    assert "av − video" in explanatory
    assert explanatory.count(" clean ") == 3
    assert "0.010*" in planned


def test_few_clips_and_models_are_told_or_left_out() -> None:
    text = speech(metrics(("audio",), clips=8))
    assert "Only 8 clips" in text
    assert "contrast" not in text


def test_figures_without_contrasts_are_a_table_too() -> None:
    text = speech({"wer": metrics()["wer"]})
    assert "Word error rate" in text
    assert "contrast" not in text


def test_a_condition_that_a_model_lacks_is_an_empty_cell() -> None:
    tree = metrics(("audio", "av"))
    del tree["wer"]["av"]["snr_0"]
    row = next(line for line in speech(tree).splitlines() if line.startswith(" av "))
    assert row.count("12.3 [8.0, 17.1]") == len(CONDITIONS) - 1


def test_the_command_prints_it_where_the_study_was_run(
    tmp_path: Path, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    for name in ("print_recall", "print_study"):
        monkeypatch.setattr(f"avs.report.table.{name}", lambda tree: None)
    for name in ("anchor_eval", "p0"):
        (tmp_path / name).mkdir()
        (tmp_path / name / "metrics.json").write_text("{}")
    main(["table", "--results", str(tmp_path)])
    assert "Word error rate" not in capsys.readouterr().out
    (tmp_path / "avsr").mkdir()
    (tmp_path / "avsr/metrics.json").write_text(json.dumps(metrics()))
    main(["table", "--results", str(tmp_path)])
    assert "Word error rate" in capsys.readouterr().out
