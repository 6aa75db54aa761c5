"""MCoRec (CHiME-9, task 1): conversations round a table, filmed by one camera; who says what in which track of a face.

Either its processed WebDataset tars (`mcorec-train-*.tar`, `mcorec-valid-*.tar`), or sessions as they were recorded:

    train/session_NN/metadata.json                          each speaker's tracks, and when the conversation goes on
    train/session_NN/labels/spk_N.vtt                       what a speaker says, by the session's time
    train/session_NN/speakers/spk_N/central_crops/track_NN.mp4, .json         a face and when it is there
    train/session_NN/speakers/spk_N/central_crops/track_NN_lip.av.mp4         its mouth, if it was cut out

A clip is a cue, or several that follow each other, within one track. What nobody labelled is in no clip.
"""

from __future__ import annotations

import json
import math
import sys
from collections import Counter
from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path
from typing import Any

from avs.core.clips import locate
from avs.core.errors import InputError
from avs.core.execute import ExecutionParams, progress
from avs.core.params import params
from avs.core.speech import Utterance, Word
from avs.speech.subset import check_taken, clip_key, limited, named
from avs.speech.vtt import Cue, read_cues
from avs.speech.webdataset import Shard, read_shards, shards

NAME = "mcorec"  # scopes and the published recipe know the set by it
SPLITS = {"train": "train", "valid": "val"}  # the kit's names of the published ones
ALIASES = {"dev": "valid", "val": "valid"}
SOURCE = (
    "MCoRec is gated: ask for access at huggingface.co/datasets/MCoRecChallenge/MCoRec, sign its agreement (no "
    "commerce, no passing on, no showing of faces), and put its processed tars, or its unzipped train and dev, there"
)
_FRAME = 0.04  # seconds that a cue may reach over its track: a picture
_EPS = 1e-6  # of sums of seconds
_MAX_JSON = 1 << 20  # bytes


@params
class MCoRecParams:
    """folder: of the sessions or tars; splits: of train and valid; limit: clips of a split, drawn.

    Of sessions only: longest: seconds of a clip; join: cues of one speaker that are at most so many seconds apart
    become one clip, 0: none do.
    """

    folder: str = "data/mcorec"
    splits: tuple[str, ...] = ("train", "valid")
    longest: float = 15.0
    join: float = 0.0
    limit: int | None = None

    def __post_init__(self) -> None:
        check_taken(self.splits, SPLITS, self.limit)
        if not 0 < self.longest < math.inf:
            raise ValueError(f"longest ({self.longest}) must be seconds, above 0")
        if not 0 <= self.join < math.inf:
            raise ValueError(f"join ({self.join}) must be seconds, 0 or more")


@dataclass(frozen=True)
class Track:
    """A face from `start` to `end` seconds of its session; `video` and `landmarks` are below the data set's folder."""

    name: str
    video: str
    landmarks: str
    start: float
    end: float


class MCoRec:
    def __init__(self, p: MCoRecParams) -> None:
        self._p = p

    def folder(self) -> Path:
        return Path(self._p.folder)

    def prepare(self, execution: ExecutionParams) -> None:
        if not self._tars and not self._sessions:
            raise InputError(
                f"speech_data.mcorec.folder ({self.folder()}) holds neither mcorec-SPLIT-*.tar nor "
                f"SPLIT/session_*/metadata.json of {' or '.join(self._p.splits)}. {SOURCE}"
            )

    def utterances(self) -> list[Utterance]:
        return self._rows

    def words(self) -> list[Word]:
        return []

    @cached_property
    def _tars(self) -> list[Shard]:
        return shards(self.folder(), (NAME,), ALIASES)

    @cached_property
    def _sessions(self) -> list[tuple[str, Path]]:
        """Sessions of the splits that are taken, each with the published name of its split."""
        found = [
            (ALIASES.get(path.parent.parent.name, path.parent.parent.name), path.parent)
            for path in sorted(self.folder().glob("*/session_*/metadata.json"))
        ]
        return [(split, session) for split, session in found if split in self._p.splits]

    @cached_property
    def _rows(self) -> list[Utterance]:
        if self._tars:
            return read_shards(self.folder(), self._tars, self._p.splits, SPLITS, self._p.limit)
        if absent := set(self._p.splits) - {split for split, _ in self._sessions}:
            raise InputError(f"{self.folder()}: no session of {', '.join(sorted(absent))}: change splits, or get them")
        out: Counter[str] = Counter()
        sessions = progress(self._sessions, "sessions", len(self._sessions))
        rows = [row for split, session in sessions for row in self._session(split, session, out)]
        if out:
            reasons = ", ".join(f"{count} {reason}" for reason, count in sorted(out.items()))
            print(f"{NAME}: {len(rows)} clips; cues left out: {reasons}", file=sys.stderr)
        return limited(rows, self._p.limit, lambda row: row.split, lambda row: row.key)

    def _session(self, split: str, session: Path, out: Counter[str]) -> Iterator[Utterance]:
        for speaker, about in sorted(read_object(session / "metadata.json").items()):
            central = _within(session, speaker, about, "central", dict)
            cues = read_cues(locate(session, f"labels/{speaker}.vtt"))
            tracks = [_track(self.folder(), session, speaker, crop) for crop in central.get("crops", [])]
            said = list(_conversation(session, speaker, cues, central, out))
            for track, clip in _clips(said, tracks, self._p, out):
                yield _utterance(split, session.name, speaker, track, clip)


