"""The formula behind the golden numbers: weights and inputs from a name, an element index and a salt."""

from __future__ import annotations

import math
import zlib
from collections.abc import Sequence

import numpy as np


def _hash32(name: str, count: int, salt: str) -> np.ndarray:
    start = zlib.crc32(f"{salt}|{name}".encode())
    mixed = (np.arange(count, dtype=np.uint64) * np.uint64(2654435761) + np.uint64(start)).astype(np.uint32)
    for shift, factor in ((16, 0x85EBCA6B), (13, 0xC2B2AE35)):
        mixed = (mixed ^ (mixed >> np.uint32(shift))) * np.uint32(factor)
    return mixed ^ (mixed >> np.uint32(16))


def noise(name: str, count: int, salt: str = "dev") -> np.ndarray:
    """`count` values in [-1, 1), float64."""
    return _hash32(name, count, salt) / 2.0**31 - 1.0


def wave(name: str, shape: Sequence[int], salt: str = "dev", scale: float = 1.0) -> np.ndarray:
    """Two sines and a little noise, float32."""
    count = math.prod(shape)
    slow, slow_phase, fast, fast_phase = (noise(f"{name}#p", 4, salt) + 1.0) / 2.0
    index = np.arange(count, dtype=np.float64)
    value = 0.6 * np.sin((0.01 + 0.05 * slow) * index + 2 * math.pi * slow_phase)
    value += 0.3 * np.sin((0.2 + 0.7 * fast) * index + 2 * math.pi * fast_phase)
    value += 0.1 * noise(name, count, salt)
    return (scale * value).astype(np.float32).reshape(tuple(shape))


def tokens(name: str, shape: Sequence[int], low: int, high: int, salt: str = "dev") -> np.ndarray:
    """Integers in [low, high), int64."""
    hashed = _hash32(name, math.prod(shape), salt).astype(np.int64)
    return (low + hashed % (high - low)).reshape(tuple(shape))


def pcm16(x: np.ndarray) -> np.ndarray:
    """Samples in [-1, 1] as int16, cut towards zero."""
    return np.trunc(np.clip(np.asarray(x, dtype=np.float64), -1.0, 1.0) * 32767.0).astype(np.int16)


def fill_array(key: str, shape: Sequence[int], salt: str = "dev") -> np.ndarray:
    """The value of one state-dict entry."""
    if key.endswith("num_batches_tracked"):
        return np.zeros(tuple(shape), dtype=np.int64)
    count = math.prod(shape)
    offset, scale = _offset_and_scale(key, tuple(shape), count)
    return (offset + scale * noise(key, count, salt)).astype(np.float32).reshape(tuple(shape))


def _offset_and_scale(key: str, shape: tuple[int, ...], count: int) -> tuple[float, float]:
    last = key.rsplit(".", 1)[-1]
    by_name = {"running_mean": (0.0, 0.05), "running_var": (1.0, 0.25), "weight_g": (0.30, 0.03)}
    by_name |= {"gamma": (1.0, 0.1), "beta": (0.0, 0.05)}
    if last in by_name:
        return by_name[last]
    if last.startswith("bias"):
        return 0.0, 0.05
    if last == "weight" and len(shape) == 1:
        is_slope = count == 1 or "relu" in key or key.endswith("frontend3D.2.weight")
        return (0.25 if is_slope else 1.0), 0.1
    if len(shape) >= 2:
        return 0.0, math.sqrt(3.0 / math.prod(shape[1:]))
    return 0.0, 0.05
