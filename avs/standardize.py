"""Features less their mean, over their deviation. Not in core/, so that what rests on it is rerun when it changes."""

from __future__ import annotations

import numpy as np

_COLUMNS = 16  # that are in memory as float64 at once


def standardized(table: np.ndarray, train: np.ndarray, out: np.ndarray | None = None) -> np.ndarray:
    """(x - mean) / std per last axis, by the statistics of the clips at positions `train` of axis -3.

    float32, in `out` where that is given, which may be the table itself.
    """
    done = np.empty(table.shape, np.float32) if out is None else out
    for first in range(0, table.shape[-1], _COLUMNS):
        part = table[..., first : first + _COLUMNS]
        rows = part[..., train, :, :].reshape(-1, part.shape[-1]).astype(np.float64)
        mean, std = rows.mean(0), rows.std(0)
        done[..., first : first + _COLUMNS] = (part - mean) / np.where(std > 1e-8, std, 1.0)
    return done
