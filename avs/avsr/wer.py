"""How many words are wrong, clip by clip and over all, with intervals, and which of two models is wrong less often."""

from __future__ import annotations

from collections.abc import Callable, Sequence

import jiwer
import numpy as np
import scipy

from avs.core.errors import InputError
from avs.core.stats import ratio_bootstrap

Counts = Sequence[int] | np.ndarray


Edit = tuple[str, ...]  # kind, words said, words understood instead; the last two where there are some
EQUAL, SUBSTITUTED, DELETED, INSERTED = "=", "s", "d", "i"


def edits(reference: str, hypothesis: str, alike: Callable[[str], str] = str) -> list[Edit]:
    """Runs of equal words, and each word that was substituted, deleted or inserted, by the fewest of these.

    Words are equal where `alike` makes the same of them, which is never nothing, and are given as they stand:
    `("=", "at f")`, `("s", "two", "too")`, `("d", "now")`, `("i", "please")`.
    """
    said, heard = reference.split(), hypothesis.split()
    (chunks,) = jiwer.process_words(" ".join(map(alike, said)), " ".join(map(alike, heard))).alignments
    found: list[Edit] = []
    for chunk in chunks:
        before = said[chunk.ref_start_idx : chunk.ref_end_idx]
        after = heard[chunk.hyp_start_idx : chunk.hyp_end_idx]
        if chunk.type == "equal":
            found.append((EQUAL, " ".join(before)))
        elif chunk.type == "substitute":
            found += [(SUBSTITUTED, *pair) for pair in zip(before, after, strict=True)]
        else:
            kind, words = (DELETED, before) if chunk.type == "delete" else (INSERTED, after)
            found += [(kind, word) for word in words]
    return found


def errors_of(found: Sequence[Edit]) -> int:
    return sum(kind != EQUAL for kind, *_ in found)


def word_errors(reference: str, hypothesis: str) -> tuple[int, int]:
    """Errors, and words of the reference. Where it has none, each word of the hypothesis is an error."""
    return errors_of(edits(reference, hypothesis)), len(reference.split())


def wer(errors: Counts, words: Counts, *, resamples: int = 10000, seed: int = 0) -> dict[str, float]:
    """Errors over words of all clips: {wer, low, high}, with a 95 % interval over clips.

    It tells of other clips like these, not of other speakers or other trainings. `ratio_bootstrap` alone ends too low
    where few clips have errors, and at 0 where none has; so `high` is at least the WER with the largest share of clips
    with errors that is likely (Clopper and Pearson 1934), each with as many as now, or one. Of clips of six words with
    beta-binomial errors, 400 draws: 60 clips, WER .03, .1, .4: .94, .94, .96 of the intervals held it (.91, .94, .96
    without); 20 clips: .91, .93, .95 (.80, .92, .95).
    Raises InputError as `ratio_bootstrap`, so where no clip has a word.
    """
    found, low, high, _ = ratio_bootstrap(errors, words, resamples=resamples, seed=seed)
    count, wrong = len(errors), int(np.count_nonzero(errors))
    if 1 < count > wrong:
        share = float(scipy.stats.beta.ppf(0.975, wrong + 1, count - wrong))
        each = float(np.sum(errors)) / wrong if wrong else 1.0
        high = max(high, share * each * count / float(np.sum(words)))
    return {"wer": found, "low": max(0.0, low), "high": high}


def wer_difference(a: Counts, b: Counts, words: Counts, *, resamples: int = 10000, seed: int = 0) -> dict[str, float]:
    """WER of a less that of b: {diff, ci_low, ci_high, p}, from errors [N] of two models on the same clips.

    Below 0, a is wrong less often.
    """
    if len(a) != len(b):
        raise InputError(f"errors of {len(a)} and of {len(b)} clips cannot be paired")
    apart = np.subtract(a, b)
    diff, low, high, p = ratio_bootstrap(apart, words, resamples=resamples, seed=seed)
    return {"diff": diff, "ci_low": low, "ci_high": high, "p": p}
