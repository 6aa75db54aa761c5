"""Files over https: resumed where they stopped, limited in size, redirected to public https addresses only."""

from __future__ import annotations

import http.client
import ipaddress
import shutil
import socket
import sys
import urllib.error
import urllib.parse
import urllib.request
from collections.abc import Iterator
from pathlib import Path
from typing import IO, Any

from tqdm import tqdm

from avs.core.errors import InputError

_CHUNK = 1 << 20
_TIMEOUT_SECONDS = 60.0


class UnreachableError(Exception):
    """The file could not be had; the message says why."""


def resume(url: str, partial: Path, name: str, *, limit: int, size: int | None = None, token: str = "") -> None:
    """Download what `partial` lacks of the file at `url`; it is whole when this returns.

    name: how errors and the bar call the file; limit: the most bytes that are accepted; size: the bytes that it
    must have, where that is known: an answer of another size (a page that says why not), or one that begins at
    the beginning again, then leaves `partial` as it is; token: for this server alone, none that it redirects to.
    Raises UnreachableError where the rest cannot be had now, a redirect that is refused included, and InputError
    beyond the limit.
    """
    start = partial.stat().st_size if partial.exists() else 0
    if size is not None and start >= size:
        return
    request = urllib.request.Request(url, headers={"Range": f"bytes={start}-"} if start else {})
    if token:
        request.add_unredirected_header("Authorization", f"Bearer {token}")
    try:
        with OPENER.open(request, timeout=_TIMEOUT_SECONDS) as response:
            resumed = response.status == http.client.PARTIAL_CONTENT
            length = response.length or 0  # None where none, or no number, is announced
            announced = length + (start if resumed else 0)
            if size is not None and announced != size:
                raise UnreachableError(f"the server offers {announced} bytes, not the {size} of the file")
            if size is not None and start and not resumed:
                raise UnreachableError(f"the server cannot go on from byte {start}: remove {partial} to begin again")
            if resumed:
                _check_place(response.headers.get("Content-Range", ""), start)
            with partial.open("ab" if resumed else "wb") as file:
                _receive(response, file, name, length, limit)
    except urllib.error.HTTPError as error:
        complete = size is None and start > 0 and error.code == http.client.REQUESTED_RANGE_NOT_SATISFIABLE
        if not complete:
            raise UnreachableError(f"HTTP {error.code} {error.reason}") from error
    except (OSError, http.client.HTTPException) as error:
        raise UnreachableError(str(error)) from error


def _check_place(content_range: str, start: int) -> None:
    if not content_range.startswith(f"bytes {start}-"):
        raise UnreachableError(f"the server sends {content_range!r}, not what begins at byte {start}")


def _receive(response: IO[bytes], file: IO[bytes], name: str, length: int, limit: int) -> None:
    """Append the response's `length` bytes (0: not announced) to a file, with a bar on a terminal."""
    start = file.tell()
    total = start + length if length else None
    _check_size(name, total or 0, limit)
    bar = tqdm(desc=name, total=total, initial=start, unit="B", unit_scale=True, disable=not sys.stderr.isatty())
    with bar:
        for chunk in chunks(response, name, limit, start):
            file.write(chunk)
            bar.update(len(chunk))
    if total and file.tell() < total:
        raise UnreachableError(f"the connection ended after {file.tell()} of {total} bytes; run again to resume")


def chunks(stream: IO[bytes], name: str, limit: int, size: int = 0) -> Iterator[bytes]:
    """The rest of a stream of which `size` bytes are there. Raises InputError once it exceeds `limit` bytes."""
    while chunk := stream.read(_CHUNK):
        size += len(chunk)
        _check_size(name, size, limit)
        yield chunk


def _check_size(name: str, size: int, limit: int) -> None:
    if size > limit:
        raise InputError(f"{name}: larger than the limit of {limit} bytes")


def check_free(folder: Path, needed: int, what: str) -> None:
    """Raise InputError where the disk of `folder` cannot take `needed` bytes more."""
    folder.mkdir(parents=True, exist_ok=True)
    free = shutil.disk_usage(folder).free
    if needed > free:
        raise InputError(
            f"{what} needs {needed / 1e9:.1f} GB in {folder}, where {free / 1e9:.1f} GB are free "
            "(make room, or set AVS_DATA_DIR to a folder on a larger disk)"
        )


class SafeRedirects(urllib.request.HTTPRedirectHandler):
    """Follows redirects to public https addresses only. Raises UnreachableError for others.

    A captive portal's is one too: what has arrived stays, and the next run goes on.
    """

    def redirect_request(self, req: Any, fp: Any, code: int, msg: str, headers: Any, newurl: str) -> Any:
        _check_redirect(newurl)
        return super().redirect_request(req, fp, code, msg, headers, newurl)


OPENER = urllib.request.build_opener(SafeRedirects)


def _check_redirect(url: str) -> None:
    parts = urllib.parse.urlsplit(url)
    if parts.scheme != "https" or not parts.hostname:
        raise UnreachableError(f"a redirect to {url} is refused: not https")
    try:
        found = {info[4][0] for info in socket.getaddrinfo(parts.hostname, None)}
    except OSError:
        return  # nothing to connect to from here; behind a proxy, the proxy decides
    if not all(ipaddress.ip_address(str(address).partition("%")[0]).is_global for address in found):
        raise UnreachableError(f"a redirect to {url} is refused: not a public address")
