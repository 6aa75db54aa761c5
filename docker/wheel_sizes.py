"""How large the packages of pip's choice are, read from the index without downloading them.

usage: python docker/wheel_sizes.py 'torch==2.13.0'     (any of pip's arguments; its own settings decide the index)
"""

import io
import json
import subprocess
import sys
import urllib.request
import zipfile

_CHUNK = 1 << 16


class RemoteFile(io.RawIOBase):
    """A file on a server that answers requests for ranges; a zip archive's table of contents is at its end."""

    def __init__(self, url: str) -> None:
        self.url = url
        self.place = 0
        with urllib.request.urlopen(urllib.request.Request(url, method="HEAD")) as response:
            self.size = int(response.headers["Content-Length"])

    def readable(self) -> bool:
        return True

    def seekable(self) -> bool:
        return True

    def seek(self, offset: int, whence: int = io.SEEK_SET) -> int:
        self.place = offset + {io.SEEK_SET: 0, io.SEEK_CUR: self.place, io.SEEK_END: self.size}[whence]
        return self.place

    def readinto(self, buffer: memoryview) -> int:  # type: ignore[override]
        end = min(self.place + len(buffer), self.size)
        if end <= self.place:
            return 0
        wanted = {"Range": f"bytes={self.place}-{end - 1}"}
        with urllib.request.urlopen(urllib.request.Request(self.url, headers=wanted)) as response:
            data = response.read()
        buffer[: len(data)] = data
        self.place += len(data)
        return len(data)


def main() -> None:
    command = [sys.executable, "-m", "pip", "install", "--dry-run", "--ignore-installed", "--quiet", "--report", "-"]
    report = subprocess.run([*command, *sys.argv[1:]], stdout=subprocess.PIPE, check=True).stdout
    total = [0, 0]
    for package in json.loads(report)["install"]:
        file = RemoteFile(package["download_info"]["url"])
        with zipfile.ZipFile(io.BufferedReader(file, _CHUNK)) as wheel:
            unpacked = sum(member.file_size for member in wheel.infolist())
        print(f"{package['metadata']['name']:28} {file.size / 1e6:8.1f} MB {unpacked / 1e6:8.1f} MB unpacked")
        total = [total[0] + file.size, total[1] + unpacked]
    print(f"{'together':28} {total[0] / 1e6:8.1f} MB {total[1] / 1e6:8.1f} MB unpacked")


if __name__ == "__main__":
    main()
