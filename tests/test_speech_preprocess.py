import re
import sys
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
from speech_videos import tone, write_video

from avs.core.clips import Failed, write_table
from avs.core.errors import InputError
from avs.core.execute import ExecutionParams
from avs.core.speech import Utterance, Word
from avs.core.store import root, sha256_file
from avs.lips.crops import MEAN_FACE
from avs.lips.media import SpeechShards
from avs.lips.preprocess import LipsParams, preprocess_speech
from avs.speech import SpeechDataParams, install_speech, open_speech
from avs.speech.demo import SpeechDemoParams
from avs.speech.grid import GridParams

GRID = Path(__file__).resolve().parents[2] / "shared/grid"
INLINE = ExecutionParams(backend="inline")


def utterance(folder: Path, key: str, name: str = "", **changes: object) -> Utterance:
    name = name or f"{key}.mkv"
    found = Utterance(key, "d", "train", name, 0, 0, "x", "", sha256_file(folder / name))
    return replace(found, **changes)


@pytest.fixture
def clips(tmp_path: Path) -> list[Utterance]:
    """Three clips of one second."""
    for number, key in enumerate("abc"):
        write_video(tmp_path / f"{key}.mkv", 25 + number, sound=1 + number / 25)
    return [utterance(tmp_path, key) for key in "abc"]


def run(clips: list[Utterance], folder: Path, out: Path, p: LipsParams | None = None, **options: object):
    words = [Word(clip.key, "x", 0.1, 0.2) for clip in clips]
    execution = ExecutionParams(**options) if options else INLINE
    found = preprocess_speech(clips, words, folder, out, p or LipsParams(), execution)
    write_table(out / "failures.tsv", found[1], Failed)
    return found


def content(folder: Path) -> dict[str, bytes]:
    return {path.name: path.read_bytes() for path in sorted(folder.iterdir())}


def test_shards_hold_what_the_videos_hold(clips: list[Utterance], tmp_path: Path) -> None:
    rows, failed, computed = run(clips, tmp_path, tmp_path / "out")
    assert (len(rows), failed, computed) == (3, [], 3)
    shards = SpeechShards(tmp_path / "out")
    assert shards.clips == rows
    assert shards.failed == []
    for number, clip in enumerate(shards.clips):
        assert clip.frames == 25 + number
        lips = shards.lips(clip)
        assert (lips.shape, lips.dtype) == ((25 + number, 96, 96), np.uint8)
        assert [int(picture[0, 0]) for picture in lips] == [2 * n for n in range(25 + number)]
        np.testing.assert_array_equal(shards.audio(clip), tone(1 + number / 25, 16000))
        assert shards.words[clip.key] == [Word(clip.key, "x", 0.1, 0.2)]


