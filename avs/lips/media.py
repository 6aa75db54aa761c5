"""What `preprocess@speech` wrote: the mouth, the sound, the words of each utterance, read from its shard.

A shard is a plain tar: `<clip key>/lips.mkv`, grey 96×96 pictures at 25 fps, coded without loss (FFV1), and
`<clip key>/audio.wav`, 16 kHz mono PCM16 of exactly 640 samples a picture.
"""

from __future__ import annotations

import io
import tarfile
from collections import defaultdict
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from fractions import Fraction
from functools import cached_property
from itertools import islice
from pathlib import Path
from typing import IO

import av
import numpy as np
from av.codec.context import Flags

from avs.core.clips import Failed, read_table
from avs.core.footage import FPS
from avs.core.media import unwav, wav
from avs.core.shards import item_at, read_members
from avs.core.speech import Utterance, Word

MEMBERS = ("lips.mkv", "audio.wav")  # of a clip, in their order in the shard


@dataclass(frozen=True)
class SpeechClip(Utterance):
    """An utterance of `frames` pictures and 640 samples of sound for each; `media` is the digest of both.

    `flags` (comma-separated) say what is unusual about it; its members start at `offset` of `shard`.
    """

    frames: int = 0
    media: str = ""
    flags: str = ""
    shard: str = ""
    offset: int = 0


class SpeechShards:
    """The stage's folder: `clips`, pictures, sound and words of each, and the clips that `failed` on the way."""

    def __init__(self, folder: Path) -> None:
        self._folder = folder
        self.clips = read_table(folder / "index.tsv", SpeechClip)

    def __getstate__(self) -> dict[str, Path]:
        """Where the files lie, for processes that are given the clips that they read."""
        return {"_folder": self._folder}

    @cached_property
    def failed(self) -> list[Failed]:
        return read_table(self._folder / "failures.tsv", Failed)

    @cached_property
    def words(self) -> Mapping[str, list[Word]]:
        """The words of each clip, by its key, where the data set says when they are said; none elsewhere."""
        found: dict[str, list[Word]] = defaultdict(list)
        for word in read_table(self._folder / "words.tsv", Word):
            found[word.clip].append(word)
        return found

    def lips(self, clip: SpeechClip) -> np.ndarray:
        """uint8 [T, 96, 96], grey."""
        with item_at(self._folder / clip.shard, clip.offset) as file:
            return unfilm(_files(file, clip)["lips.mkv"])

    def audio(self, clip: SpeechClip) -> np.ndarray:
        """int16 [640 * T] at 16 kHz."""
        with item_at(self._folder / clip.shard, clip.offset) as file:
            return unwav(_files(file, clip)["audio.wav"])

    def samples(self, clip: SpeechClip) -> int:
        """How long the sound is, by the size of its file alone."""
        with item_at(self._folder / clip.shard, clip.offset) as file:
            with tarfile.open(fileobj=file, mode="r:") as tar:
                sizes = {member.name: member.size for member in islice(tar, len(MEMBERS))}
            return (sizes[f"{clip.key}/audio.wav"] - len(wav(np.zeros(0, np.int16)))) // 2


def _files(file: IO[bytes], clip: SpeechClip) -> dict[str, bytes]:
    found = dict(read_members(file, len(MEMBERS)))
    return {name: found[f"{clip.key}/{name}"] for name in MEMBERS}


def film(pictures: Sequence[np.ndarray] | np.ndarray) -> bytes:
    """T grey pictures, uint8 [H, W], as a Matroska file at 25 fps, without loss; the same input, the same bytes."""
    buffer = io.BytesIO()
    with av.open(buffer, "w", format="matroska", options={"fflags": "+bitexact"}) as container:
        # one key frame, so that what was learnt of a mouth serves all of its pictures
        stream = container.add_stream("ffv1", rate=FPS, options={"level": "3", "g": str(len(pictures))})
        stream.pix_fmt = "gray"
        stream.height, stream.width = pictures[0].shape
        stream.codec_context.thread_count = 1
        stream.codec_context.flags |= Flags.bitexact
        for number, picture in enumerate(pictures):
            frame = av.VideoFrame.from_ndarray(np.ascontiguousarray(picture), format="gray")
            frame.pts, frame.time_base = number, Fraction(1, FPS)
            container.mux(stream.encode(frame))
        container.mux(stream.encode(None))
    return buffer.getvalue()


def unfilm(data: bytes) -> np.ndarray:
    """The pictures, uint8 [T, H, W], of a file that `film` made."""
    with av.open(io.BytesIO(data), "r", format="matroska") as container:
        container.streams.video[0].codec_context.thread_count = 1
        return np.stack([frame.to_ndarray() for frame in container.decode(video=0)])
