import stat
import zipfile
from collections.abc import Callable
from pathlib import Path

import pytest

from avs.core import archive, download
from avs.core.archive import unpack
from avs.core.errors import InputError


def zipped(folder: Path, fill: Callable[[zipfile.ZipFile], None], method: int = zipfile.ZIP_STORED) -> Path:
    path = folder / "a.zip"
    with zipfile.ZipFile(path, "w", method) as file:
        fill(file)
    return path


def named(*names: str) -> Callable[[zipfile.ZipFile], None]:
    return lambda file: [file.writestr(name, b"x") for name in names] and None


def link(file: zipfile.ZipFile) -> None:
    info = zipfile.ZipInfo("videos")
    info.external_attr = (stat.S_IFLNK | 0o777) << 16
    file.writestr(info, "/etc")


def everything(folder: Path) -> list[str]:
    return sorted(str(path.relative_to(folder)) for path in folder.rglob("*") if path.is_file())


def test_unpacks_files_and_folders(tmp_path: Path) -> None:
    path = zipped(tmp_path, named("AVE/-a b.mp4", "AVE/sub/動画.mp4", "Annotations.txt", "empty/"))
    unpack(path, tmp_path / "out")
    assert everything(tmp_path / "out") == ["AVE/-a b.mp4", "AVE/sub/動画.mp4", "Annotations.txt"]
    assert (tmp_path / "out/AVE/-a b.mp4").read_bytes() == b"x"


@pytest.mark.parametrize(
    ("fill", "message"),
    [
        (named("fine", "../outside"), "'../outside' must be a relative path without"),
        (named("a/../../outside"), "must be a relative path"),
        (named("/etc/outside"), "'/etc/outside' must be a relative path"),
        (named("C:/outside"), "must be a relative path"),
        (named("..\\outside"), "must be a relative path"),
        (named("a//b"), "must be a relative path"),
        (link, "'videos' is a link or device"),
        (named("A.mp4", "a.mp4"), "'a.mp4' clashes with 'A.mp4'"),
        (named("caf\u00e9", "cafe\u0301"), "clashes with"),
        (named("a", "a/b"), "'a/b' clashes with 'a'"),
        (named("A/b/c", "a"), "'A/b/c' clashes with 'a'"),
    ],
)
def test_refuses_hostile_names_before_it_writes(
    tmp_path: Path, fill: Callable[[zipfile.ZipFile], None], message: str
) -> None:
    path = zipped(tmp_path, fill)
    with pytest.raises(InputError, match=message):
        unpack(path, tmp_path / "deep/out")
    assert everything(tmp_path) == ["a.zip"]


