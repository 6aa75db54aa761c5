"""Which clips make a batch: data sets by their shares, and clips of about one length together, by one seed."""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence

import numpy as np

from avs.core.errors import InputError
from avs.lips.media import SpeechClip

Order = tuple[SpeechClip, ...]  # the clips of a batch
_WIDTH = 1.1  # a bucket's longest clip over its shortest


def shares_of(mixture: Sequence[str]) -> dict[str, float]:
    """`name:weight`, … as shares that sum to one. Raises InputError for one that is none, or is there twice."""
    shares: dict[str, float] = {}
    for entry in mixture:
        name, _, weight = entry.partition(":")
        try:
            share = float(weight)
        except ValueError:
            share = math.nan
        if not name or name in shares or not 0 < share < math.inf:
            raise InputError(f"mixture ({entry!r}) must be a data set and its weight, such as lrs2:0.3, each set once")
        shares[name] = share
    return {name: share / sum(shares.values()) for name, share in shares.items()}


def chosen(sets: Mapping[str, Sequence[SpeechClip]], shares: Mapping[str, float], seed: int, epoch: int) -> Order:
    """The clips of an epoch, none twice: all of them, or by shares as many as the scarcest set has enough for.

    Of a larger set an epoch takes a part, and the next epoch goes on from there, round and round.
    """
    if not shares:
        return tuple(clip for clips in sets.values() for clip in clips)
    total = min(len(sets[name]) / share for name, share in shares.items())
    found: list[SpeechClip] = []
    for number, (name, share) in enumerate(shares.items()):
        clips, count = sets[name], max(1, math.floor(share * total + 1e-9))
        circle = np.random.default_rng((seed, number)).permutation(len(clips))
        found += [clips[place] for place in np.take(circle, np.arange(count) + epoch * count, mode="wrap")]
    return tuple(found)


def cut(clips: Sequence[SpeechClip], limit: int, frames: int) -> list[Order]:
    """Batches one after another: at most `limit` clips, and `frames` with the padding; longer clips are alone."""
    lengths = [clip.frames for clip in clips]
    orders: list[Order] = []
    start = 0
    while start < len(clips):
        count = min(limit, len(clips) - start)
        while count > 1 and count * max(lengths[start : start + count]) > frames:
            count -= 1
        orders.append(tuple(clips[start : start + count]))
        start += count
    return orders


def shuffled(clips: Sequence[SpeechClip], limit: int, frames: int, draw: np.random.Generator) -> list[Order]:
    """Batches in random order, of random clips of about one length.

    All epochs are counted before the first one, so that this must take no second for all clips that there are.
    """
    mixed = draw.permutation(len(clips))
    lengths = np.array([clip.frames for clip in clips])
    buckets = np.floor(np.log(lengths[mixed]) / math.log(_WIDTH))
    by_bucket = mixed[np.argsort(buckets, kind="stable")]  # stable: within a bucket clips stay mixed
    orders = cut([clips[place] for place in by_bucket], limit, frames)
    return [orders[place] for place in draw.permutation(len(orders))]
