import sys
from pathlib import Path
from types import ModuleType, SimpleNamespace

import numpy as np
import pytest
from speech_videos import write_video

from avs.core.clips import Failed
from avs.core.execute import ExecutionParams
from avs.core.speech import Utterance
from avs.core.store import sha256_file
from avs.lips.crops import KINDS, MEAN_FACE
from avs.lips.detector import face_mesh
from avs.lips.media import SpeechShards
from avs.lips.preprocess import LipsParams, preprocess_speech


class FaceMesh:
    """In MediaPipe's place: finds the mean face in pictures of 256 × 256, but in none that is darker than `blind`."""

    blind = 1
    used = 0

    def __init__(self, **options: object) -> None:
        assert options == {"static_image_mode": False, "max_num_faces": 1, "refine_landmarks": True}
        FaceMesh.used += 1

    def __enter__(self) -> "FaceMesh":
        return self

    def __exit__(self, *error: object) -> None: ...

    def process(self, picture: np.ndarray) -> SimpleNamespace:
        points = np.zeros((478, 2))
        stable, lips = KINDS[478]
        points[list(stable)], points[list(lips)] = MEAN_FACE[:8], MEAN_FACE[8]
        face = SimpleNamespace(landmark=[SimpleNamespace(x=x / 256, y=y / 256) for x, y in points])
        return SimpleNamespace(multi_face_landmarks=[face] if picture.max() >= self.blind else None)


@pytest.fixture(autouse=True)
def _in_its_place(monkeypatch: pytest.MonkeyPatch) -> None:
    module = ModuleType("mediapipe.python.solutions.face_mesh")
    module.FaceMesh = FaceMesh  # type: ignore[attr-defined]
    for name in ("mediapipe", "mediapipe.python", "mediapipe.python.solutions"):
        monkeypatch.setitem(sys.modules, name, ModuleType(name))
    monkeypatch.setitem(sys.modules, module.__name__, module)


def cut(tmp_path: Path, size: int, key: str) -> tuple[SpeechShards, list[Failed]]:
    write_video(tmp_path / f"{key}.mkv", 25, size=size, sound=1)
    clip = Utterance(key, "d", "train", f"{key}.mkv", 0, 0, "x", "", sha256_file(tmp_path / f"{key}.mkv"))
    p, execution = LipsParams(detector="mediapipe"), ExecutionParams(backend="inline")
    _, failed, _ = preprocess_speech([clip], [], tmp_path, tmp_path / "out", p, execution)
    return SpeechShards(tmp_path / "out"), failed


def test_points_are_in_pixels_and_none_where_there_is_no_face() -> None:
    with face_mesh() as find:
        assert find(np.full((256, 512, 3), 9, np.uint8))[1] == pytest.approx((2 * MEAN_FACE[4, 0], MEAN_FACE[4, 1]))
        assert np.isnan(find(np.zeros((256, 256, 3), np.uint8))).all()


def test_mouths_are_cut_out_where_the_detector_says(tmp_path: Path) -> None:
    shards, failed = cut(tmp_path, 256, "face")
    lips = shards.lips(shards.clips[0])
    assert not failed
    assert [int(picture[48, 48]) for picture in lips] == [2 * n for n in range(25)]


def test_mouths_that_are_there_stay_as_they_are(tmp_path: Path) -> None:
    shards, failed = cut(tmp_path, 96, "mouth")
    assert not failed
    assert [int(picture[0, 0]) for picture in shards.lips(shards.clips[0])] == [2 * n for n in range(25)]


def test_too_few_faces_are_a_failure_row(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(FaceMesh, "blind", 40)
    _, failed = cut(tmp_path, 256, "dark")
    assert failed == [Failed("dark", "dark.mkv", "a face is found in 5 of 25 pictures, at least half must show one")]
