"""AVE: the published annotations whole, and the archive from a server of our own that breaks off."""

import hashlib
import json
import threading
import urllib.request
import zipfile
from collections import Counter
from collections.abc import Iterator
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from typing import Any

import pytest

from avs.core import download
from avs.core.clips import Clip, class_names, read_table
from avs.core.errors import InputError
from avs.core.execute import ExecutionParams
from avs.core.store import raw_root
from avs.datasets import DataParams, ave, install, open_dataset
from avs.datasets.ave import Ave, AveParams
from avs.datasets.demo import DemoParams
from avs.datasets.local import LocalParams
from avs.datasets.subsets import Overlap, split_overlaps, write_lists

SHARED = Path(__file__).resolve().parents[2] / "shared"
INLINE = ExecutionParams(backend="inline")
ROWS = {"train": "Dog&-x&good&0&9", "val": "Cat&y z&good&2&4", "test": "Dog&w&good&0&10"}
needs_ave = pytest.mark.skipif(not (SHARED / "ave").exists(), reason="AVE's annotations are not beside this checkout")


def archive(path: Path) -> Path:
    """A tiny archive of the official layout."""
    with zipfile.ZipFile(path, "w") as file:
        file.writestr("AVE_Dataset/Annotations.txt", "\n".join(ROWS.values()))
        for split, row in ROWS.items():
            file.writestr(f"AVE_Dataset/{split}Set.txt", row)
            name = row.split("&")[1]
            file.writestr(f"AVE_Dataset/AVE/{name}.mp4", name.encode() * 5000)
    return path


def installed(p: AveParams) -> list[Clip]:
    return install(open_dataset("ave", DataParams(DemoParams(), LocalParams(), ave=p)), INLINE)[0]


class Handler(BaseHTTPRequestHandler):
    """Serves the server's `content`, at most `cut` bytes an answer; `page` instead, where there is one.

    `whole`: it knows no ranges; `astray`: so many bytes before what was asked; 416 for the end and beyond.
    """

    def do_GET(self) -> None:
        server: Any = self.server
        asked = self.headers.get("Range")
        server.ranges.append(asked)
        plain = server.page or server.whole or not asked
        start = 0 if plain else int(asked.removeprefix("bytes=").rstrip("-")) - server.astray
        body = server.page or server.content[start:]
        self.send_response(200 if plain else 206 if body else 416)
        self.send_header("Content-Length", str(len(body)))
        if not plain:
            self.send_header("Content-Range", f"bytes {start}-{len(server.content) - 1}/{len(server.content)}")
        self.end_headers()
        self.wfile.write(body[: server.cut])

    def log_message(self, *_: Any) -> None:
        pass