def test_bytes_are_the_same_however_it_ran(
    clips: list[Utterance], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    run(clips, tmp_path, tmp_path / "one")
    monkeypatch.setenv("AVS_STORE", str(tmp_path / "other"))
    run(clips, tmp_path, tmp_path / "two", workers=2)
    assert content(tmp_path / "one") == content(tmp_path / "two")


def test_only_new_clips_are_decoded(clips: list[Utterance], tmp_path: Path) -> None:
    assert run(clips[:2], tmp_path, tmp_path / "out")[2] == 2
    assert run(clips, tmp_path, tmp_path / "out")[2] == 1
    assert run([replace(c, transcript="y", split="val") for c in clips], tmp_path, tmp_path / "out")[2] == 0


def test_interrupted_work_resumes(clips: list[Utterance], tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    import avs.lips.preprocess as module

    whole, made = module.film, []

    def film(pictures: np.ndarray) -> bytes:
        if len(made) == 2:
            raise KeyboardInterrupt
        made.append(len(pictures))
        return whole(pictures)

    monkeypatch.setattr(module, "film", film)
    with pytest.raises(KeyboardInterrupt):
        run(clips, tmp_path, tmp_path / "out")
    assert not (tmp_path / "out").exists()
    monkeypatch.setattr(module, "film", whole)
    assert run(clips, tmp_path, tmp_path / "out")[2] == 1
    assert not list(root().rglob(".partial-*"))


def test_what_cannot_be_used_is_a_failure_row(clips: list[Utterance], tmp_path: Path) -> None:
    write_video(tmp_path / "long.mkv", 25, sound=1.2)
    write_video(tmp_path / "wide.mkv", 25, size=128, sound=1)
    (tmp_path / "text.mkv").write_text("no video")
    names = ("long", "wide", "text")
    (tmp_path / "b.mkv").write_bytes(b"other bytes")
    (tmp_path / "c.mkv").unlink()
    late = utterance(tmp_path, "late", "a.mkv", start=0.5, end=1.5)
    rows, failed, _ = run([*clips, *(utterance(tmp_path, n) for n in names), late], tmp_path, tmp_path / "out")
    assert [row.key for row in rows] == ["a"]
    assert {row.key: row.reason for row in failed} == {
        "b": "b.mkv has changed since install (run: dvc repro -f install@speech)",
        "c": "c.mkv is gone since install (run: dvc repro -f install@speech)",
        "long": "sound ends at 1.20 s, the picture at 1.00 s: more than one frame off",
        "wide": "pictures of 128x128, not mouths of 96x96: give landmarks, or set lips.detector",
        "text": "cannot be opened: Invalid data found when processing input",
        "late": "video ends at 1.00 s, the clip at 1.50 s",
    }
    assert set(SpeechShards(tmp_path / "out").words) == {"a"}


def test_landmarks_cut_mouths_out(tmp_path: Path) -> None:
    write_video(tmp_path / "a.mkv", 25, size=256, sound=1)
    np.save(tmp_path / "a.npy", np.repeat(MEAN_FACE[None], 25, axis=0))
    points = {"landmarks": "a.npy", "landmarks_sha256": sha256_file(tmp_path / "a.npy")}
    clips = [
        utterance(tmp_path, "whole", "a.mkv", **points),
        utterance(tmp_path, "part", "a.mkv", start=0.4, end=0.8, **points),
    ]
    rows, failed, _ = run(clips, tmp_path, tmp_path / "out")
    assert not failed
    whole, part = (SpeechShards(tmp_path / "out").lips(row) for row in rows)
    assert [int(picture[48, 48]) for picture in whole] == [2 * n for n in range(25)]
    np.testing.assert_array_equal(part, whole[10:20])


def test_landmarks_must_be_those_of_the_pictures(tmp_path: Path) -> None:
    write_video(tmp_path / "a.mkv", 25, size=256, sound=1)
    for count in (24, 26):
        np.save(tmp_path / f"{count}.npy", np.repeat(MEAN_FACE[None], count, axis=0))
    clips = [
        utterance(tmp_path, str(n), "a.mkv", landmarks=f"{n}.npy", landmarks_sha256=sha256_file(tmp_path / f"{n}.npy"))
        for n in (24, 26)
    ]
    assert [row.reason for row in run(clips, tmp_path, tmp_path / "out")[1]] == [
        "landmarks of 24 pictures for a clip of more",
        "landmarks of 26 pictures for a clip of 25",
    ]


def test_a_detector_that_is_not_installed_is_told_before_any_work(
    clips: list[Utterance], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setitem(sys.modules, "mediapipe", None)
    with pytest.raises(InputError, match=re.escape("pip install --no-deps mediapipe==0.10.21")):
        run(clips, tmp_path, tmp_path / "out", LipsParams(detector="mediapipe"))
    assert not (tmp_path / "out").exists()


def test_a_mean_face_that_is_none_is_told_before_any_work(clips: list[Utterance], tmp_path: Path) -> None:
    with pytest.raises(InputError, match=r"none\.npy: cannot be read as \.npy"):
        run(clips, tmp_path, tmp_path / "out", LipsParams(mean_face=str(tmp_path / "none.npy")))


def test_the_demo_goes_through(tmp_path: Path) -> None:
    demo = SpeechDemoParams(train=2, val=1, test=1, words=2)
    dataset = open_speech("demo", SpeechDataParams(demo=demo))
    clips, words, failed = install_speech(dataset, INLINE)
    assert ([clip.dataset_name for clip in clips], len(words), failed) == (["synthetic"] * 4, 8, [])
    made = {path: path.stat().st_mtime_ns for path in dataset.folder().iterdir()}
    assert install_speech(dataset, INLINE)[0] == clips
    assert {path: path.stat().st_mtime_ns for path in dataset.folder().iterdir()} == made
    rows, failed, _ = preprocess_speech(clips, words, dataset.folder(), tmp_path / "out", LipsParams(), INLINE)
    assert ([row.flags for row in rows], failed) == ([""] * 4, [])


@pytest.mark.skipif(not GRID.is_dir(), reason="../shared/grid is not here")
def test_grid_goes_through_untouched(tmp_path: Path) -> None:
    from avs.core.media import read_media

    dataset = open_speech("grid", SpeechDataParams(grid=GridParams(folder=str(GRID))))
    clips, words, _ = install_speech(dataset, INLINE)
    rows, failed, _ = preprocess_speech(clips[:3], words, GRID, tmp_path, LipsParams(), INLINE)
    shards = SpeechShards(tmp_path)
    assert (failed, [row.frames for row in rows], [row.flags for row in rows]) == ([], [75] * 3, [""] * 3)
    for clip in shards.clips:
        media = read_media(GRID / clip.video, 3)
        np.testing.assert_array_equal(shards.audio(clip), media.audio)
        # one picture a second there, at t + 0.5 s: between two of 25
        np.testing.assert_array_equal(shards.lips(clip)[[12, 37, 62]], np.stack(media.frames)[..., 0])
