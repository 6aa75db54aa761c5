"""Features less their mean, over their deviation. Not in core/, so that what rests on it is rerun when it changes."""

from __future__ import annotations

import numpy as np


def standardized(table: np.ndarray, train: np.ndarray) -> np.ndarray:
    """(x - mean) / std per last axis, by the statistics of the clips at positions `train` of axis -3."""
    rows = table[..., train, :, :].reshape(-1, table.shape[-1]).astype(np.float64)
    mean, std = rows.mean(0), rows.std(0)
    return ((table - mean) / np.where(std > 1e-8, std, 1.0)).astype(np.float32)
