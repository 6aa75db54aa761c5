from fractions import Fraction
from pathlib import Path

import av
import numpy as np
import pytest

from avs.core import media
from avs.core.media import read_media
from avs.core.pictures import Pictures, seconds

SECONDS = 4


def write_moving(path: Path, times: list[float], options: dict[str, str]) -> Path:
    """A square that moves over noise, in H.264; frame i is shown from times[i] s."""
    draw = np.random.default_rng(0)
    ground = draw.integers(0, 200, (64, 80, 3), np.uint8)
    with av.open(str(path), "w") as container:
        stream = container.add_stream("libx264", rate=25, options=options)
        stream.width, stream.height, stream.pix_fmt = 80, 64, "yuv420p"
        stream.codec_context.time_base = Fraction(1, 1000)
        for number, time in enumerate(times):
            picture = ground.copy()
            picture[20:40, number % 60 : number % 60 + 20] = 255
            frame = av.VideoFrame.from_ndarray(picture, format="rgb24")
            frame.pts, frame.time_base = round(time * 1000), Fraction(1, 1000)
            container.mux(stream.encode(frame))
        container.mux(stream.encode(None))
    return path


STEADY = [n / 25 for n in range(25 * SECONDS)]
UNSTEADY = [n / 25 for n in range(25 * SECONDS) if n % 25 < 11 or n % 3 == 0]
STOPS = [t for t in STEADY if t % 1 < 0.35]  # what is shown at t + 0.5 has been there for long
ENDS_EARLY = [t for t in STEADY if t < SECONDS - 0.6]
VIDEOS = {
    "steady.mp4": (STEADY, {"bf": "3"}),
    "steady.mkv": (STEADY, {"bf": "3"}),
    "steady.ts": (STEADY, {"bf": "3"}),
    "open.mp4": (STEADY, {"bf": "8", "x264-params": "b-pyramid=normal:open-gop=1:keyint=20"}),
    "unsteady.mp4": (UNSTEADY, {"bf": "3"}),
    "stops.mp4": (STOPS, {"bf": "3"}),
    "early.mp4": (ENDS_EARLY, {"bf": "3"}),
}


@pytest.fixture
def sure(monkeypatch: pytest.MonkeyPatch) -> list[bool]:
    """What every reading said of itself."""
    told: list[bool] = []
    ask = Pictures.unsure.fget
    assert ask is not None
    monkeypatch.setattr(Pictures, "unsure", property(lambda self: told.append(not ask(self)) or not told[-1]))
    return told


@pytest.mark.parametrize("name", VIDEOS)
@pytest.mark.parametrize("start", [0, 0.3])
def test_passing_over_frames_changes_nothing(
    name: str, start: float, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, sure: list[bool]
) -> None:
    path = write_moving(tmp_path / name, *VIDEOS[name])
    found = read_media(path, SECONDS - 1 if start else SECONDS, start=start)
    with monkeypatch.context() as patch:
        patch.setattr(Pictures, "spare", lambda self, packet: None)
        whole = read_media(path, SECONDS - 1 if start else SECONDS, start=start)
    np.testing.assert_array_equal(found.frames, whole.frames)
    assert found.flags == whole.flags
    assert sure[0] or name in ("stops.mp4", "unsteady.mp4", "early.mp4")


def test_frames_are_passed_over(tmp_path: Path, monkeypatch: pytest.MonkeyPatch, sure: list[bool]) -> None:
    path = write_moving(tmp_path / "a.mp4", STEADY, {"bf": "3", "x264-params": "b-pyramid=none:b-adapt=0"})
    decoded = []
    add = Pictures.add
    monkeypatch.setattr(Pictures, "add", lambda self, frame: decoded.append(frame.pts) or add(self, frame))
    read_media(path, SECONDS)
    assert sure == [True]
    assert len(decoded) < len(STEADY) / 2  # a quarter of them, and two a second


@pytest.fixture
def readings(monkeypatch: pytest.MonkeyPatch) -> list[bool]:
    """Of each reading of a file, whether it passed over frames."""
    spared: list[bool] = []
    read = media._read
    monkeypatch.setattr(media, "_read", lambda *a, **k: spared.append(k.get("spare", False)) or read(*a, **k))
    return spared


def test_what_was_shown_for_longer_than_announced_is_read_again(
    tmp_path: Path, sure: list[bool], readings: list[bool]
) -> None:
    path = write_moving(tmp_path / "stops.mkv", STOPS, {"bf": "3", "x264-params": "b-pyramid=none:b-adapt=0"})
    read_media(path, SECONDS)
    assert (sure, readings) == ([False], [True, False])


def test_after_errors_all_is_decoded(tmp_path: Path, readings: list[bool]) -> None:
    path = write_moving(tmp_path / "a.mp4", STEADY, {"bf": "3"})
    content = bytearray(path.read_bytes())
    content[len(content) // 3 : len(content) // 3 + 200] = bytes(200)
    path.write_bytes(content)
    assert "damaged" in read_media(path, SECONDS).flags
    assert readings == [True, False]


def test_seconds_are_those_of_the_fraction() -> None:
    draw = np.random.default_rng(0)
    for stamp, top, bottom in draw.integers(1, 2**31, (200, 3)).tolist():
        assert seconds(stamp, Fraction(top, bottom)) == float(stamp * Fraction(top, bottom))
