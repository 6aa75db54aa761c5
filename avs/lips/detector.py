"""Points of a face from MediaPipe's face mesh, which is no part of the lock: an extra."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from contextlib import contextmanager

import numpy as np

from avs.core.errors import InputError

POINTS = 478
_WAY_OUT = (
    "lips.detector (mediapipe) needs a package that is not installed: pip install --no-deps mediapipe==0.10.21 "
    "opencv-python-headless, then pip install absl-py attrs flatbuffers 'protobuf<5' (or give landmarks in files: "
    "docs/speech-data.md)"
)


def check_detector(name: str) -> None:
    """Raise InputError where the detector is not installed."""
    if name == "mediapipe":
        _face_mesh()


@contextmanager
def face_mesh() -> Iterator[Callable[[np.ndarray], np.ndarray]]:
    """A function from pictures in their order, RGB uint8 [H,W,3], to points, [478,2] in pixels; NaN without a face."""
    with _face_mesh()(static_image_mode=False, max_num_faces=1, refine_landmarks=True) as mesh:

        def find(picture: np.ndarray) -> np.ndarray:
            faces = mesh.process(np.ascontiguousarray(picture)).multi_face_landmarks
            if not faces:
                return np.full((POINTS, 2), np.nan)
            height, width = picture.shape[:2]
            return np.array([(point.x * width, point.y * height) for point in faces[0].landmark])

        yield find


def _face_mesh() -> type:
    try:
        from mediapipe.python.solutions.face_mesh import FaceMesh  # seconds to import
    except ImportError as error:
        raise InputError(f"{_WAY_OUT}: {error}") from error
    return FaceMesh
