import hashlib
import io
import re
import tarfile
from pathlib import Path

import numpy as np
import pytest
from speech_videos import write_video

from avs.core import tars
from avs.core.errors import InputError
from avs.core.footage import read_footage
from avs.core.media import MediaError

LONG = "deep/" * 40 + "name.video"  # longer than a plain header holds


def tar_of(path: Path, files: dict[str, bytes], form: int = tarfile.PAX_FORMAT, mtime: float = 0) -> Path:
    with tarfile.open(path, "w", format=form) as tar:
        for name, content in files.items():
            info = tarfile.TarInfo(name)
            info.size, info.mtime = len(content), mtime
            tar.addfile(info, io.BytesIO(content))
    return path


@pytest.mark.parametrize("form", [tarfile.USTAR_FORMAT, tarfile.GNU_FORMAT, tarfile.PAX_FORMAT])
def test_files_are_read_where_they_lie(tmp_path: Path, form: int) -> None:
    files = {"./a.label": b"text", "b.label": b"", "sub/c.label": b"x" * 513}
    if form != tarfile.USTAR_FORMAT:
        files[LONG] = b"far"
    # webdataset's own writer gives times with fractions, which take an extended header
    path = tar_of(tmp_path / "x-0.tar", files, form, mtime=1.5)
    found = tars.contents(path)
    assert list(found) == [name.removeprefix("./") for name in files]
    for name, content in files.items():
        part = tars.find(path / name)
        assert part == found[name.removeprefix("./")]
        assert part.read(1 << 20) == content
        assert part.sha256() == hashlib.sha256(content).hexdigest()
    assert tars.find(path / "none") is None


def test_a_plain_file_is_all_of_itself(tmp_path: Path) -> None:
    (tmp_path / "a").write_bytes(b"abc")
    part = tars.find(tmp_path / "a")
    assert (part.read(3), part.sha256()) == (b"abc", hashlib.sha256(b"abc").hexdigest())
    with pytest.raises(InputError, match="3 bytes, more than 2"):
        part.read(2)
    assert tars.find(tmp_path) is None
    assert tars.find(tmp_path / "b") is None


def test_a_tar_that_has_changed_is_read_again(tmp_path: Path) -> None:
    path = tar_of(tmp_path / "x.tar", {"a": b"1"})
    assert list(tars.contents(path)) == ["a"]
    tar_of(path, {"b": b"1" * 20_000})
    assert list(tars.contents(path)) == ["b"]


def test_a_video_in_a_tar_is_decoded(tmp_path: Path) -> None:
    for number in range(2):
        write_video(tmp_path / f"{number}.mkv", 25 + number, sound=1 + number / 25)
    files = {f"{number}.video": (tmp_path / f"{number}.mkv").read_bytes() for number in range(2)}
    path = tar_of(tmp_path / "odd, name:.tar", files | {"text.video": b"no video", "empty.video": b""})
    inside, beside = (
        read_footage(p, lambda n, picture: picture[0, 0, 0]) for p in (path / "1.video", tmp_path / "1.mkv")
    )
    assert inside.seen == beside.seen
    np.testing.assert_array_equal(inside.audio, beside.audio)
    for name, reason in (("none", "no such file"), ("text", "cannot be opened"), ("empty", "file is empty")):
        with pytest.raises(MediaError, match=reason):
            read_footage(path / f"{name}.video", lambda n, picture: None)


def link(tar: tarfile.TarFile, kind: bytes, name: str = "a", target: str = "/etc/passwd") -> None:
    info = tarfile.TarInfo(name)
    info.type, info.linkname = kind, target
    tar.addfile(info)


def test_what_is_no_plain_file_is_refused(tmp_path: Path) -> None:
    for kind in (tarfile.SYMTYPE, tarfile.LNKTYPE, tarfile.FIFOTYPE, tarfile.CHRTYPE):
        path = tmp_path / f"{kind.decode()}.tar"
        with tarfile.open(path, "w") as tar:
            link(tar, kind)
        with pytest.raises(InputError, match=re.escape(f"{path}: 'a' is a link, a device or sparse")):
            tars.contents(path)


@pytest.mark.parametrize("name", ["/etc/passwd", "../a", "a/../../b", "a\\b", "a\nb"])
def test_names_that_lead_out_are_refused(tmp_path: Path, name: str) -> None:
    path = tar_of(tmp_path / "x.tar", {name: b""})
    with pytest.raises(InputError, match="must be a relative path without"):
        tars.contents(path)


def test_hostile_and_damaged_tars_are_told(tmp_path: Path) -> None:
    def refused(message: str, data: bytes) -> None:
        path = tmp_path / f"{len(list(tmp_path.iterdir()))}.tar"
        path.write_bytes(data)
        with pytest.raises(InputError, match=re.escape(f"{path}: ") + message):
            tars.contents(path)

    whole = tar_of(tmp_path / "whole.tar", {"a": b"x" * 2000}).read_bytes()
    refused("cut off, or not a tar: 'a' announces 2000 bytes", whole[:1500])
    refused("not a plain tar: no header at byte 2560", whole[:2560] + b"x" * 512)
    refused("not a plain tar: no header at byte 0", b"PK" + b"x" * 600)
    refused("'a' is in it twice", whole[:2560] + whole)
    backwards = tarfile.TarInfo("a").tobuf(tarfile.GNU_FORMAT)
    info = tarfile.TarInfo("a")
    info.size = -1024
    refused("cut off, or not a tar: 'a' announces -1024 bytes", backwards + info.tobuf(tarfile.GNU_FORMAT))
    for records in (b"0 a=b\n", b"-5 a=b\n", b"99 a=b\n", b"x", b"13 size=many\n", b"7 a=\xff\n"):
        refused("not a plain tar: a damaged header at byte 0", extended(records) + whole)
    refused("cut off, or not a tar: 'a' announces -9 bytes", extended(b"11 size=-9\n") + whole)
    refused("a header of 70000 bytes at 0, more than 65536", extended(b"x" * 70_000) + whole)
    refused("'a' is a link, a device or sparse", extended(b"22 GNU.sparse.major=1\n") + whole)


def extended(records: bytes) -> bytes:
    """A pax header of those records."""
    info = tarfile.TarInfo("h")
    info.type, info.size = tarfile.XHDTYPE, len(records)
    return info.tobuf(tarfile.USTAR_FORMAT) + records + bytes(-len(records) % 512)


def test_a_file_that_is_not_there_is_told(tmp_path: Path) -> None:
    with pytest.raises(InputError, match=r"none\.tar: not there, or not a regular file"):
        tars.contents(tmp_path / "none.tar")
