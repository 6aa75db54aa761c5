import re
from pathlib import Path

import numpy as np
import pytest

from avs.core.errors import InputError
from avs.core.footage import read_footage
from avs.core.media import MediaError
from avs.lips.crops import MEAN_FACE, crop, grey, mouth_transforms, read_landmarks, read_mean_face, similarity

GRID = Path(__file__).resolve().parents[2] / "shared/grid"
POINTS = Path(__file__).parent / "golden/grid_bbal9a_points.npy"


def turned(points: np.ndarray, scale: float, angle: float, shift: tuple[float, float]) -> np.ndarray:
    c, s = scale * np.cos(angle), scale * np.sin(angle)
    return points @ np.array([[c, s], [-s, c]]) + shift


def applied(transform: np.ndarray, points: np.ndarray) -> np.ndarray:
    return points @ transform[:, :2].T + transform[:, 2]


def face(width: int = 360, height: int = 288, centre: tuple[float, float] = (180, 160)) -> np.ndarray:
    """A smooth picture, RGB, brightest at `centre`."""
    y, x = np.mgrid[:height, :width]
    spot = 255 * np.exp(-((x - centre[0]) ** 2 + (y - centre[1]) ** 2) / (2 * 12**2))
    return np.repeat(np.rint(spot).astype(np.uint8)[..., None], 3, axis=-1)


def brightest(picture: np.ndarray) -> np.ndarray:
    """Its centre of mass (x, y)."""
    y, x = np.mgrid[: picture.shape[0], : picture.shape[1]]
    return np.array([(x * picture).sum(), (y * picture).sum()]) / picture.sum()


def test_a_similarity_is_found_again() -> None:
    points = turned(MEAN_FACE, 0.7, 0.3, (40, -12))
    np.testing.assert_allclose(applied(similarity(points, MEAN_FACE), points), MEAN_FACE, atol=1e-9)


def test_no_other_similarity_is_closer() -> None:
    rng = np.random.default_rng(0)
    points = turned(MEAN_FACE, 1.4, -0.2, (3, 5)) + rng.normal(0, 3, MEAN_FACE.shape)
    best = similarity(points, MEAN_FACE)
    least = np.square(applied(best, points) - MEAN_FACE).sum()
    for _ in range(200):
        turn, shift = rng.normal(0, 1e-3, 2), rng.normal(0, 0.3, 2)
        other = best + np.array([[turn[0], -turn[1], shift[0]], [turn[1], turn[0], shift[1]]])
        assert np.square(applied(other, points) - MEAN_FACE).sum() > least


def test_points_in_one_place_are_refused() -> None:
    with pytest.raises(MediaError, match="lie in one place"):
        mouth_transforms(np.ones((3, 9, 2)))


@pytest.mark.parametrize("scale", [0.5, 1.0, 2.0])
def test_the_mouth_comes_to_the_middle_upright_and_in_size(scale: float) -> None:
    """Within 0.1 pixel of the middle of 96 pixels, 47.5."""
    points = turned(MEAN_FACE, scale, 0.2, (60, 20))
    patch = crop(face(512, 512, tuple(points[8])), mouth_transforms(points[None])[0])
    assert patch.shape == (96, 96)
    np.testing.assert_allclose(brightest(patch), 47.5, atol=0.1)
    inverse = mouth_transforms(points[None])[0]
    assert np.hypot(*inverse[:, 0]) == pytest.approx(1 / scale)


def test_a_patch_of_whole_pixels_is_cut_without_change() -> None:
    rng = np.random.default_rng(0)
    picture = np.repeat(rng.integers(0, 256, (200, 200, 1), dtype=np.uint8), 3, axis=-1)
    np.testing.assert_array_equal(crop(picture, np.array([[1, 0, -30.0], [0, 1, -50.0]])), picture[50:146, 30:126, 0])


def test_large_faces_are_averaged_not_skipped_over() -> None:
    """Stripes of one pixel, four of which come to one: grey, within 2 levels, away from the border."""
    stripes = np.zeros((500, 500, 3), np.uint8)
    stripes[:, ::2] = 200
    patch = crop(stripes, np.array([[0.25, 0, -10.0], [0, 0.25, -10.0]]))
    assert np.abs(patch[2:-2, 2:-2].astype(int) - 100).max() <= 2


def test_points_far_apart_cannot_ask_for_memory() -> None:
    (transform,) = mouth_transforms(MEAN_FACE[None] * 100)
    with pytest.raises(MediaError, match="points of a face 100 times as large as the patch"):
        crop(np.zeros((96, 96, 3), np.uint8), transform)


def test_pictures_without_a_face_take_points_from_those_around() -> None:
    moving = MEAN_FACE + np.arange(40)[:, None, None] * np.array([1.0, 0.5])
    gaps = moving.copy()
    gaps[[7, 8, 20]] = np.nan
    np.testing.assert_allclose(mouth_transforms(gaps), mouth_transforms(moving), atol=1e-9)
    gaps[-2:] = np.nan
    assert np.isfinite(mouth_transforms(gaps)).all()


def test_faces_must_be_found_in_half_of_the_pictures() -> None:
    points = np.full((10, 9, 2), np.nan)
    points[:4] = MEAN_FACE
    with pytest.raises(MediaError, match="a face is found in 4 of 10 pictures"):
        mouth_transforms(points)


