from pathlib import Path
from typing import Any

import numpy as np
import pytest

from avs.core.errors import InputError
from avs.core.execute import ExecutionParams
from avs.core.media import write_media
from avs.datasets import DataParams, install, open_dataset
from avs.datasets.demo import DemoParams
from avs.datasets.epic_sounds import EpicSounds, EpicSoundsParams, events_by_video, read_sounds
from avs.datasets.local import LocalParams
from avs.preprocess import preprocess

INLINE = ExecutionParams(backend="inline")
HEADER = (
    "annotation_id,participant_id,video_id,start_timestamp,stop_timestamp,start_sample,stop_sample,"
    "description,class,class_id"
)


def line(video: str, start: str, stop: str, label: str) -> str:
    return f'{video}_0,{video[:3]},{video},{start},{stop},0,0,"a, {label}",{label},0'


TRAIN = [
    line("P01_01", "00:00:01.500", "00:00:03.000", "cut"),
    line("P01_01", "00:00:05.000", "00:00:25.250", "water"),
    line("P01_02", "00:00:00.000", "00:00:01.000", "cut"),
]
VAL = [line("P02_101", "00:01:02.000", "01:00:00.000", "metal / wood collision")]


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    """The annotations; 30 s of one video (5 fps, a level each second), and another in a folder of its own."""
    (tmp_path / "annotations").mkdir()
    (tmp_path / "annotations/EPIC_Sounds_train.csv").write_text("\n".join([HEADER, *TRAIN]))
    (tmp_path / "annotations/EPIC_Sounds_validation.csv").write_text("\n".join([HEADER, *VAL]))
    (tmp_path / "videos/P02/videos").mkdir(parents=True)
    frames = (np.full((32, 32, 3), 8 * (n // 5), np.uint8) for n in range(150))
    write_media(tmp_path / "videos/P01_01.mp4", frames, 5, np.zeros(30 * 16000, np.int16))
    (tmp_path / "videos/P02/videos/P02_101.MP4").write_bytes(b"not a video")
    (tmp_path / "videos/P99_notes.txt").write_text("ignored")
    (tmp_path / "videos/P01/rgb_frames").mkdir(parents=True)
    (tmp_path / "videos/P01/rgb_frames/P01_02.tar").write_bytes(b"frames")
    return tmp_path


def params(folder: Path, **options: Any) -> EpicSoundsParams:
    return EpicSoundsParams(str(folder / "videos"), str(folder / "annotations"), **{"seconds": 6} | options)


def test_rows_are_read_with_their_times(folder: Path) -> None:
    sounds = read_sounds(folder / "annotations")
    assert [(s.number, s.split, s.video, s.start, s.end) for s in sounds] == [
        (0, "train", "P01_01", 1.5, 3),
        (1, "train", "P01_01", 5, 25.25),
        (2, "train", "P01_02", 0, 1),
        (3, "val", "P02_101", 62, 3600),
    ]
    assert sounds[3].label == "metal / wood collision"
    assert events_by_video(sounds, "train") == {"P01_01": [(1.5, 3), (5, 25.25)], "P01_02": [(0, 1)]}


def test_windows_hold_their_event_and_lie_in_the_video(folder: Path) -> None:
    rows = EpicSounds(params(folder)).annotations()
    assert [(row.number, row.video) for row in rows] == [
        (0, "P01_01.mp4"),
        (1, "P01_01.mp4"),
        (3, "P02/videos/P02_101.MP4"),
    ]
    first, long, _ = rows
    assert 0 <= first.clip_start <= 1.5
    assert first.clip_start + first.start == pytest.approx(1.5)
    assert first.end - first.start == pytest.approx(1.5)
    assert 5 <= long.clip_start <= 25.25 - 6
    assert (long.start, long.end) == (0, 6)


def test_an_event_may_lie_anywhere_in_its_window(folder: Path) -> None:
    rows = [line("P01_01", f"00:{m:02}:30.000", f"00:{m:02}:31.000", "cut") for m in range(60)]
    (folder / "annotations/EPIC_Sounds_train.csv").write_text("\n".join([HEADER, *rows]))
    starts = np.array([row.start for row in EpicSounds(params(folder)).annotations() if row.split == "train"])
    assert (starts >= 0).all()
    assert (starts <= 5).all()
    assert np.histogram(starts, 5, (0, 5))[0].min() >= 4
    few = EpicSounds(params(folder, limit=5)).annotations()
    assert [sum(row.split == split for row in few) for split in ("train", "val")] == [5, 1]


def test_windows_go_through_preprocessing(folder: Path) -> None:
    data = DataParams(DemoParams(), LocalParams(), epic_sounds=params(folder))
    dataset = open_dataset("epic_sounds", data)
    clips, failed = install(dataset, INLINE)
    assert [clip.key for clip in clips] == ["0-P01_01", "1-P01_01", "3-P02_videos_P02_101"]
    assert failed == []
    written, bad, computed = preprocess(clips, dataset.folder(), folder / "out", INLINE)
    assert [clip.key for clip in written] == ["0-P01_01", "1-P01_01"]
    assert [row.key for row in bad] == ["3-P02_videos_P02_101"]
    assert computed == 2


def test_absent_files_are_told_with_the_way_to_them(folder: Path) -> None:
    for path in [*(folder / "videos").rglob("*.mp4"), *(folder / "videos").rglob("*.MP4")]:
        path.unlink()
    for asked in (lambda data: data.prepare(INLINE), EpicSounds.annotations):
        with pytest.raises(InputError, match=r"holds none of 3 videos\. EPIC-SOUNDS: .*CC BY-NC 4\.0"):
            asked(EpicSounds(params(folder)))
    for path in (folder / "annotations").iterdir():
        path.unlink()
    with pytest.raises(InputError, match=r"holds neither of EPIC_Sounds_train\.csv.*epic-sounds-annotations"):
        EpicSounds(params(folder)).prepare(INLINE)


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("video_id,class\nP01_01,cut", "no column start_timestamp, stop_timestamp"),
        (f"{HEADER}\n{line('../etc', '00:00:00', '00:00:01', 'cut')}", r"line 2: video_id \('\.\./etc'\) must be"),
        (f"{HEADER}\n{line('P01_01', '1.5', '00:00:01', 'cut')}", r"line 2: time \('1\.5'\) must be HH:mm:ss"),
        (f"{HEADER}\n{line('P01_01', '00:00:02', '00:00:01', 'cut')}", "after it stops"),
        (f"{HEADER}\nx", "line 2: video_id"),
        ("\udcff", "cannot be read as a CSV"),
    ],
)
def test_a_wrong_row_is_refused_with_its_line(folder: Path, text: str, message: str) -> None:
    (folder / "annotations/EPIC_Sounds_train.csv").write_text(text, errors="surrogateescape")
    with pytest.raises(InputError, match=message):
        read_sounds(folder / "annotations")
