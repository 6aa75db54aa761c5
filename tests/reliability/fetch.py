"""A slow server of one file on this machine over https, and a download from it through the kit's own code.

Run as a module it downloads to `fetched/`, from a server in a process of its own that dies with it or by its time.
"""

from __future__ import annotations

import hashlib
import os
import re
import shutil
import ssl
import subprocess
import sys
import threading
import time
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path

SIZE, PIECE, PAUSE = 3 << 20, 1 << 16, 0.02


def content() -> bytes:
    return b"".join(hashlib.sha256(str(n).encode()).digest() for n in range(SIZE // 32))


class _Handler(BaseHTTPRequestHandler):
    def do_GET(self) -> None:
        match = re.fullmatch(r"bytes=(\d+)-", self.headers.get("Range", ""))
        start, data = int(match[1]) if match else 0, content()
        if match and start >= SIZE:
            self.send_error(416)
            return
        self.send_response(206 if match else 200)
        self.send_header("Content-Length", str(SIZE - start))
        if match:
            self.send_header("Content-Range", f"bytes {start}-{SIZE - 1}/{SIZE}")
        self.end_headers()
        for place in range(start, SIZE, PIECE):
            self.wfile.write(data[place : place + PIECE])
            time.sleep(PAUSE)

    def log_message(self, *_: object) -> None:
        pass


def serve(certificate: Path) -> ThreadingHTTPServer:
    """On a free port of 127.0.0.1, in a thread."""
    server = ThreadingHTTPServer(("127.0.0.1", 0), _Handler)
    server.daemon_threads = True
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
    context.load_cert_chain(certificate)
    server.socket = context.wrap_socket(server.socket, server_side=True)
    threading.Thread(target=server.serve_forever, daemon=True).start()
    return server


def certificate(folder: Path) -> Path:
    """Of this machine for itself, with its key, for a day."""
    path = folder / "certificate.pem"
    if not path.exists():
        command = (
            "openssl req -x509 -newkey rsa:2048 -nodes -days 1 -subj /CN=localhost -addext subjectAltName=IP:127.0.0.1"
        )
        made = folder / f"{os.getpid()}.pem"
        subprocess.run([*command.split(), "-keyout", made, "-out", f"{made}.crt"], check=True, capture_output=True)
        made.write_bytes(made.read_bytes() + Path(f"{made}.crt").read_bytes())
        made.replace(path)
    return path


def main() -> None:
    trusted = certificate(Path())
    os.environ["SSL_CERT_FILE"] = str(trusted)
    server = serve(trusted)
    from avs.core.weights import fetch

    digest = hashlib.sha256(content()).hexdigest()
    path = fetch(f"https://127.0.0.1:{server.server_port}/weights.bin#sha256={digest}")
    Path("fetched").mkdir(exist_ok=True)
    shutil.copyfile(path, "fetched/weights.bin")


if __name__ == "__main__":
    sys.exit(main())
