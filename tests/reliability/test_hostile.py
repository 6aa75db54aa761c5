"""Files that were made to do harm, one trick each: what they want does not happen, and the file is refused by name.

Others are beside what reads them: tests/test_unpickle.py, test_archive.py, test_tars.py, test_annotations.py.
"""

from __future__ import annotations

import io
import os
import pickle
import struct
import tarfile
import time
from collections.abc import Callable
from contextlib import suppress
from fractions import Fraction
from pathlib import Path
from typing import Any

import av
import numpy as np
import pytest
import torch

from avs.config import load_config
from avs.core.checkpoint import read_tensors
from avs.core.errors import InputError
from avs.core.media import MAX_SIDE, MediaError, jpeg, read_media, read_sound, unjpeg, wav, write_media
from avs.core.store import read_array
from avs.datasets.annotations import read_annotations
from avs.lips.crops import read_landmarks, read_mean_face
from avs.lips.published import PublishedCache, read_features
from avs.speech.table import read_utterances

ROOT = Path(__file__).resolve().parents[2]


class Touch:
    """Makes a file where a pickle of it is read."""

    def __init__(self, path: Path) -> None:
        self.path = path

    def __reduce__(self) -> Any:
        return os.system, (f"touch {self.path}",)


@pytest.fixture
def ran(tmp_path: Path) -> Path:
    """What the files here want to make."""
    return tmp_path / "ran"


def test_a_checkpoint_in_the_oldest_layout_is_refused(tmp_path: Path, ran: Path) -> None:
    """A tar of three pickles, which torch.load reads without its guard in older releases."""
    with tarfile.open(tmp_path / "net.pt", "w") as tar:
        for name in ("storages", "tensors", "pickle"):
            content = pickle.dumps(Touch(ran))
            info = tarfile.TarInfo(name)
            info.size = len(content)
            tar.addfile(info, io.BytesIO(content))
    with pytest.raises(InputError, match=r"net\.pt: is not a plain pickle of tensors"):
        read_tensors(tmp_path / "net.pt")
    assert not ran.exists()


def test_a_pickle_among_the_numbers_of_a_tensor_stays_numbers(tmp_path: Path, ran: Path) -> None:
    hidden = torch.frombuffer(bytearray(pickle.dumps(Touch(ran))), dtype=torch.uint8)
    torch.save({"a": hidden}, tmp_path / "net.pt")
    assert torch.equal(read_tensors(tmp_path / "net.pt")["a"], hidden)
    assert not ran.exists()


@pytest.mark.parametrize("read", [read_array, read_features, read_landmarks, read_mean_face])
def test_an_array_of_objects_runs_nothing(read: Callable[[Path], Any], tmp_path: Path, ran: Path) -> None:
    np.save(tmp_path / "a.npy", np.array([Touch(ran)], dtype=object), allow_pickle=True)
    with pytest.raises(InputError, match=r"a\.npy: cannot be read as \.npy"):
        read(tmp_path / "a.npy")
    (tmp_path / "a.npy").write_bytes(pickle.dumps(Touch(ran)))
    with pytest.raises(InputError, match=r"a\.npy: cannot be read as \.npy"):
        read(tmp_path / "a.npy")
    assert not ran.exists()


