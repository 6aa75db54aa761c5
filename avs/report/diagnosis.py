"""Where an arm wins and loses, as p0's diagnosis has it, in tables."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from avs.report.results import MEASURES, Tree, ordered

KINDS = {
    "by_fallback": "fallback or not",
    "by_anchor_distance": "distance of the anchors to the event",
    "by_event_length": "length of the event, as a share of the clip",
    "by_class": "class",
}
ORDER = (
    *("none", "up_to_a_third", "up_to_two_thirds", "longer", "all"),
    *("no_event", "no_anchor", "all_on_event", "some_on_event", "next_to_event", "farther"),
)
SUBSETS = {"with_anchors": "clips with anchors", "all": "all clips with an event"}


def diagnosis_tables(diagnosis: Tree) -> list[dict[str, Any]]:
    """Of each diagnosed arm: tables of its gain over uniform by kind of clip, and its correlation with recall.

    diagnosis: arm → measure → kind → group → clips, diff, ci_low, ci_high; the kind `recall` has correlations.
    """
    return [{"arm": arm, "kinds": _kinds(measures), "recall": _recall(measures)} for arm, measures in diagnosis.items()]


def _kinds(measures: Mapping[str, Tree]) -> list[dict[str, Any]]:
    return [
        {"title": text, "rows": _rows(measures, kind)} for kind, text in KINDS.items() if kind in measures["accuracy"]
    ]


def _rows(measures: Mapping[str, Tree], kind: str) -> list[dict[str, Any]]:
    groups = measures["accuracy"][kind]
    return [
        {
            "group": name if kind == "by_class" else name.replace("_", " "),
            "clips": groups[name]["clips"],
            "cells": [measures.get(measure, {}).get(kind, {}).get(name) for measure in MEASURES],
        }
        for name in ordered(groups, () if kind == "by_class" else ORDER)
    ]


def _recall(measures: Mapping[str, Tree]) -> list[dict[str, Any]]:
    return [
        {"subset": text, "cells": [measures.get(measure, {}).get("recall", {}).get(subset) for measure in MEASURES]}
        for subset, text in SUBSETS.items()
    ]
