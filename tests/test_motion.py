import numpy as np

from avs.vision.motion import SIDE, frame_motion


def test_motion_is_the_difference_to_the_frame_before() -> None:
    """A frame of one grey value v is all v in the thumbnail too: exact."""
    frames = [np.full((60, 80, 3), value, np.uint8) for value in (10, 30, 30, 0)]
    np.testing.assert_array_equal(frame_motion(frames), np.array([20, 20, 0, 30], np.float32))
    assert frame_motion(frames).dtype == np.float32
    assert frame_motion(frames[:1]).tolist() == [0]


def test_what_moves_counts_by_its_area() -> None:
    frames = np.zeros((2, 2 * SIDE, 2 * SIDE, 3), np.uint8)
    frames[1, :SIDE, :SIDE] = 200
    np.testing.assert_allclose(frame_motion(frames), 50, atol=1e-4)