def test_refuses_bombs(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    path = zipped(tmp_path, lambda file: file.writestr("bomb", bytes(4 << 20)), zipfile.ZIP_DEFLATED)
    with pytest.raises(InputError, match=r"a\.zip: 'bomb' unpacks to 4194304 bytes from 4\d\d\d"):
        unpack(path, tmp_path / "out")
    path = zipped(tmp_path, named("a", "b", "c"))
    monkeypatch.setattr(archive, "MAX_BYTES", 2)
    with pytest.raises(InputError, match=r"3 bytes unpacked, more than 2"):
        unpack(path, tmp_path / "out")
    monkeypatch.setattr(archive, "MAX_FILES", 2)
    with pytest.raises(InputError, match="3 files, more than 2"):
        unpack(path, tmp_path / "out")
    assert everything(tmp_path) == ["a.zip"]


def test_a_size_that_lies_gives_no_more_than_it_says(tmp_path: Path) -> None:
    """A member whose directory entry says 10 bytes, and whose stream holds 3 MB."""
    path = zipped(tmp_path, lambda file: file.writestr("liar", bytes(3 << 20)), zipfile.ZIP_DEFLATED)
    data = path.read_bytes()
    entry = data.rindex(b"PK\x01\x02")
    path.write_bytes(data[: entry + 24] + (10).to_bytes(4, "little") + data[entry + 28 :])
    with pytest.raises(InputError, match="'liar' cannot be unpacked"):
        unpack(path, tmp_path / "out")
    assert everything(tmp_path) == ["a.zip"]


def test_refuses_members_that_share_their_bytes(tmp_path: Path) -> None:
    path = zipped(tmp_path, named(*(f"f{i}" for i in range(4))))
    size, data = path.stat().st_size // 2, path.read_bytes()
    for number in range(4):
        entry = data.index(b"PK\x01\x02") + 48 * number
        data = data[: entry + 20] + size.to_bytes(4, "little") + data[entry + 24 :]
    path.write_bytes(data)
    with pytest.raises(InputError, match="overlap"):
        unpack(path, tmp_path / "out")


def test_a_damaged_member_is_named_and_does_not_appear(tmp_path: Path) -> None:
    path = zipped(tmp_path, named("fine", "bad"))
    data = path.read_bytes()
    at = data.index(b"bad") + 3
    path.write_bytes(data[:at] + b"y" + data[at + 1 :])
    with pytest.raises(InputError, match=r"a\.zip: 'bad' cannot be unpacked: Bad CRC-32"):
        unpack(path, tmp_path / "out")
    assert everything(tmp_path / "out") == ["fine"]


def test_a_damaged_lzma_member_is_named(tmp_path: Path) -> None:
    path = zipped(tmp_path, lambda file: file.writestr("bad", bytes(range(256)) * 9), zipfile.ZIP_LZMA)
    data = path.read_bytes()
    path.write_bytes(data[:40] + b"\xff" * 8 + data[48:])
    with pytest.raises(InputError, match=r"a\.zip: 'bad' cannot be unpacked"):
        unpack(path, tmp_path / "out")


@pytest.mark.parametrize("at", [6, 8])
def test_a_directory_that_cannot_be_read_is_named(tmp_path: Path, at: int) -> None:
    """A version of zip that nobody knows, and a name that is said to be UTF-8 and is not."""
    path = zipped(tmp_path, named("a.mp4%"))
    data = path.read_bytes()
    entry = data.rindex(b"PK\x01\x02") + at
    value = {6: 255, 8: 0x800}[at].to_bytes(2, "little")
    path.write_bytes((data[:entry] + value + data[entry + 2 :]).replace(b"%", b"\xff"))
    with pytest.raises(InputError, match=r"a\.zip: cannot be read as a zip"):
        unpack(path, tmp_path / "out")


def test_goes_on_where_it_stopped(tmp_path: Path) -> None:
    path = zipped(tmp_path, named("a", "b"))
    unpack(path, tmp_path / "out")
    (tmp_path / "out/b").write_bytes(b"half of it")
    (tmp_path / "out/a").write_bytes(b"K")  # of the right size: kept
    unpack(path, tmp_path / "out")
    assert (tmp_path / "out/b").read_bytes() == b"x"
    assert (tmp_path / "out/a").read_bytes() == b"K"


def test_a_full_disk_is_told_before(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    path = zipped(tmp_path, lambda file: file.writestr("a", bytes(2000)))
    monkeypatch.setattr(download.shutil, "disk_usage", lambda _: type("Usage", (), {"free": 1999})())
    with pytest.raises(InputError, match=r"unpacking a\.zip needs .* are free \(make room, or set AVS_DATA_DIR"):
        unpack(path, tmp_path / "out")


def test_refuses_a_name_that_ends_early(tmp_path: Path) -> None:
    path = zipped(tmp_path, named("a.mp4%.sh"))
    path.write_bytes(path.read_bytes().replace(b"%", b"\0"))
    with pytest.raises(InputError, match=r"'a\.mp4\\x00\.sh' must be a relative path"):
        unpack(path, tmp_path / "out")


@pytest.mark.parametrize("content", [None, b"", b"<html>quota exceeded</html>"])
def test_what_is_no_zip_is_named(tmp_path: Path, content: bytes | None) -> None:
    path = tmp_path / "a.zip"
    if content is not None:
        path.write_bytes(content)
    with pytest.raises(InputError, match=r"a\.zip: cannot be read as a zip"):
        unpack(path, tmp_path / "out")
