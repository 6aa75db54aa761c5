"""MuSE caches in the published layout, brought into the store, written from the stage's features, and checked."""

from __future__ import annotations

import hashlib
import json
from pathlib import Path

import numpy as np

from avs.core.errors import InputError
from avs.core.execute import progress
from avs.core.store import ItemStore, item_key
from avs.lips.cache import FEATURES, MuseFeatures, check_origin, in_scope
from avs.lips.features import MuseParams
from avs.lips.media import SpeechShards
from avs.lips.preflight import MISS, Problem, refuse
from avs.lips.published import PublishedCache, write_published


def export_published(muse: Path, media: Path, folder: Path, videos: str | None = None) -> int:
    """Write the stage's features of `muse` to a folder in the published layout; how many clips."""
    features = MuseFeatures(muse)
    clips = [clip for clip in SpeechShards(media).clips if clip in features]
    features.check(clips)
    meta = {key: value for key, value in features.meta.items() if key not in ("clips", "frames")}
    write_published(folder, clips, features.load, meta, videos)
    return len(clips)


def import_published(
    media: Path, folder: Path, p: MuseParams, videos: str | None = None
) -> tuple[str, int, list[Problem]]:
    """Bring the features of a published folder into the store: (digest, clips, what is missing).

    `muse.checkpoint: imported:<digest>` makes the stage use them. Where the folder does not say which checkpoint made
    them, it is recorded as unknown. Raises InputError, with nothing brought, for entries that are damaged or do not
    fit their clips, and for features of another checkpoint or preprocessing than the parameters name.
    """
    cache = _opened(folder, p, videos)
    clips = in_scope(SpeechShards(media).clips, p)
    problems = list(cache.problems(clips))
    refuse([problem for problem in problems if problem.kind != MISS], len(clips), "mend or remove them")
    missing = {problem.clip for problem in problems}
    store = ItemStore("muse")
    there = [clip for clip in clips if clip.key not in missing]
    keys = {clip.media: _bring(store, cache.load(clip)) for clip in progress(there, "import")}
    if not keys:
        raise InputError(f"{folder}: {len(cache)} entries, but of none of {len(clips)} clips (name --videos DIR)")
    unknown = dict.fromkeys(("checkpoint_sha256", "trained", "preprocessing", "dtype", "device"), "unknown")
    made = unknown | {key: value for key, value in cache.meta.items() if key in unknown}
    payload = json.dumps({"made": made, "items": keys}, sort_keys=True).encode()
    digest = hashlib.sha256(payload).hexdigest()
    store.save(digest, payload)
    return digest, len(there), problems


def verify_features(media: Path, folder: Path, p: MuseParams, videos: str | None = None) -> tuple[int, list[Problem]]:
    """How many clips are in scope, and what is wrong with their features in a packed or a published folder."""
    clips = in_scope(SpeechShards(media).clips, p)
    if (folder / FEATURES).exists():
        return len(clips), MuseFeatures(folder, p).problems(clips)
    cache = _opened(folder, p, videos)
    return len(clips), list(cache.problems(clips))


def _opened(folder: Path, p: MuseParams, videos: str | None) -> PublishedCache:
    """The published folder, once what it says of its origin, if anything, is what the parameters name, if anything."""
    cache = PublishedCache(folder, videos)
    if cache.meta and p.checkpoint and not p.imported:
        check_origin(cache.meta, p, str(folder))
    return cache


def _bring(store: ItemStore, features: np.ndarray) -> str:
    key = item_key(imported=hashlib.sha256(features.tobytes()).hexdigest())
    if key not in store:
        store.save_array(key, features)
    return key
