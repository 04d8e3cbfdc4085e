"""A web server on loopback that serves a folder, and refuses what it is told to refuse."""

from __future__ import annotations

import contextlib
import functools
import http.server
import re
import shutil
import ssl
import subprocess
import threading
from collections.abc import Iterator
from pathlib import Path

import pytest


class Web(http.server.ThreadingHTTPServer):
    """refuse: a pattern, and the status that paths get in which it is found. asked: "GET /path" of every request."""

    daemon_threads = True
    refuse: tuple[str, int] | None = None

    def __init__(self, folder: Path):
        super().__init__(("127.0.0.1", 0), functools.partial(_Handler, directory=str(folder)))
        self.asked: list[str] = []

    @property
    def url(self) -> str:
        return f"http://127.0.0.1:{self.server_address[1]}"

    def handle_error(self, request: object, client_address: object) -> None:
        pass  # clients that go away, which is what some tests are about


class _Handler(http.server.SimpleHTTPRequestHandler):
    server: Web

    def do_GET(self) -> None:
        if not self._refused():
            super().do_GET()

    def do_HEAD(self) -> None:
        if not self._refused():
            super().do_HEAD()

    def _refused(self) -> bool:
        self.server.asked.append(f"{self.command} {self.path}")
        if self.server.refuse is None or not re.search(self.server.refuse[0], self.path):
            return False
        self.send_response(self.server.refuse[1])
        self.send_header("Content-Length", "0")
        self.end_headers()
        return True

    def log_message(self, *_: object) -> None:
        pass


@contextlib.contextmanager
def serving(folder: Path, certificate: tuple[str, str] | None = None) -> Iterator[Web]:
    """A server of `folder`. certificate: files of a certificate and its key, for https."""
    server = Web(folder)
    if certificate:
        context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
        context.load_cert_chain(*certificate)
        server.socket = context.wrap_socket(server.socket, server_side=True)
    thread = threading.Thread(target=server.serve_forever, args=(0.02,), daemon=True)
    thread.start()
    try:
        yield server
    finally:
        server.shutdown()
        server.server_close()
        thread.join()


def self_signed(folder: Path) -> tuple[str, str]:
    """A certificate for localhost that nobody trusts, and its key."""
    if shutil.which("openssl") is None:
        pytest.skip("openssl is not installed")
    certificate, key = str(folder / "certificate.pem"), str(folder / "key.pem")
    command = [
        "openssl",
        "req",
        "-x509",
        "-newkey",
        "rsa:2048",
        "-nodes",
        "-days",
        "2",
        "-subj",
        "/CN=localhost",
    ]
    command += ["-addext", "subjectAltName=DNS:localhost", "-keyout", key, "-out", certificate]
    subprocess.run(command, check=True, capture_output=True)
    return certificate, key
