import json
import re
from pathlib import Path

import numpy as np
import pytest
from speech_videos import tone, write_video

from avs.core.errors import InputError
from avs.core.execute import ExecutionParams
from avs.lips.media import SpeechShards
from avs.lips.preprocess import LipsParams, preprocess_speech
from avs.speech import SpeechDataParams, install_speech, open_speech
from avs.speech.mcorec import MCoRec, MCoRecParams

INLINE = ExecutionParams(backend="inline")
CUES = [("00:00:01.000", "00:00:02.000", "hello"), ("00:00:02.200", "00:00:03.000", "um yes")]


def vtt(cues: list[tuple[str, str, str]]) -> str:
    return "WEBVTT\n\n" + "\n".join(f"{start} --> {end}\n{text}\n" for start, end, text in cues)


def session(
    folder: Path,
    cues: list[tuple[str, str, str]] = CUES,
    tracks: tuple[tuple[float, float], ...] = ((0.4, 4.4),),
    *,
    lips: bool = True,
    uem: dict | None = None,
) -> Path:
    """A session of one speaker with a video for each track, in seconds of the session."""
    crops = folder / "speakers/spk_0/central_crops"
    crops.mkdir(parents=True)
    (folder / "labels").mkdir()
    (folder / "labels/spk_0.vtt").write_text(vtt(cues))
    listed = []
    for number, (start, end) in enumerate(tracks):
        name = f"track_{number:02d}"
        write_video(crops / f"{name}.mp4", round((end - start) * 25), size=112, sound=end - start)
        if lips:
            write_video(crops / f"{name}_lip.av.mp4", round((end - start) * 25), sound=end - start)
        times = {"frame_start": 0, "frame_end": 1, "start_time": start, "end_time": end, "duration": end - start}
        (crops / f"{name}.json").write_text(json.dumps(times))
        below = f"speakers/spk_0/central_crops/{name}"
        listed.append({"video": f"{below}.mp4", "crop_metadata": f"{below}.json", "bbox": f"{below}_bbox.json"})
    central = {"video": "central_video.mp4", "crops": listed} | ({"uem": uem} if uem else {})
    (folder / "metadata.json").write_text(json.dumps({"spk_0": {"central": central}}))
    return folder


def opened(folder: Path, **options: object) -> MCoRec:
    return open_speech("mcorec", SpeechDataParams(mcorec=MCoRecParams(folder=str(folder), **options)))


def test_cues_become_clips_of_their_tracks(tmp_path: Path) -> None:
    crops = session(tmp_path / "train/session_00") / "speakers/spk_0/central_crops"
    (crops / "track_00_lip.av.npy").write_bytes(b"features that others left there")
    session(tmp_path / "dev/session_40", lips=False)
    clips, words, failed = install_speech(opened(tmp_path), INLINE)
    assert (words, failed) == ([], [])
    video = "train/session_00/speakers/spk_0/central_crops/track_00_lip.av.mp4"
    key = "train_session_00_spk_0_track_00"
    assert [(c.key, c.split, c.video, c.start, c.end, c.transcript) for c in clips[2:]] == [
        (f"{key}_0001000-0002000", "train", video, 0.6, 1.6, "hello"),
        (f"{key}_0002200-0003000", "train", video, 1.8, 2.6, "um yes"),
    ]
    assert {(c.dataset_name, c.split, c.speaker) for c in clips} == {
        ("mcorec", "train", "session_00_spk_0"),
        ("mcorec", "val", "session_40_spk_0"),
    }
    assert {clip.landmarks for clip in clips} == {""}
    assert Path(clips[0].video).name == "track_00.mp4"  # without a mouth, the face


def test_clips_are_decoded_at_their_time_of_the_track(tmp_path: Path) -> None:
    session(tmp_path / "train/session_00")
    dataset = opened(tmp_path, splits=("train",))
    clips, words, _ = install_speech(dataset, INLINE)
    rows, failed, _ = preprocess_speech(clips, words, tmp_path, tmp_path / "out", LipsParams(), INLINE)
    shards = SpeechShards(tmp_path / "out")
    assert (failed, [row.frames for row in rows]) == ([], [25, 20])
    assert [int(picture[0, 0]) for picture in shards.lips(rows[0])] == list(range(30, 80, 2))
    np.testing.assert_array_equal(shards.audio(rows[0]), tone(4, 16000)[9600:25600])


def test_faces_need_landmarks(tmp_path: Path) -> None:
    crops = session(tmp_path / "train/session_00", lips=False) / "speakers/spk_0/central_crops"
    (crops / "track_00.npy").write_bytes(b"points")
    clips, _, _ = install_speech(opened(tmp_path, splits=("train",)), INLINE)
    assert {Path(clip.landmarks).name for clip in clips} == {"track_00.npy"}
    assert all(clip.landmarks_sha256 for clip in clips)


