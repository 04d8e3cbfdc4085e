"""A proxy in front of an S3 server that fails at random, from a seed, as object stores do."""

from __future__ import annotations

import http.client
import http.server
import random
import threading
import time
from collections import Counter
from urllib.parse import urlsplit

_ERRORS = {
    "500": (500, "InternalError"),
    "503": (503, "SlowDown"),
    "429": (429, "TooManyRequests"),
    "timeout_400": (400, "RequestTimeout"),
}
#: No request fails more often than this in a row: the storage layer tries six times.
MOST_IN_A_ROW = 3
STALL_S = 1.5


class FaultyS3:
    """Passes requests on to `upstream` and fails a share of them: 500, 503, 429, RequestTimeout, an answer that never
    comes, a body that is cut, a connection that is dropped before, or after, the request was carried out.

    `injected`: kind -> how often; `requests`: (method, kind of object) -> how often, faults included.
    """

    def __init__(self, upstream: str, seed: int = 0, share: float = 0.25, stall_share: float = 0.01):
        self.injected: Counter[str] = Counter()
        self.requests: Counter[str] = Counter()
        self._upstream = urlsplit(upstream)
        self._random = random.Random(seed)
        self._share, self._stall_share = share, stall_share
        self._row: Counter[str] = Counter()
        self._lock = threading.Lock()
        proxy = self

        class Handler(_Handler):
            owner = proxy

        self._server = http.server.ThreadingHTTPServer(("127.0.0.1", 0), Handler)
        self._server.daemon_threads = True
        threading.Thread(target=self._server.serve_forever, daemon=True).start()
        self.url = f"http://127.0.0.1:{self._server.server_port}"

    def fault(self, method: str, path: str) -> str:
        """What befalls the next request; "" for nothing."""
        with self._lock:
            self.requests[f"{method} {_what(path)}"] += 1
            key = f"{method} {path}"
            chosen = ""
            if self._row[key] < MOST_IN_A_ROW:
                if self._random.random() < self._stall_share:
                    chosen = "stall"
                elif self._random.random() < self._share:
                    chosen = self._random.choice([*_ERRORS, "cut", "drop", "lost_answer"])
            if chosen == "cut" and method != "GET":
                chosen = "lost_answer"
            self._row[key] = self._row[key] + 1 if chosen else 0
            if chosen:
                self.injected[chosen] += 1
            return chosen

    def passed_on(
        self, method: str, path: str, body: bytes, headers: dict[str, str]
    ) -> tuple[int, list, bytes]:
        connection = http.client.HTTPConnection(
            self._upstream.hostname or "", self._upstream.port, timeout=60
        )
        try:
            connection.putrequest(method, path, skip_host=True, skip_accept_encoding=True)
            for key, value in headers.items():
                connection.putheader(key, value)
            connection.putheader("Content-Length", str(len(body)))
            connection.endheaders(body or None)
            answer = connection.getresponse()
            return answer.status, answer.getheaders(), answer.read()
        finally:
            connection.close()

    def close(self) -> None:
        self._server.shutdown()
        self._server.server_close()


def _what(path: str) -> str:
    """The kind of object that a request is about."""
    parts = urlsplit(path).path.strip("/").split("/")
    if "list-type" in path or len(parts) < 2:
        return "listing"
    return (
        parts[-2]
        if len(parts) > 2 and not parts[-1].startswith(".claim")
        else ".claim"
        if ".claim" in path
        else parts[-1]
    )


class _Handler(http.server.BaseHTTPRequestHandler):
    protocol_version = "HTTP/1.1"
    owner: FaultyS3

    def _serve(self) -> None:
        body = self._body()
        kind = self.owner.fault(self.command, self.path)
        if kind in _ERRORS:
            status, code = _ERRORS[kind]
            text = f"<?xml version='1.0'?><Error><Code>{code}</Code><Message>injected</Message></Error>"
            return self._answer(status, [("Content-Type", "application/xml")], text.encode())
        if kind == "stall":
            time.sleep(STALL_S)
        if kind in ("stall", "drop"):
            return self._hang_up()
        gone = ("connection", "transfer-encoding", "content-length", "expect")
        headers = {k: v for k, v in self.headers.items() if k.lower() not in gone}
        answer = self.owner.passed_on(self.command, self.path, body, headers)
        if kind == "lost_answer":
            return self._hang_up()
        self._answer(*answer, cut=kind == "cut")

    def _hang_up(self) -> None:
        self.close_connection = True
        self.connection.close()

    def _body(self) -> bytes:
        if self.headers.get("Expect", "").lower() == "100-continue":
            pass  # the base class has answered it
        if "chunked" not in self.headers.get("Transfer-Encoding", ""):
            return self.rfile.read(int(self.headers.get("Content-Length") or 0))
        body = b""
        while n := int(self.rfile.readline().split(b";")[0], 16):
            body += self.rfile.read(n)
            self.rfile.readline()
        self.rfile.readline()
        return body

    def _answer(self, status: int, headers: list[tuple[str, str]], data: bytes, cut: bool = False) -> None:
        self.send_response_only(status)
        length = len(data)
        for key, value in headers:
            if key.lower() == "content-length" and self.command == "HEAD":
                length = int(value)
            elif key.lower() not in ("connection", "transfer-encoding", "content-length"):
                self.send_header(key, value)
        self.send_header("Content-Length", str(length))
        self.end_headers()
        if self.command != "HEAD":
            self.wfile.write(data[: len(data) // 2] if cut else data)
        if cut:
            self.close_connection = True

    do_GET = do_PUT = do_HEAD = do_POST = do_DELETE = _serve

    def log_message(self, *_: object) -> None:
        pass
