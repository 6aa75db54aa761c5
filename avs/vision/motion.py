"""How much moves in each second of a clip: the cheapest visual saliency, to anchor without sound."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
from PIL import Image

VERSION = 1  # raise when its numbers change
SIDE = 32  # pixels


def frame_motion(frames: Sequence[np.ndarray]) -> np.ndarray:
    """float32 [T] in [0, 255]: the mean absolute difference between the grey thumbnails of frames t and t - 1.

    frames: uint8 [H, W, 3], one a second. Second 0 has no frame before it, and takes the difference to the next; a
    single frame has no motion.
    """
    grey = [Image.fromarray(frame).convert("L").resize((SIDE, SIDE), Image.Resampling.BOX) for frame in frames]
    small = np.stack([np.asarray(image, np.float32) for image in grey])
    steps = np.abs(np.diff(small, axis=0)).mean(axis=(1, 2))
    return np.concatenate([steps[:1], steps]) if len(steps) else np.zeros(len(small), np.float32)
