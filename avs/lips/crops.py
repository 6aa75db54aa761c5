"""Mouth regions: from points of a face to grey 96×96 pictures, by a similarity transform to a mean face.

Points are (x, y) in pixels, whole numbers at pixels' centres, of one of these kinds: 68 (iBUG's), 468 or 478
(MediaPipe's face mesh, without and with irises), or the nine that the transform rests on.
"""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

import numpy as np
from PIL import Image

from avs.core.errors import InputError
from avs.core.media import MediaError

SIDE = 96  # pixels
WINDOW = 12  # pictures over which points are averaged
MIN_FOUND = 0.5  # of the pictures must show a face
_FARTHEST = 1e5  # pixels: points beyond are in no picture
_FINEST = 32  # samples a pixel across: a face that fills a picture of 8000 pixels needs 24
# Eye corners, tip, bridge and wings of the nose, and the middle of the outer lips, in a picture of 256 × 256: the mean
# of ten GRID speakers, scaled so that the mouth is 46 pixels wide.
MEAN_FACE = np.array(
    [
        (84.659, 85.338),
        (111.286, 86.750),
        (143.789, 87.027),
        (170.284, 85.338),
        (128.510, 125.193),
        (128.064, 81.218),
        (111.275, 130.378),
        (145.038, 130.127),
        (128.000, 158.000),
    ]
)
_MESH = (33, 133, 362, 263, 1, 168, 98, 327)
_MESH_LIPS = (61, 146, 91, 181, 84, 17, 314, 405, 321, 375, 291, 409, 270, 269, 267, 0, 37, 39, 40, 185)
_IBUG = (36, 39, 42, 45, 30, 27, 31, 35)
_IBUG_LIPS = range(48, 60)
KINDS: dict[int, tuple[Sequence[int], Sequence[int]]] = {
    9: (range(8), (8,)),
    68: (_IBUG, _IBUG_LIPS),
    468: (_MESH, _MESH_LIPS),
    478: (_MESH, _MESH_LIPS),
}
# The convention of AV-HuBERT's and MCoRec's crops: these of 68 points are matched, the patch is cut round those.
_STABLE, _MOUTH = (28, 33, 36, 39, 42, 45, 48, 54), range(48, 68)


def read_mean_face(path: Path) -> np.ndarray:
    """68 points of a mean face in a picture of 256 × 256, float [68,2], from an .npy file."""
    points = _read_array(path)
    if points.shape != (68, 2) or not np.isfinite(points).all():
        raise InputError(f"{path}: shape {points.shape} must be (68, 2), the points of a mean face")
    return points


def read_landmarks(path: Path) -> np.ndarray:
    """Points of a face in each picture, at 25 a second: float [T,P,2] from an .npy file; NaN where there is no face."""
    points = _read_array(path)
    if points.ndim != 3 or points.shape[1] not in KINDS or points.shape[2] != 2:
        kinds = ", ".join(map(str, KINDS))
        raise InputError(f"{path}: shape {points.shape} must be (pictures, points, 2), with {kinds} points")
    if (np.abs(points) > _FARTHEST).any():
        raise InputError(f"{path}: points ({np.nanmax(np.abs(points)):g}) must be within {_FARTHEST:g} pixels")
    return points


def _read_array(path: Path) -> np.ndarray:
    """The numbers of an .npy file, which is mapped first, so that its header cannot ask for memory."""
    try:
        points = np.load(path, mmap_mode="r", allow_pickle=False)
    except Exception as error:  # NumPy parses the header, and whatever is wrong with it may be raised
        raise InputError(f"{path}: cannot be read as .npy: {error}") from error
    if not isinstance(points, np.ndarray) or points.dtype.kind != "f":
        raise InputError(f"{path}: must be an .npy file of floating point numbers")
    return np.asarray(points, np.float64)


