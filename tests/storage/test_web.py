"""What a web server answers: nothing there, not now, or no; and what a server that cannot be asked says."""

from __future__ import annotations

import socket
from collections.abc import Callable, Iterator
from multiprocessing import Pipe
from pathlib import Path
from typing import Any

import pytest

import storage
from tests.web import Web, self_signed, serving

pytest.importorskip("aiohttp", reason="aiohttp is not installed")

ASK: dict[str, Callable[[str], Any]] = {
    "stat": storage.stat,
    "exists": storage.exists,
    "is_folder": storage.is_folder,
    "read_bytes": storage.read_bytes,
    "range": lambda url: storage.read_bytes(url, 0, 2),
    "open_read": lambda url: storage.open_read(url).read(),
    "entries": storage.entries,
    "tree": storage.tree,
    "read_table": storage.read_table,
    "sizes": lambda url: storage.sizes(url.partition("?")[0], ["1"]),
}
SECRET = "?token=SECRET"


@pytest.fixture(scope="module")
def certificate(tmp_path_factory: pytest.TempPathFactory) -> tuple[str, str]:
    return self_signed(tmp_path_factory.mktemp("certificate"))


@pytest.fixture(scope="module")
def web(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Web]:
    folder = tmp_path_factory.mktemp("web")
    (folder / "a").write_bytes(b"0123")
    with serving(folder) as server:
        yield server


@pytest.mark.parametrize("ask", ASK)
@pytest.mark.parametrize("status", [400, 401, 403, 405, 407, 414, 451, 501])
def test_a_refusal_names_status_and_address_and_is_asked_again_once_at_most(web: Web, status: int, ask: str):
    web.refuse = ("", status)
    web.asked.clear()
    with pytest.raises(
        storage.Refusal, match=rf"^{web.url}/a(/1)?: the server answers {status} [A-Z]"
    ) as raised:
        ASK[ask](web.url.replace("//", "//user:SECRET@") + "/a" + SECRET)
    assert not isinstance(raised.value, (FileNotFoundError, ValueError))
    assert "SECRET" not in str(raised.value)
    assert raised.value.__suppress_context__
    assert raised.value.__cause__ is None  # the library's message has the whole address
    assert len([line for line in web.asked if line.startswith("GET")]) == (2 if status in (401, 403) else 1)
    here, there = Pipe()
    here.send(raised.value)  # workers send it home
    assert str(there.recv()) == str(raised.value)


@pytest.mark.parametrize("status", [404, 410])
def test_nothing_there_is_an_answer(web: Web, status: int):
    web.refuse = ("", status)
    assert not storage.exists(f"{web.url}/a")
    assert storage.entries(f"{web.url}/a") == {}
    for ask in ("stat", "read_bytes", "range", "open_read"):
        with pytest.raises(FileNotFoundError, match=f"no such file: '{web.url}/a'"):
            ASK[ask](f"{web.url}/a")


@pytest.mark.parametrize("status", [408, 425, 429, 500, 503])
def test_not_now_is_tried_again_and_says_the_status(web: Web, status: int):
    web.refuse = ("", status)
    for ask in ("stat", "read_bytes"):
        web.asked.clear()
        with pytest.raises(storage.Unavailable, match=rf"/a: .*{status}.* \(6 attempts\)$") as raised:
            ASK[ask](f"{web.url}/a")
        assert not isinstance(raised.value, storage.Refusal)
        assert len([line for line in web.asked if line.startswith("GET")]) == 6


@pytest.mark.parametrize("ask", [name for name in ASK if name != "sizes"])
def test_a_certificate_that_nobody_trusts_is_no_absence(
    tmp_path: Path, certificate: tuple[str, str], ask: str
):
    (tmp_path / "a").write_bytes(b"0123")
    with serving(tmp_path, certificate) as server:
        url = f"https://localhost:{server.server_address[1]}/a"
        with pytest.raises(
            storage.Refusal, match=f"^{url}: the server's certificate is not trusted: self-signed"
        ):
            ASK[ask](url + SECRET)


@pytest.mark.parametrize("ask", ["stat", "read_bytes", "entries"])
def test_a_server_that_cannot_be_asked_is_said_so(web: Web, ask: str):
    """Nobody listens, no such host, no TLS spoken."""
    with socket.socket() as closed:
        closed.bind(("127.0.0.1", 0))
        port = closed.getsockname()[1]
    web.refuse = None
    for url, why in (
        (f"http://127.0.0.1:{port}/a", "Cannot connect to host 127.0.0.1"),
        ("http://no-such-host.invalid/a", "Cannot connect to host no-such-host.invalid"),
        (web.url.replace("http:", "https:") + "/a", "SSL"),
    ):
        with pytest.raises(storage.Unavailable, match=rf"^{url}: .*{why}.* \(6 attempts\)$"):
            ASK[ask](url + SECRET)


@pytest.mark.parametrize("ask", ["stat", "exists", "read_bytes", "entries"])
def test_an_address_that_is_none_is_a_wrong_setting(ask: str):
    with pytest.raises(ValueError, match=r"^http://127\.0\.0\.1:99999999/a: .*[Pp]ort"):
        ASK[ask]("http://127.0.0.1:99999999/a" + SECRET)


def test_a_file_that_ends_before_a_range_is_no_refusal(web: Web, monkeypatch: pytest.MonkeyPatch):
    """416 is what servers say to a range behind the end."""
    handler = web.RequestHandlerClass.func  # type: ignore[attr-defined]

    def ranged(self: Any) -> None:
        self.send_response(416 if self.headers.get("Range") else 200)
        self.send_header("Content-Length", "0" if self.headers.get("Range") else "4")
        self.end_headers()

    monkeypatch.setattr(handler, "do_GET", ranged)
    monkeypatch.setattr(handler, "do_HEAD", ranged)
    with pytest.raises(storage.ShortRead, match="ends before byte 9"):
        storage.read_bytes(f"{web.url}/a", 5, 9)


def test_the_signed_address_that_a_server_sends_on_to_is_in_no_message(
    web: Web, monkeypatch: pytest.MonkeyPatch
):
    handler = web.RequestHandlerClass.func  # type: ignore[attr-defined]

    def sent_on(self: Any) -> None:
        self.send_response(403 if "sig" in self.path else 302)
        self.send_header("Location", "/b?sig=SECRET")
        self.send_header("Content-Length", "0")
        self.end_headers()

    monkeypatch.setattr(handler, "do_GET", sent_on)
    with pytest.raises(storage.Refusal, match="/a: the server answers 403 Forbidden") as raised:
        storage.read_bytes(f"{web.url}/a")
    assert raised.value.__cause__ is None