def laughs(levels: int) -> str:
    """Lists of nine that each hold the one before nine times."""
    lines = ["l0: &l0 [x, x, x, x, x, x, x, x, x]"]
    lines += [f"l{n}: &l{n} [{', '.join([f'*l{n - 1}'] * 9)}]" for n in range(1, levels)]
    return "\n".join(lines)


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("seed: !!python/object/apply:os.system ['touch ran']", "could not determine a constructor"),
        ("seed: !!python/name:os.system", "could not determine a constructor"),
        (laughs(40), r"aliases \(\*l0\) are not supported"),
        ("seed: &a [*a, *a]", r"aliases \(\*a\) are not supported"),
        ("seed: " + "[" * 1500, "cannot be read as YAML"),
    ],
)
def test_yaml_is_plain(text: str, message: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    (tmp_path / "params.yaml").write_text(text)
    with pytest.raises(InputError, match=rf"params\.yaml: .*{message}"):
        load_config(tmp_path / "params.yaml")
    assert [path.name for path in tmp_path.iterdir()] == ["params.yaml"]


def test_a_cell_of_ten_megabytes_is_refused_in_a_line(tmp_path: Path) -> None:
    cell = "x" * 10_000_000
    (tmp_path / "a.tsv").write_text(f"video\tlabel\tstart\tend\n{cell}\tdog\t0\t1\n")
    (tmp_path / "Annotations.txt").write_text(f"Dog&{cell}&good&a&10\n")
    (tmp_path / "rows.tsv").write_text(f"clip\tdataset_name\tsplit\tvideo\tstart\tend\ttranscript\n{cell}\n")
    reads: list[Callable[[], object]] = [
        lambda: read_annotations(tmp_path / "a.tsv", 10),
        lambda: read_annotations(tmp_path / "Annotations.txt", 10),
        lambda: read_utterances(tmp_path / "rows.tsv", tmp_path),
    ]
    for read in reads:
        with pytest.raises(InputError) as refused:
            read()
        assert len(str(refused.value)) < 4000


def test_deep_json_is_refused(tmp_path: Path) -> None:
    for name in ("index.jsonl", "meta.json"):
        (tmp_path / name).write_text("[" * 60_000)
        with pytest.raises(InputError, match=rf"{name}.*not JSON"):
            PublishedCache(tmp_path)
        (tmp_path / name).unlink()


def coded(path: Path, width: int, height: int) -> Path:
    """A video of one plain picture."""
    with av.open(str(path), "w") as out:
        stream: Any = out.add_stream("mjpeg", rate=1)
        stream.width, stream.height, stream.pix_fmt = width, height, "yuvj420p"
        frame = av.VideoFrame(width, height, stream.pix_fmt)
        for plane in frame.planes:
            plane.update(bytes(plane.buffer_size))
        frame.pts, frame.time_base = 0, Fraction(1, 1)
        out.mux(stream.encode(frame))
        out.mux(stream.encode(None))
    return path


def test_pictures_that_would_fill_the_memory_are_refused_before_they_are_decoded(tmp_path: Path) -> None:
    path = coded(tmp_path / "a.mkv", MAX_SIDE, 4608)
    with pytest.raises(MediaError, match=r"frame size 8192x4608 exceeds 35791394 pixels"):
        read_media(path, 10)


def test_a_picture_may_not_be_larger_than_its_video_says(tmp_path: Path) -> None:
    """The container says 64×48, the picture itself 65500×65500, or the container too."""
    data = coded(tmp_path / "a.mkv", 64, 48).read_bytes()
    at = data.index(b"\xff\xc0") + 5
    path = tmp_path / "b.mkv"
    path.write_bytes(data[:at] + struct.pack(">HH", 65500, 65500) + data[at + 4 :])
    with pytest.raises(MediaError):
        read_media(path, 1)
    data = jpeg(np.zeros((48, 64, 3), np.uint8))
    at = data.index(b"\xff\xc0") + 5
    with pytest.raises(MediaError, match=r"picture of 9000x9000 exceeds 8192 a side"):
        unjpeg(data[:at] + struct.pack(">HH", 9000, 9000) + data[at + 4 :])


def test_a_video_may_not_claim_frames_without_end(tmp_path: Path) -> None:
    path = tmp_path / "a.mp4"
    write_media(path, [np.zeros((32, 48, 3), np.uint8)] * 8, 4)
    data = path.read_bytes()
    started = time.monotonic()
    for box, skip in ((b"stsz", 12), (b"stts", 12), (b"stsz", 8), (b"mvhd", 20)):
        at = data.index(box) + skip
        path.write_bytes(data[:at] + struct.pack(">I", 1_000_000_000) + data[at + 4 :])
        with suppress(MediaError):
            assert len(read_media(path, 2).frames) == 2
    assert time.monotonic() - started < 10


def test_sound_is_as_long_as_its_file(tmp_path: Path) -> None:
    """A header of 4 GiB over a second of sound, and one of 1 sample a second, which would be 16000 each."""
    data = bytearray(wav(np.zeros(16_000 * 3, np.int16)))
    data[4:8] = data[40:44] = b"\xff\xff\xff\xff"
    (tmp_path / "a.wav").write_bytes(data)
    assert len(read_sound(tmp_path / "a.wav")) <= 16_000 * 3
    data[24:32] = struct.pack("<II", 1, 2)
    (tmp_path / "a.wav").write_bytes(data)
    with pytest.raises(MediaError, match=r"s of sound, more than 21600"):
        read_sound(tmp_path / "a.wav")
