"""What this machine can do at most: matrix products, memory, and what a step may compare itself with."""

from __future__ import annotations

import time
from collections.abc import Callable

import numpy as np
import torch

_SECONDS = 1.0  # of repeating, at least


def gemm_gflops(dtype: torch.dtype, rows: int = 2048, inner: int = 768, columns: int = 3072) -> float:
    """GFLOP/s of a matrix product of that size on all cores, a multiply-add counted as two; the best of many."""
    a, b = torch.randn(rows, inner).to(dtype), torch.randn(inner, columns).to(dtype)
    return 2 * rows * inner * columns / best(lambda: a @ b) / 1e9


def memory_gbps(megabytes: int = 512) -> float:
    """GB/s read and written by a copy of an array that no cache holds."""
    source = np.ones(megabytes << 17, np.float64)
    target = np.empty_like(source)
    return 2 * source.nbytes / best(lambda: np.copyto(target, source)) / 1e9


def best(work: Callable[[], object]) -> float:
    """Seconds of the quickest of some runs."""
    work()
    found: list[float] = []
    while sum(found) < _SECONDS or len(found) < 3:
        started = time.perf_counter()
        work()
        found.append(time.perf_counter() - started)
    return min(found)