def _conversation(
    session: Path, speaker: str, cues: Iterable[Cue], central: Mapping[str, Any], out: Counter[str]
) -> Iterator[Cue]:
    """The cues that lie in the time of the conversation, which is all where none is given."""
    uem = central.get("uem") or {"start": 0.0, "end": math.inf}
    start, end = (_number(session, f"{speaker}: uem", uem, name) for name in ("start", "end"))
    for cue in cues:
        if start - _FRAME <= cue.start and cue.end <= end + _FRAME:
            yield cue
        else:
            out["outside of the conversation"] += 1


def _clips(
    cues: Iterable[Cue], tracks: Sequence[Track], p: MCoRecParams, out: Counter[str]
) -> Iterator[tuple[Track, Cue]]:
    """Cues that lie within a track, those that follow each other within it closely joined."""
    track: Track | None = None
    clip: Cue | None = None
    for cue in cues:
        where = next((t for t in tracks if t.start - _FRAME <= cue.start and cue.end <= t.end + _FRAME), None)
        if where is None or cue.end - cue.start > p.longest + _EPS:
            out["in no track" if where is None else f"longer than {p.longest:g} s"] += 1
        elif clip and where is track and _joined(clip, cue, p):
            clip = Cue(clip.start, max(clip.end, cue.end), f"{clip.text} {cue.text}")
        else:
            if track and clip:
                yield track, clip
            track, clip = where, cue
    if track and clip:
        yield track, clip


def _joined(clip: Cue, cue: Cue, p: MCoRecParams) -> bool:
    near = p.join > 0 and cue.start - clip.end <= p.join + _EPS
    return near and cue.end - clip.start <= p.longest + _EPS


def _utterance(split: str, session: str, speaker: str, track: Track, clip: Cue) -> Utterance:
    """Times count from the beginning of the track's video, in thousandths, and do not reach over it."""
    start = max(round(clip.start - track.start, 3), 0)
    end = round(min(clip.end, track.end) - track.start, 3)
    when = f"{round(clip.start * 1000):07d}-{round(clip.end * 1000):07d}"
    key = clip_key(split, session, speaker, track.name, when)
    who = f"{session}_{speaker}"  # nothing says who is who in another session
    return Utterance(
        key, NAME, SPLITS[split], track.video, start, end, clip.text, who, sha256="", landmarks=track.landmarks
    )


def _track(folder: Path, session: Path, speaker: str, crop: Any) -> Track:
    video = locate(session, _within(session, speaker, crop, "video", str))
    about = read_object(locate(session, _within(session, speaker, crop, "crop_metadata", str)))
    where = f"{speaker}: {video.name}"
    start, end = (_number(session, where, about, name) for name in ("start_time", "end_time"))
    lips = video.with_name(f"{video.stem}_lip.av.mp4")
    if lips.exists():  # track_NN_lip.av.npy, where it is there, are features of others
        return Track(video.stem, named(folder, lips)[0], "", start, end)
    return Track(video.stem, *named(folder, video), start, end)


def read_object(path: Path) -> dict[str, Any]:
    """A JSON object from a small file. Raises InputError for anything else."""
    if not path.is_file():
        raise InputError(f"{path}: not there, or not a regular file")
    if path.stat().st_size > _MAX_JSON:
        raise InputError(f"{path}: larger than {_MAX_JSON} bytes")
    try:
        tree = json.loads(path.read_bytes())
    except (OSError, ValueError, RecursionError) as error:
        raise InputError(f"{path}: cannot be read as JSON: {error}") from error
    if not isinstance(tree, dict):
        raise InputError(f"{path}: must be a JSON object")
    return tree


def _within(session: Path, speaker: str, tree: Any, name: str, kind: type) -> Any:
    found = tree.get(name) if isinstance(tree, dict) else None
    if not isinstance(found, kind):
        raise InputError(f"{session / 'metadata.json'}: {speaker}: no {name}, or an odd one")
    return found


def _number(session: Path, where: str, tree: Any, name: str) -> float:
    value = tree.get(name) if isinstance(tree, dict) else None
    if not isinstance(value, int | float) or isinstance(value, bool) or not value >= 0:
        raise InputError(f"{session}: {where}: {name} ({value!r}) must be seconds, 0 or more")
    return float(value)
