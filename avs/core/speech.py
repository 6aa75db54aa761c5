"""The table of utterances: who says what in which part of which video."""

from __future__ import annotations

from dataclasses import dataclass


@dataclass(frozen=True)
class Utterance:
    """One row: `video` is relative to the data set's folder, `sha256` that of its bytes.

    The clip is [`start`, `end`) seconds of its video; an `end` of 0 is the video's, so 0 and 0 are all of it.
    `landmarks` is the file of its faces' points, if there is one, beside the digest of that.
    """

    key: str
    dataset_name: str
    split: str
    video: str
    start: float
    end: float
    transcript: str
    speaker: str
    sha256: str
    landmarks: str = ""
    landmarks_sha256: str = ""


@dataclass(frozen=True)
class Word:
    """When a word of a clip is said, in seconds from the clip's start."""

    clip: str
    word: str
    start: float
    end: float
