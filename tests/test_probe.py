from pathlib import Path

import numpy as np
import pytest

from avs.core.media import MediaError, write_media
from avs.core.probe import probe

RATE = 16_000


def video(path: Path, seconds: float = 3, fps: int = 10, sound: np.ndarray | None = None) -> Path:
    rng = np.random.default_rng(0)
    frames = (rng.integers(0, 255, (32, 48, 3), dtype=np.uint8) for _ in range(round(seconds * fps)))
    write_media(path, frames, fps, sound)
    return path


def tone(seconds: float, level: float) -> np.ndarray:
    """A sine whose mean power is `level` dB of full scale."""
    wave = np.sin(2 * np.pi * 440 * np.arange(round(seconds * RATE)) / RATE)
    return np.rint(32767 * np.sqrt(2) * 10 ** (level / 20) * wave).astype(np.int16)


def test_a_plain_file_is_described(tmp_path: Path) -> None:
    found = probe(video(tmp_path / "a.mp4", sound=tone(3, -20)), 3)
    assert (found.width, found.height, found.rotation) == (48, 32, 0)
    assert found.end == pytest.approx(3, abs=0.01)
    assert found.announced == pytest.approx(3, abs=0.1)
    assert found.rate == pytest.approx(10, abs=1e-6)
    assert found.sound is not None
    assert found.sound[1] == pytest.approx(3, abs=0.1)
    assert found.level == pytest.approx(-20, abs=0.5)
    assert not found.damaged
    assert not found.variable_rate


def test_no_sound_and_silence_are_told_apart(tmp_path: Path) -> None:
    assert probe(video(tmp_path / "a.mp4"), 3).sound is None
    silent = probe(video(tmp_path / "b.mp4", sound=np.zeros(3 * RATE, np.int16)), 3)
    assert silent.sound is not None
    assert silent.level < -100


def test_a_long_file_is_not_read_whole(tmp_path: Path) -> None:
    found = probe(video(tmp_path / "a.mp4", seconds=8, sound=tone(8, -20)), 2)
    assert found.announced == pytest.approx(8, abs=0.1)
    assert found.end < 4


def test_a_cut_file_ends_where_its_packets_end(tmp_path: Path) -> None:
    import av

    path, whole = tmp_path / "cut.mkv", tmp_path / "whole.mkv"
    with av.open(str(whole), "w") as out:
        stream = out.add_stream("libx264", rate=10)
        stream.width, stream.height = 48, 32
        rng = np.random.default_rng(0)
        for _ in range(60):
            frame = av.VideoFrame.from_ndarray(rng.integers(0, 255, (32, 48, 3), dtype=np.uint8), format="rgb24")
            out.mux(stream.encode(frame))
        out.mux(stream.encode(None))
    path.write_bytes(whole.read_bytes()[: whole.stat().st_size // 2])
    assert probe(whole, 6).end == pytest.approx(6, abs=0.11)
    assert 1 < probe(path, 6).end < 5


def test_what_is_no_media_is_refused(tmp_path: Path) -> None:
    (tmp_path / "empty.mp4").touch()
    (tmp_path / "noise.mp4").write_bytes(np.random.default_rng(0).bytes(5000))
    for name, reason in (("absent", "no such file"), ("empty", "file is empty"), ("noise", "cannot be opened")):
        with pytest.raises(MediaError, match=reason):
            probe(tmp_path / f"{name}.mp4", 3)
