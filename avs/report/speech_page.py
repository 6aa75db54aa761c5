"""The page of the speech study: who understands what in which noise, and the clips to see, hear and read."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import Any

from markupsafe import Markup

from avs.core.stats import ALPHA
from avs.report import site
from avs.report.site import prune, script, style_sheet, template_text, write_texts
from avs.report.speech_figures import learning_curve, word_errors
from avs.report.speech_media import choose_speech, speech_data, write_clip
from avs.report.speech_results import SpeechResults, Tree
from avs.report.speech_verdict import gain, judge
from avs.report.speech_words import condition_text, conditions_in_order, model_text, models_in_order
from avs.report.svg import alone

RUN = "run_avsr.js"  # beside the page's folder: what differs from run to run
SEPARATION = {"si_sdr": ("SI-SDR in dB", 1), "stoi": ("STOI", 3)}  # title, decimals
_LIPS = {"improvement": "gain with its own lips", "wrong_lips": "with another clip's lips", "no_lips": "without lips"}


def write_speech_page(out: Path, results: SpeechResults, *, clips: int) -> int:
    """Write `index.html` and what it needs to `out`, and remove what else lies there; returns the clips shown.

    Equal results give equal bytes.
    """
    keys, rule = choose_speech(results, clips)
    figure = word_errors(results.metrics["wer"])
    curves = {name: learning_curve(name, curve, n) for n, (name, curve) in enumerate(results.curves.items())}
    files = {
        "index.html": render(results, figure, curves, rule=rule),
        "page.css": style_sheet(),
        "base.js": template_text("base.js"),
        "speech.js": template_text("speech.js"),
        "data.js": script("AVS_DATA", speech_data(results, keys)),
        "figures/wer.svg": alone(figure),
    }
    write_texts(out, files)
    media = [write_clip(results, key, out) for key in keys]
    prune(out, set().union(files, *media))
    return len(keys)


def render(results: SpeechResults, figure: str, curves: Mapping[str, str], *, rule: str) -> str:
    metrics, answers = results.metrics, results.answers
    words = sum({answer.clip: answer.words for answer in answers}.values())
    return site.render(
        "speech.html",
        run=RUN,
        verdict=judge(results),
        datasets=sorted({answer.dataset_name for answer in answers}),
        clips=len(results.clips),
        words=words,
        speakers=len({answer.speaker for answer in answers if answer.speaker}),
        conditions=[(name, condition_text(name)) for name in _conditions(metrics)],
        models=wer_table(metrics["wer"]),
        separations=[separation_table(name, metrics[name]) for name in SEPARATION if metrics.get(name)],
        figure=Markup(figure),  # made here, its text escaped by matplotlib
        curves=_grouped(curves),
        alpha=ALPHA,
        rule=rule,
    )


def wer_table(wer: Mapping[str, Mapping[str, Tree]]) -> list[dict[str, Any]]:
    """A row a model, a cell a condition, None where it was not judged."""
    names = _conditions({"wer": wer})
    return [
        {"name": model, "text": model_text(model), "cells": [wer[model].get(name) for name in names]}
        for model in models_in_order(wer)
    ]


def separation_table(measure: str, rows: Mapping[str, Tree]) -> dict[str, Any]:
    """Levels before and after SEANet, and what it gains with right, wrong and no lips, as text, a row a condition."""
    title, decimals = SEPARATION[measure]
    names = conditions_in_order(rows)
    gains = {key: text for key, text in _LIPS.items() if any(key in rows[name] for name in names)}
    cells = [
        [_number(gain(rows[name].get(level)), f".{decimals}f") for level in ("mixture", "seanet")]
        + [_number(gain(rows[name].get(key)), f"+.{decimals}f") for key in gains]
        for name in names
    ]
    return {
        "title": title,
        "heads": ["mixture", "SEANet", *gains.values()],
        "rows": [(name, condition_text(name), row) for name, row in zip(names, cells, strict=True)],
    }


def _number(row: Mapping[str, float], form: str) -> tuple[str, str]:
    """A mean and its interval, '' where there is none."""
    mean = format(row["mean"], form) if "mean" in row else ""
    span = f"[{row['low']:{form}}, {row['high']:{form}}]" if {"low", "high"} <= row.keys() else ""
    return mean.replace("-", "−"), span.replace("-", "−")


def _conditions(metrics: Tree) -> list[str]:
    return conditions_in_order(name for rows in metrics["wer"].values() for name in rows)


def _grouped(curves: Mapping[str, str]) -> dict[str, list[Markup]]:
    """Curves by what stands before the first slash: a phase of the training."""
    found: dict[str, list[Markup]] = {}
    for name, svg in curves.items():
        found.setdefault(name.partition("/")[0] if "/" in name else "", []).append(Markup(svg))
    return found