def mouth_transforms(points: np.ndarray, mean_face: np.ndarray | None = None) -> np.ndarray:
    """The affine maps, [T,2,3], from pictures to their 96×96 mouth patches, for points [T,P,2].

    Pictures without a face take points from those around them. Points are averaged over 12 pictures, t-6 to t+5; the
    similarity transform is the least-squares one from nine of them to `MEAN_FACE`, and the patch is centred on the
    mouth. With `mean_face`, 68 points, the convention is MCoRec's: eight of 68 points are matched, and the averaged
    shape stays where the picture's own points are. Raises MediaError where too few pictures show a face.
    """
    found = np.isfinite(points).all(axis=(1, 2))
    if not found.any() or found.mean() < MIN_FOUND:
        raise MediaError(f"a face is found in {found.sum()} of {len(points)} pictures, at least half must show one")
    if mean_face is None:
        smooth = _smoothed(_nine(_filled(points, found)))
        matched, mouth, reference = smooth, smooth[:, -1], MEAN_FACE
    else:
        if points.shape[1] != 68:
            raise MediaError(f"{points.shape[1]} points of a face, but lips.mean_face has 68")
        points = _filled(points, found)
        smooth = _smoothed(points)
        smooth += (points.mean(axis=1) - smooth.mean(axis=1))[:, None]
        matched, mouth, reference = smooth[:, _STABLE], smooth[:, _MOUTH].mean(axis=1), mean_face[list(_STABLE)]
    whole = mean_face is not None
    return np.stack([_cut(similarity(p, reference), m, whole=whole) for p, m in zip(matched, mouth, strict=True)])


def similarity(points: np.ndarray, reference: np.ndarray) -> np.ndarray:
    """The rotation, scale and shift, [2,3], that bring points [P,2] closest to others, in the least-squares sense.

    Umeyama 1991 in two dimensions, without reflection: with complex numbers, centred, the turn is <p, r> / <p, p>.
    """
    p, r = (xy[:, 0] + 1j * xy[:, 1] for xy in (points, reference))
    spread = np.sum(np.abs(p - p.mean()) ** 2)
    if not spread > 0:
        raise MediaError("all points of a face lie in one place")
    turn = np.sum(np.conj(p - p.mean()) * (r - r.mean())) / spread
    shift = r.mean() - turn * p.mean()
    return np.array([[turn.real, -turn.imag, shift.real], [turn.imag, turn.real, shift.imag]])


def _nine(points: np.ndarray) -> np.ndarray:
    stable, lips = KINDS[points.shape[1]]
    return np.concatenate([points[:, list(stable)], points[:, list(lips)].mean(axis=1, keepdims=True)], axis=1)


def _filled(points: np.ndarray, found: np.ndarray) -> np.ndarray:
    """Points between pictures in which a face was found, on straight lines; beyond the first and last, theirs."""
    time, seen = np.arange(len(points)), np.flatnonzero(found)
    flat = points.reshape(len(points), -1)
    columns = [np.interp(time, seen, column[seen]) for column in flat.T]
    return np.stack(columns, axis=1).reshape(points.shape)


def _smoothed(points: np.ndarray) -> np.ndarray:
    half = WINDOW // 2
    return np.stack([points[max(0, t - half) : t + half].mean(axis=0) for t in range(len(points))])


def _cut(transform: np.ndarray, mouth: np.ndarray, *, whole: bool) -> np.ndarray:
    """The transform, followed by the shift that brings the mouth to the patch's middle.

    whole: by whole pixels, as a patch is cut from the picture of 256 × 256: its pixel 48 is the one nearest the mouth.
    """
    place = transform[:, :2] @ mouth + transform[:, 2]
    shifted = transform.copy()
    shifted[:, 2] += SIDE // 2 - np.rint(place) if whole else (SIDE - 1) / 2 - place
    return shifted


def grey(picture: np.ndarray) -> np.ndarray:
    """uint8 [H,W] of RGB uint8 [H,W,3]: 0.299 R + 0.587 G + 0.114 B (ITU-R BT.601); grey stays as it is."""
    return np.array(Image.fromarray(picture).convert("L"))


def crop(picture: np.ndarray, transform: np.ndarray) -> np.ndarray:
    """The mouth's grey patch, uint8 [96,96], of RGB uint8 [H,W,3], in one bicubic resampling.

    Large faces are sampled several times a pixel and averaged. Raises MediaError for one that is no face of a picture.
    """
    times = max(1, round(1 / np.hypot(*transform[:, 0])))
    if times > _FINEST:
        raise MediaError(f"points of a face {times} times as large as the patch: are they pixels of this picture?")
    inverse = np.linalg.inv(np.vstack([transform, (0, 0, 1)]))[:2]
    inverse[:, :2] /= times
    # From the middle of a fine pixel in patch coordinates; Pillow counts from a pixel's edge.
    inverse[:, 2] += 0.5 - inverse[:, :2].sum(axis=1) * 0.5 * times
    patch = Image.fromarray(grey(picture)).transform(
        (SIDE * times, SIDE * times), Image.Transform.AFFINE, inverse.ravel().tolist(), Image.Resampling.BICUBIC
    )
    return np.asarray(patch.reduce(times) if times > 1 else patch)