def test_cues_close_to_each_other_are_joined(tmp_path: Path) -> None:
    cues = [*CUES, ("00:00:03.900", "00:00:04.200", "far")]
    session(tmp_path / "train/session_00", cues)
    found = [
        opened(tmp_path, splits=("train",), join=j, longest=n).utterances() for j, n in ((0.2, 15), (0.2, 1.9), (1, 15))
    ]
    assert [[row.transcript for row in rows] for rows in found] == [
        ["hello um yes", "far"],
        ["hello", "um yes", "far"],
        ["hello um yes far"],
    ]
    assert (found[0][0].start, found[0][0].end, found[0][0].key) == (
        0.6,
        2.6,
        "train_session_00_spk_0_track_00_0001000-0003000",
    )


def test_cues_outside_of_track_conversation_and_length_are_left_out(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    cues = [
        ("00:00:00.100", "00:00:00.300", "before it begins"),
        ("00:00:00.500", "00:00:01.000", "kept"),
        ("00:00:01.100", "00:00:03.300", "too long"),
        ("00:00:03.900", "00:00:04.500", "over the edge of the track"),
        ("00:00:04.500", "00:00:05.000", "between two"),
        ("00:00:06.020", "00:00:06.530", "kept, a frame over the track"),
    ]
    session(tmp_path / "train/session_00", cues, ((0, 4), (5.5, 6.5)), uem={"start": 0.25, "end": 100.0})
    rows = opened(tmp_path, splits=("train",), longest=2.0).utterances()
    assert [row.transcript for row in rows] == ["kept", "kept, a frame over the track"]
    assert (rows[1].start, rows[1].end) == (0.52, 1.0)
    said = "mcorec: 2 clips; cues left out: 2 in no track, 1 longer than 2 s, 1 outside of the conversation"
    assert capsys.readouterr().err.strip() == said


def test_a_limit_draws_clips_of_each_split(tmp_path: Path) -> None:
    session(tmp_path / "train/session_00")
    session(tmp_path / "train/session_01")
    session(tmp_path / "dev/session_02")
    few, more = (opened(tmp_path, limit=n).utterances() for n in (1, 3))
    assert [row.split for row in few] == ["val", "train"]
    assert ([row.split for row in more], set(few) - set(more)) == (["val", "val", "train", "train", "train"], set())


def test_what_is_missing_is_told(tmp_path: Path) -> None:
    with pytest.raises(InputError, match=r"speech_data\.mcorec\.folder \(.*none\) holds neither.*MCoRec is gated"):
        install_speech(opened(tmp_path / "none"), INLINE)
    session(tmp_path / "train/session_00")
    with pytest.raises(InputError, match="no session of valid: change splits, or get them"):
        install_speech(opened(tmp_path), INLINE)
    (tmp_path / "train/session_00/labels/spk_0.vtt").unlink()
    with pytest.raises(InputError, match=r"spk_0\.vtt: not there"):
        install_speech(opened(tmp_path, splits=("train",)), INLINE)


@pytest.mark.parametrize(
    ("metadata", "message"),
    [
        ("[]", "must be a JSON object"),
        ("{", "cannot be read as JSON"),
        ("[" * 100_000, "cannot be read as JSON"),
        ('{"spk_0": {}}', "spk_0: no central, or an odd one"),
        ('{"spk_0": {"central": {"crops": [{"video": 3}]}}}', "spk_0: no video, or an odd one"),
        ('{"spk_0": {"central": {"crops": [{"video": "../../a.mp4"}]}}}', "must be a path below"),
        ('{"spk_0": {"central": {"crops": [{"video": "/a.mp4"}]}}}', "must be a path below"),
        ('{"../spk_0": {"central": {}}}', "must be a path below"),
        ('{"spk_0": {"central": {"uem": {"start": "0", "end": 1}}}}', r"spk_0: uem: start \('0'\) must be seconds"),
    ],
)
def test_odd_metadata_is_named(tmp_path: Path, metadata: str, message: str) -> None:
    (session(tmp_path / "train/session_00") / "metadata.json").write_text(metadata)
    with pytest.raises(InputError, match=message):
        install_speech(opened(tmp_path, splits=("train",)), INLINE)


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"splits": ()}, "must name at least one split"),
        ({"splits": ("train", "train")}, "each once"),
        ({"splits": ("eval",)}, "splits ('eval') must be of train, valid"),
        ({"limit": 0}, "limit (0) must be >= 1"),
        ({"longest": 0.0}, "longest (0.0) must be seconds, above 0"),
        ({"join": -1.0}, "join (-1.0) must be seconds"),
    ],
)
def test_odd_parameters_are_refused(options: dict, message: str) -> None:
    with pytest.raises(ValueError, match=re.escape(message)):
        MCoRecParams(**options)