@pytest.fixture
def server(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[Any]:
    running: Any = ThreadingHTTPServer(("127.0.0.1", 0), Handler)
    running.content = archive(tmp_path / "official.zip").read_bytes()
    running.ranges, running.cut, running.page, running.whole, running.astray = [], None, None, False, 0
    threading.Thread(target=running.serve_forever, kwargs={"poll_interval": 0.01}, daemon=True).start()
    direct = urllib.request.build_opener(urllib.request.ProxyHandler({}))
    monkeypatch.setattr(download, "OPENER", direct)
    monkeypatch.setattr(ave, "URL", f"http://127.0.0.1:{running.server_port}/")
    monkeypatch.setattr(ave, "SIZE", len(running.content))
    yield running
    running.shutdown()
    running.server_close()


def test_an_interrupted_download_resumes_and_has_the_right_digest(server: Any, capsys: Any) -> None:
    server.cut = len(server.content) // 3
    clips = installed(AveParams(sha256=hashlib.sha256(server.content).hexdigest()))
    assert [(clip.key, clip.split, clip.label) for clip in clips] == [
        ("0--x", "train", "Dog"),
        ("1-y z", "val", "Cat"),
        ("2-w", "test", "Dog"),
    ]
    third = server.cut
    assert server.ranges[:3] == [None, f"bytes={third}-", f"bytes={2 * third}-"]
    said = capsys.readouterr().err
    assert hashlib.sha256(server.content).hexdigest() in said
    assert "Tian et al." in said
    asked = len(server.ranges)
    assert installed(AveParams()) == clips
    assert len(server.ranges) == asked
    assert json.loads((raw_root() / "ave/unpacked.json").read_text())["bytes"] == len(server.content)


def test_a_download_that_stands_still_stops_and_goes_on_later(server: Any) -> None:
    server.cut = 0
    with pytest.raises(InputError, match=r"cannot be fetched \(the connection ended after 0 of"):
        installed(AveParams())
    server.cut = 1000
    server.page, server.ranges = b"<html>quota exceeded</html>", []
    (raw_root() / "ave/AVE_Dataset.partial").write_bytes(server.content[:700])
    with pytest.raises(InputError, match=r"the server offers 27 bytes, not the \d+ of the file.*Run again to go on"):
        installed(AveParams())
    server.page = server.cut = None
    assert len(installed(AveParams())) == 3
    assert server.ranges == ["bytes=700-", "bytes=700-"]


def test_a_server_that_begins_again_spoils_nothing(server: Any) -> None:
    partial = raw_root() / "ave/AVE_Dataset.partial"
    partial.parent.mkdir(parents=True)
    partial.write_bytes(server.content[:700])
    server.whole, server.cut = True, 300
    with pytest.raises(InputError, match=r"cannot go on from byte 700: remove .*partial"):
        installed(AveParams())
    assert partial.read_bytes() == server.content[:700]
    assert len(server.ranges) == 1


def test_bytes_from_elsewhere_are_refused(server: Any, monkeypatch: pytest.MonkeyPatch) -> None:
    partial = raw_root() / "ave/AVE_Dataset.partial"
    partial.parent.mkdir(parents=True)
    partial.write_bytes(server.content[:700])
    server.astray = 10
    monkeypatch.setattr(ave, "SIZE", len(server.content) + 10)
    with pytest.raises(InputError, match=r"the server sends 'bytes 690-\d+/\d+', not what begins at byte 700"):
        installed(AveParams())
    assert partial.read_bytes() == server.content[:700]


def test_a_file_that_is_shorter_on_the_server_ends_the_run(server: Any, monkeypatch: pytest.MonkeyPatch) -> None:
    partial = raw_root() / "ave/AVE_Dataset.partial"
    partial.parent.mkdir(parents=True)
    partial.write_bytes(server.content)
    monkeypatch.setattr(ave, "SIZE", len(server.content) + 10)
    with pytest.raises(InputError, match=r"cannot be fetched \(HTTP 416"):
        installed(AveParams())
    assert len(server.ranges) == 1


def test_another_digest_than_the_pinned_one_is_refused(server: Any) -> None:
    actual = hashlib.sha256(server.content).hexdigest()
    with pytest.raises(InputError, match=f"sha256 is {actual}, data.ave.sha256 is {'0' * 64}"):
        installed(AveParams(sha256="0" * 64))
    assert not (raw_root() / "ave/unpacked").exists()
    installed(AveParams())
    with pytest.raises(InputError, match=f"sha256 is {actual}"):
        installed(AveParams(sha256="0" * 64))


def test_a_file_of_another_size_is_refused(server: Any) -> None:
    (raw_root() / "ave").mkdir(parents=True)
    (raw_root() / "ave/AVE_Dataset.zip").write_bytes(server.content[:-1])
    with pytest.raises(InputError, match=rf"{len(server.content) - 1} bytes, the official archive has"):
        installed(AveParams())


def test_disk_is_checked_before_the_download(server: Any, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(download.shutil, "disk_usage", lambda _: type("Usage", (), {"free": len(server.content)})())
    with pytest.raises(InputError, match=r"AVE, archive and videos, needs"):
        installed(AveParams())
    assert server.ranges == []


def test_an_archive_or_a_folder_of_ones_own_needs_no_network(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(download, "OPENER", None)
    mine = archive(tmp_path / "mine.zip")
    clips = installed(AveParams(archive=str(mine)))
    assert len(clips) == 3
    (unpacked,) = raw_root().glob("ave-*/unpacked")
    for folder in (unpacked, unpacked / "AVE_Dataset"):
        assert installed(AveParams(folder=str(folder))) == clips
    for name in ("Annotations.txt", "trainSet.txt", "valSet.txt", "testSet.txt"):
        (unpacked / "AVE_Dataset" / name).rename(tmp_path / name)
    videos = unpacked / "AVE_Dataset/AVE"
    assert installed(AveParams(folder=str(videos), annotations=str(tmp_path))) == clips
    with zipfile.ZipFile(mine, "a") as file:
        file.writestr("AVE_Dataset/AVE/../../../outside", "x")
    with pytest.raises(InputError, match=r"must be a relative path without '\.\.'"):
        installed(AveParams(archive=str(mine)))


def test_a_folder_that_holds_nothing_of_ave_is_refused(tmp_path: Path) -> None:
    with pytest.raises(InputError, match=r"data\.ave\.folder \(.*\) holds no videos: neither AVE nor videos nor any"):
        installed(AveParams(folder=str(tmp_path)))


def test_annotations_alone_are_no_copy(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Neither in the usual folder, where else the download would begin, nor below it."""
    monkeypatch.chdir(tmp_path)
    (tmp_path / "data/ave").mkdir(parents=True)
    with pytest.raises(InputError, match=r"unpacked holds no Annotations\.txt .*dvc repro install@clips.*annotations"):
        Ave(AveParams()).annotations()
    (tmp_path / "data/ave/Annotations.txt").write_text("Dog&x&good&0&9")
    with pytest.raises(InputError, match=r"holds no videos.*set data\.ave\.annotations"):
        installed(AveParams())
    (tmp_path / "data/ave/trainSet.txt").write_text("Dog&x&good&0&9")
    assert len(Ave(AveParams(annotations="data/ave")).annotations()) == 1
    (tmp_path / "data/ave/AVE").mkdir()
    (tmp_path / "data/ave/AVE/x.mp4").write_bytes(b"x")
    assert [clip.video for clip in installed(AveParams())] == ["x.mp4"]


def test_wrong_annotations_are_found_before_the_download(server: Any, tmp_path: Path) -> None:
    (tmp_path / "Annotations.txt").write_text("Dog&x&good&0&9")
    with pytest.raises(InputError, match=r"no trainSet\.txt or train_order\.h5"):
        installed(AveParams(annotations=str(tmp_path)))
    assert server.ranges == []


@pytest.mark.parametrize(("key", "value"), [("limit", 0), ("sha256", "abc"), ("folder", "~/AVE")])
def test_wrong_parameters_are_refused(key: str, value: Any) -> None:
    with pytest.raises(ValueError, match=key):
        AveParams(**{key: value})


@needs_ave
def test_the_clip_table_of_ave(tmp_path: Path) -> None:
    """A few bytes stand for each video, but for one that is absent."""
    p = AveParams(folder=str(tmp_path / "ave"), annotations=str(SHARED / "ave"))
    (tmp_path / "ave/AVE").mkdir(parents=True)
    rows = Ave(p).annotations()
    for row in rows[1:]:
        (tmp_path / "ave/AVE" / row.video).write_text(row.video)
    clips, failed = install(open_dataset("ave", DataParams(DemoParams(), LocalParams(), ave=p)), INLINE)
    assert [row.key for row in failed] == ["0-RUhOCu3LNXM"]
    assert len(clips) == 4142
    assert len({clip.key for clip in clips}) == 4142
    assert len({clip.sha256 for clip in clips}) == 4096
    assert Counter(clip.split for clip in clips) == {"train": 3338, "val": 402, "test": 402}
    assert len(class_names(clips)) == 29
    write_lists(tmp_path / "out", rows, clips, "official")
    ids = {path.name: path.read_text().splitlines() for path in (tmp_path / "out/meta").iterdir()}
    assert {name: len(lines) for name, lines in ids.items()} == {
        "download_ok_train_official.txt": 3311,
        "download_ok_val_official.txt": 401,
        "download_ok_test_official.txt": 402,
        "download_fail_train_official.txt": 1,
        "download_fail_val_official.txt": 0,
        "download_fail_test_official.txt": 0,
    }
    assert ids["download_fail_train_official.txt"] == ["RUhOCu3LNXM"]


@needs_ave
def test_eighteen_videos_sit_in_two_splits(tmp_path: Path) -> None:
    folder = tmp_path / "AVE"
    folder.mkdir()
    p = {"folder": str(tmp_path), "annotations": str(SHARED / "ave")}
    rows = Ave(AveParams(**p)).annotations()
    found = split_overlaps(rows)
    splits = {video: {row.split for row in found if row.video == video} for video in {row.video for row in found}}
    assert Counter(tuple(sorted(pair)) for pair in splits.values()) == {("train", "val"): 10, ("test", "train"): 8}
    dropped = Ave(AveParams(**p, drop_overlaps=True)).annotations()
    unused = [row for row in dropped if not row.used]
    assert {row.video for row in unused} == set(splits)
    assert {row.split for row in unused} == {"train"}
    assert not split_overlaps(row for row in dropped if row.used)
    write_lists(tmp_path / "out", dropped, [], "official")
    table = read_table(tmp_path / "out/overlaps.tsv", Overlap)
    assert len({row.video for row in table}) == 18
    assert sum(row.used == 0 for row in table) == len(unused)


@needs_ave
def test_a_limit_keeps_the_proportions_of_the_classes(tmp_path: Path) -> None:
    p = {"folder": str(tmp_path), "annotations": str(SHARED / "ave")}
    (tmp_path / "AVE").mkdir()
    rows = Ave(AveParams(**p)).annotations()
    few, more, other = (
        Ave(AveParams(**p, **o)).annotations() for o in ({"limit": 56}, {"limit": 112}, {"limit": 56, "seed": 1})
    )
    assert Counter(row.split for row in few) == {"train": 56, "val": 56, "test": 56}
    assert set(few) < set(more)
    assert few != other
    assert [row.number for row in few] == sorted(row.number for row in few)
    share = Counter(row.label for row in rows if row.split == "train")
    for label, count in Counter(row.label for row in more if row.split == "train").items():
        assert abs(count - share[label] * 112 / 3339) <= 1
    assert len({row.label for row in more if row.split == "train"}) == 28
    assert Ave(AveParams(**p, limit=5000)).annotations() == rows
