"""The page of the AVS study: one HTML file with its figures, style, scripts and media beside it, all from disk."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from markupsafe import Markup

from avs.core.stats import ALPHA
from avs.core.store import write_json
from avs.localization.arms import ARMS
from avs.report import figures, site
from avs.report.diagnosis import diagnosis_tables
from avs.report.media import highest_resolution, inspector_data, write_clip_media
from avs.report.results import MEASURES, Results, Tree, families, gains, ordered
from avs.report.selection import choose_clips
from avs.report.site import folder_name, prune, script, style_sheet, template_text, write_texts
from avs.report.svg import alone
from avs.report.verdict import judge
from avs.report.words import ARM_NOTES


def write_page(
    out: Path,
    results: Results,
    *,
    clips: int,
    dataset: str,
    effect: str,
    media: Path | None = None,
    changes: Mapping[str, Any] | None = None,
) -> int:
    """Write `index.html` and what it needs to `out`, and remove what else lies there; returns the clips shown.

    Equal results give equal bytes. `media`: where the clips' files lie already, else they are written. `changes`:
    as `against.changes` has them.
    """
    chosen, rule = choose_clips(results.rows, gains(results.rows), clips)
    rows = [results.rows[place] for place in chosen]
    drawn = draw(results)
    address = "media" if media is None else _relative(media, out)
    files = {
        "index.html": render(results, drawn, rule=rule, dataset=dataset, effect=effect, changes=changes),
        "page.css": style_sheet(),
        "base.js": template_text("base.js"),
        "page.js": template_text("page.js"),
        "data.js": script("AVS_DATA", inspector_data(results, rows, address)),
    } | {f"figures/{name}.svg": alone(svg) for name, svg in drawn.items()}
    write_texts(out, files)
    plots = figures.plot_data(results)
    for name, table in plots.items():
        write_json(out / f"plots/{name}.json", table)
    shown = set() if media else _write_media(out / "media", results, rows)
    prune(out, {*files, *(f"plots/{name}.json" for name in plots), *shown})
    return len(rows)


def shown_clips(results: Results, clips: int) -> set[str]:
    """Keys of the clips that a page of at most so many shows."""
    chosen, _ = choose_clips(results.rows, gains(results.rows), clips)
    return {results.rows[place]["clip"] for place in chosen}


def draw(results: Results) -> dict[str, str]:
    """The figures as `<svg>` elements by name."""
    arms, curve = results.metrics["arms"], results.metrics.get("curve", {})
    bounds = {row["arm"]: row for row in results.arms_plot}
    found = {
        f"{family}-{measure}": figures.forest(measure, rows, f"{family}-{measure}")
        for family, tested in families(results.metrics).items()
        for measure, rows in tested.items()
    }
    for x in ("tokens", "gflops"):
        found[x] = figures.efficiency(x, arms, bounds)
        if curve:
            found[f"budgets-{x}"] = figures.budgets(x, curve)
    return found | {"recall": figures.recall(results.curves)}


def render(
    results: Results,
    drawn: Mapping[str, str],
    *,
    rule: str,
    dataset: str,
    effect: str,
    changes: Mapping[str, Any] | None,
) -> str:
    return site.render(
        "page.html",
        run="run.js",
        metrics=results.metrics,
        verdict=judge(results, dataset=dataset, effect=effect),
        dataset=dataset,
        arms=arm_table(results.metrics),
        families={family: contrast_table(tested) for family, tested in families(results.metrics).items()},
        splits={
            name: {"arms": arm_table(part), "contrasts": contrast_table(families(part)["planned"])}
            for name, part in results.metrics.get("splits", {}).items()
        },
        recall=results.recall,
        kinds=[(kind, text) for kind, text in figures.KINDS.items() if kind in results.recall],
        diagnosis=diagnosis_tables(results.diagnosis) if results.diagnosis else [],
        measures=MEASURES,
        alpha=ALPHA,
        figures={name: Markup(svg) for name, svg in drawn.items()},  # made here, of no one else's text
        rule=rule,
        changes=changes,
    )


def arm_table(metrics: Tree) -> list[dict[str, Any]]:
    """A row an arm, in the order of `ARMS`, others after it."""
    arms = metrics["arms"]
    return [{"name": name, "note": ARM_NOTES.get(name, "")} | arms[name] for name in ordered(arms, ARMS)]


def contrast_table(tested: Mapping[str, Tree]) -> list[dict[str, Any]]:
    """A row a contrast, with the numbers of each measure."""
    names = list(dict.fromkeys(name for rows in tested.values() for name in rows))
    return [
        {
            "name": name.replace("-", " − "),
            "cells": [rows.get(name) for rows in tested.values()],
        }
        for name in names
    ]


def _write_media(folder: Path, results: Results, rows: Sequence[Tree]) -> set[str]:
    """Frames and sound of the chosen clips; the names of the files, from the page."""
    clips, side = {clip.key: clip for clip in results.media.clips}, highest_resolution(rows)
    for row in rows:
        write_clip_media(results.media, clips[row["clip"]], folder / folder_name(row["clip"]), side)
    return {
        f"media/{folder_name(row['clip'])}/{name}"
        for row in rows
        for name in ("audio.wav", *(f"{second}.jpg" for second in range(clips[row["clip"]].seconds)))
    }


def _relative(folder: Path, page: Path) -> str:
    return Path("..", folder.relative_to(page.parent)).as_posix()
