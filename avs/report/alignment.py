"""Where what was understood differs from what was said, word by word."""

from __future__ import annotations

import re
import unicodedata

import jiwer

EQUAL, SUBSTITUTED, DELETED, INSERTED = "=", "s", "d", "i"

Edit = list[str]  # [kind, words said, words understood instead], the last two where there are some


def edits(reference: str, hypothesis: str) -> list[Edit]:
    """Runs of equal words, and each word that was substituted, deleted or inserted, by the fewest of these.

    Words are equal whatever their case and punctuation, since WER does not count these, and are given as they stand.
    `["=", "at f"]`, `["s", "two", "too"]`, `["d", "now"]`, `["i", "please"]`.
    """
    said, heard = reference.split(), hypothesis.split()
    if not said or not heard:
        return [[DELETED, word] for word in said] + [[INSERTED, word] for word in heard]
    (chunks,) = jiwer.process_words(" ".join(map(_plain, said)), " ".join(map(_plain, heard))).alignments
    found: list[Edit] = []
    for chunk in chunks:
        before = said[chunk.ref_start_idx : chunk.ref_end_idx]
        after = heard[chunk.hyp_start_idx : chunk.hyp_end_idx]
        if chunk.type == "equal":
            found.append([EQUAL, " ".join(before)])
        elif chunk.type == "substitute":
            found += [[SUBSTITUTED, a, b] for a, b in zip(before, after, strict=True)]
        else:
            kind, words = (DELETED, before) if chunk.type == "delete" else (INSERTED, after)
            found += [[kind, word] for word in words]
    return found


def _plain(word: str) -> str:
    """Without case and punctuation; what is nothing else stays as it is."""
    return re.sub(r"[^\w']", "", unicodedata.normalize("NFKC", word).lower()) or word


def errors(found: list[Edit]) -> int:
    """How many of them are none of the equal runs."""
    return sum(edit[0] != EQUAL for edit in found)