def test_points_are_averaged_over_twelve_pictures() -> None:
    points = np.repeat(MEAN_FACE[None], 40, axis=0)
    points[20] += (12.0, 0.0)
    moved = 47.5 - np.array([applied(t, MEAN_FACE)[8, 0] for t in mouth_transforms(points)])
    np.testing.assert_allclose(moved, [1.0 if 15 <= t <= 26 else 0.0 for t in range(40)], atol=1e-9)


@pytest.mark.parametrize("count", [68, 468, 478])
def test_all_kinds_of_points_lead_to_the_same_patch(count: int) -> None:
    """The mean face, spelt in points of each kind: where they are not used they may be anywhere."""
    from avs.lips.crops import KINDS

    stable, lips = KINDS[count]
    points = np.random.default_rng(0).uniform(0, 256, (1, count, 2))
    points[0, list(stable)], points[0, list(lips)] = MEAN_FACE[:8], MEAN_FACE[8]
    np.testing.assert_allclose(mouth_transforms(points), mouth_transforms(MEAN_FACE[None]), atol=1e-9)


def test_mcorecs_convention_cuts_the_picture_of_256_by_whole_pixels() -> None:
    rng = np.random.default_rng(0)
    mean = rng.uniform(60, 200, (68, 2))
    points = turned(mean, 1.3, 0.1, (30, 10))[None]
    transform = mouth_transforms(points, mean)[0]
    whole = similarity(points[0, [28, 33, 36, 39, 42, 45, 48, 54]], mean[[28, 33, 36, 39, 42, 45, 48, 54]])
    np.testing.assert_allclose(transform[:, :2], whole[:, :2], atol=1e-9)
    shift = whole[:, 2] - transform[:, 2]
    np.testing.assert_allclose(shift, np.rint(mean[48:68].mean(axis=0)) - 48, atol=1e-9)
    with pytest.raises(MediaError, match=re.escape("9 points of a face, but lips.mean_face has 68")):
        mouth_transforms(MEAN_FACE[None], mean)


def test_grey_is_601s_and_keeps_grey() -> None:
    """Within a level of the weights in real numbers."""
    rng = np.random.default_rng(0)
    picture = rng.integers(0, 256, (50, 50, 3), dtype=np.uint8)
    assert np.abs(grey(picture) - picture @ np.array([0.299, 0.587, 0.114])).max() <= 0.51
    levels = np.arange(256, dtype=np.uint8)
    np.testing.assert_array_equal(grey(np.repeat(levels[None, :, None], 3, axis=-1))[0], levels)


def test_landmarks_are_read_strictly(tmp_path: Path) -> None:
    path = tmp_path / "a.npy"
    np.save(path, np.zeros((5, 68, 2), np.float32))
    assert read_landmarks(path).shape == (5, 68, 2)
    for wrong in (np.zeros((5, 70, 2)), np.zeros((68, 2))):
        np.save(path, wrong)
        with pytest.raises(InputError, match=re.escape(f"a.npy: shape {wrong.shape} must be (pictures, points, 2)")):
            read_landmarks(path)
    np.save(path, np.array([{"a": 1}], dtype=object), allow_pickle=True)
    with pytest.raises(InputError, match=r"a\.npy: cannot be read as \.npy"):
        read_landmarks(path)
    np.save(path, np.zeros((5, 68, 2), np.int32))
    with pytest.raises(InputError, match="floating point"):
        read_landmarks(path)
    np.save(path, np.full((5, 68, 2), 1e200))
    with pytest.raises(InputError, match=re.escape("points (1e+200) must be within 100000 pixels")):
        read_landmarks(path)
    np.save(path, np.zeros((5, 2)))
    with pytest.raises(InputError, match=re.escape("shape (5, 2) must be (68, 2)")):
        read_mean_face(path)


def test_a_header_cannot_ask_for_memory(tmp_path: Path) -> None:
    path = tmp_path / "a.npy"
    with path.open("wb") as file:
        header = {"descr": "<f8", "fortran_order": False, "shape": (10**12, 68, 2)}
        np.lib.format.write_array_header_1_0(file, header)
    with pytest.raises(InputError, match=r"cannot be read as \.npy"):
        read_landmarks(path)


@pytest.mark.skipif(not GRID.is_dir(), reason="../shared/grid is not here")
def test_grid_crops_are_those_that_others_made() -> None:
    """From MediaPipe's points, within 2.5 grey levels on average: the pictures were coded twice in between."""
    transforms = mouth_transforms(np.load(POINTS))
    faces = read_footage(GRID / "faces/bbal9a.mp4", lambda n, picture: picture, end=0.76).seen
    lips = read_footage(GRID / "lips/bbal9a.mp4", lambda n, picture: grey(picture), end=0.76).seen
    ours = np.stack([crop(picture, t) for picture, t in zip(faces, transforms, strict=False)])
    assert np.abs(ours.astype(float) - np.stack(lips)).mean() < 2.5
    shifted = np.roll(ours, 1, axis=2)
    assert np.abs(shifted.astype(float) - np.stack(lips)).mean() > 3.5
