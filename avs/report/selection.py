"""Which clips the page shows, by a rule that it states."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

from avs.core.params import params

MOST = 300  # clips, beyond which a page is slow to load and to send


@params
class ReportParams:
    """`clips`: how many clips, at most, the page shows with frames and sound."""

    clips: int = 60

    def __post_init__(self) -> None:
        if not 0 <= self.clips <= MOST:
            raise ValueError(f"clips ({self.clips}) must be from 0 to {MOST}")


def choose_clips(rows: Sequence[Mapping[str, Any]], gains: Sequence[float], limit: int) -> tuple[list[int], str]:
    """Places of the clips to show, in their order, and the rule in words.

    All where they fit. Else up to a third each of the largest gains and the largest losses, and an even spread over
    the rest in the order of the rows. Equal gains go by that order.
    """
    places = range(len(rows))
    if len(rows) <= limit:
        return list(places), f"All {len(rows)} judged clips are shown."
    most = limit // 3
    best = sorted((place for place in places if gains[place] > 0), key=lambda place: (-gains[place], place))[:most]
    worst = sorted((place for place in places if gains[place] < 0), key=lambda place: (gains[place], place))[:most]
    extreme = {*best, *worst}
    rest = [place for place in places if place not in extreme]
    count = limit - len(extreme)
    spread = {rest[number * len(rest) // count] for number in range(count)}
    rule = (
        f"{limit} of {len(rows)} judged clips are shown: the {len(best)} with the largest gain of the anchors over "
        f"uniform sampling, the {len(worst)} with the largest loss, and {count} spread evenly over the others. "
        "So the mean of what is shown is not the mean of the study."
    )
    return sorted(extreme | spread), rule
