"""The table of utterances → shards: each decoded once into grey 96×96 mouths at 25 fps and its sound."""

from __future__ import annotations

import hashlib
import io
from collections.abc import Sequence
from functools import lru_cache, partial
from pathlib import Path
from typing import Literal

import numpy as np

from avs.core import tars
from avs.core.clips import Failed, locate, write_table
from avs.core.execute import ExecutionParams, Failure, map_items
from avs.core.footage import FPS, MAX_SECONDS, SAMPLES, Footage, read_footage
from avs.core.media import MediaError, unwav, wav
from avs.core.params import params
from avs.core.shards import Facts, Named, pack_shards, packed, read_members
from avs.core.speech import Utterance, Word
from avs.core.store import ItemStore, item_key, sha256_file
from avs.lips.crops import SIDE, crop, grey, mouth_transforms, read_landmarks, read_mean_face
from avs.lips.detector import check_detector, face_mesh
from avs.lips.media import MEMBERS, SpeechClip, film

VERSION = 1  # raise when the pictures or the sound of a clip change
_FLAGS = "flags"  # name of the member of an item that holds the clip's flags
_AGAIN = "run: dvc repro -f install@speech"


@params
class LipsParams:
    """detector: of faces, for pictures that are no mouths and have no landmarks; mean_face: .npy file of 68 points."""

    detector: Literal["none", "mediapipe"] = "none"
    mean_face: str | None = None

    def reference(self) -> np.ndarray | None:
        return read_mean_face(Path(self.mean_face)) if self.mean_face else None


def preprocess_speech(
    clips: Sequence[Utterance],
    words: Sequence[Word],
    folder: Path,
    out: Path,
    p: LipsParams,
    execution: ExecutionParams,
) -> tuple[list[SpeechClip], list[Failed], int]:
    """Decode `clips`, whose videos lie in `folder`, and write shards, `index.tsv` and `words.tsv` to `out`.

    Returns the clips written, those that failed, and how many had to be decoded.
    """
    p.reference()  # a mistake in it is told before any work
    check_detector(p.detector)
    store = ItemStore("speech")
    store.sweep()
    keys = [media_key(clip, p) for clip in clips]
    jobs = [(keys[place], clips[place]) for place in store.missing(keys)]
    results = map_items(partial(decode_into, folder, store, p), jobs, execution, "preprocess")
    reasons = {key: r.reason for (key, _), r in zip(jobs, results, strict=True) if isinstance(r, Failure)}
    failed = [Failed(c.key, c.video, reasons[k]) for k, c in zip(keys, clips, strict=True) if k in reasons]
    usable = [(key, clip) for key, clip in zip(keys, clips, strict=True) if key not in reasons]
    facts = pack_shards(store, [Named(key, clip.key) for key, clip in usable], out, _unpack)
    rows = [SpeechClip(**(vars(clip) | known)) for (_, clip), known in zip(usable, facts, strict=True)]
    write_table(out / "index.tsv", rows, SpeechClip)
    there = {row.key for row in rows}
    write_table(out / "words.tsv", [word for word in words if word.clip in there], Word)
    return rows, failed, len(jobs) - len(reasons)


def media_key(clip: Utterance, p: LipsParams) -> str:
    """The key of a clip's mouth and sound in the store `speech`."""
    face = {"mean_face": sha256_file(p.mean_face)} if p.mean_face else {}
    points = {"landmarks": clip.landmarks_sha256} if clip.landmarks else {"detector": p.detector}
    return item_key(version=VERSION, video=clip.sha256, start=clip.start, end=clip.end, **points, **face)


def decode_into(folder: Path, store: ItemStore, p: LipsParams, job: tuple[str, Utterance]) -> None:
    """Decode a clip into the store, under the key beside it; the item is a tar of its members and flags."""
    key, clip = job
    if key in store:  # by now: another process made it, or a worker that died after it
        return
    path = _unchanged(folder, clip.video, clip.sha256)
    points = None
    if clip.landmarks:
        points = read_landmarks(_unchanged(folder, clip.landmarks, clip.landmarks_sha256))[round(clip.start * FPS) :]
        points = points[: round((clip.end - clip.start) * FPS)] if clip.end else points
    footage = mouths(path, points, p, start=clip.start, end=clip.end)
    contents = (film(footage.seen), wav(footage.audio), ",".join(footage.flags).encode())
    store.save(key, packed(dict(zip((*MEMBERS, _FLAGS), contents, strict=True))))


def mouths(
    path: Path,
    points: np.ndarray | None,
    p: LipsParams,
    *,
    start: float = 0,
    end: float = 0,
    longest: float = MAX_SECONDS,
) -> Footage[np.ndarray]:
    """Mouths cut out by points [T,P,2] of the clip's pictures, or as they are, or by what the detector finds first.

    start, end, longest: as of `read_footage`.
    """
    read = partial(read_footage, path, start=start, end=end, longest=longest)
    if points is None and p.detector == "none":
        return read(_as_it_is)
    if points is None:
        with face_mesh() as find:
            first = read(lambda n, picture: grey(picture) if _is_mouth(picture) else find(picture))
        if first.seen[0].shape == (SIDE, SIDE):
            return first
        points = np.stack(first.seen)
    cropper = _Cropper(mouth_transforms(points, p.reference()))
    footage = read(cropper)
    cropper.check(len(footage.seen))
    return footage


class _Cropper:
    """Cuts mouths out of pictures by the transform of each."""

    def __init__(self, transforms: np.ndarray) -> None:
        self._transforms = transforms

    def __call__(self, n: int, picture: np.ndarray) -> np.ndarray:
        if n >= len(self._transforms):
            raise MediaError(f"landmarks of {len(self._transforms)} pictures for a clip of more")
        return crop(picture, self._transforms[n])

    def check(self, pictures: int) -> None:
        if pictures != len(self._transforms):
            raise MediaError(f"landmarks of {len(self._transforms)} pictures for a clip of {pictures}")


def _as_it_is(n: int, picture: np.ndarray) -> np.ndarray:
    if not _is_mouth(picture):
        size = f"{picture.shape[1]}x{picture.shape[0]}"
        raise MediaError(f"pictures of {size}, not mouths of {SIDE}x{SIDE}: give landmarks, or set lips.detector")
    return grey(picture)


def _is_mouth(picture: np.ndarray) -> bool:
    return picture.shape[:2] == (SIDE, SIDE)


def _unchanged(folder: Path, name: str, digest: str) -> Path:
    """The path of a file that is still what it was at install."""
    path = locate(folder, name)
    part = tars.find(path)
    if part is None:
        raise MediaError(f"{name} is gone since install ({_AGAIN})")
    if _digest(part, part.path.stat().st_mtime_ns) != digest:
        raise MediaError(f"{name} has changed since install ({_AGAIN})")
    return path


@lru_cache(maxsize=16)
def _digest(part: tars.Part, changed: int) -> str:
    """The digest of a file in that state: many clips may come from one long video."""
    return part.sha256()


def _unpack(item: bytes) -> tuple[dict[str, bytes], Facts]:
    """Its members in a shard, and what the table says of it."""
    found = dict(read_members(io.BytesIO(item)))
    members = {name: found[name] for name in MEMBERS}
    frames = len(unwav(members["audio.wav"])) // SAMPLES
    return members, {"frames": frames, "media": hashlib.sha256(item).hexdigest(), "flags": found[_FLAGS].decode()}
