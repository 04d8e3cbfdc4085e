"""S3 by its real protocol, from a server on loopback: other programs' writes, markers, ranges, conditions, faults."""

from __future__ import annotations

import gc
import http.server
import json
import subprocess
import sys
import threading
import urllib.request

import pytest

import storage
from storage.processes import machine

URL = "s3://bucket/pairs"


@pytest.fixture(autouse=True)
def _server(s3):
    return s3


def test_what_another_program_wrote_after_a_listing_is_there(s3):
    s3.put_object(Bucket="bucket", Key="pairs/a.jpg", Body=b"x")
    assert storage.listing(URL) == {"a.jpg": 1}
    assert not storage.exists(f"{URL}/b.jpg")
    s3.put_object(Bucket="bucket", Key="pairs/b.jpg", Body=b"yy")
    s3.put_object(Bucket="bucket", Key="pairs/a.jpg", Body=b"x" * 1000)
    assert storage.exists(f"{URL}/b.jpg")
    assert storage.read_bytes(f"{URL}/b.jpg") == b"yy"
    assert storage.listing(URL) == {"a.jpg": 1000, "b.jpg": 2}
    assert storage.tree("s3://bucket") == {"pairs/a.jpg": 1000, "pairs/b.jpg": 2}
    assert storage.size(f"{URL}/a.jpg") == 1000
    with storage.open_read(f"{URL}/a.jpg") as f:
        assert len(f.read()) == 1000
    assert storage.expand([f"{URL}/*.jpg"]) == [f"{URL}/a.jpg", f"{URL}/b.jpg"]
    s3.delete_object(Bucket="bucket", Key="pairs/b.jpg")
    assert not storage.exists(f"{URL}/b.jpg")
    with pytest.raises(FileNotFoundError, match=r"s3://bucket/pairs/b\.jpg"):
        storage.read_bytes(f"{URL}/b.jpg")


def test_what_another_process_wrote_is_there():
    """The story of a resumed build: the driver lists, workers write, the driver lists again."""
    storage.write_bytes(f"{URL}/manifest/0.json", b"{}")
    assert storage.listing(f"{URL}/manifest") == {"0.json": 2}
    program = (
        f"import storage\nfor i in range(1, 4): storage.write_bytes(f'{URL}/manifest/{{i}}.json', b'{{}}')"
    )
    subprocess.run([sys.executable, "-c", program], check=True)
    assert sorted(storage.listing(f"{URL}/manifest")) == ["0.json", "1.json", "2.json", "3.json"]
    assert storage.read_bytes(f"{URL}/manifest/3.json") == b"{}"


def test_folders_made_in_a_console_are_no_files(s3):
    s3.put_object(Bucket="bucket", Key="pairs/", Body=b"")
    assert storage.listing(URL) == {}
    assert storage.tree(URL) == {}
    assert storage.exists(URL)
    s3.put_object(Bucket="bucket", Key="pairs/sub/", Body=b"")
    s3.put_object(Bucket="bucket", Key="pairs/sub/a.jpg", Body=b"x")
    s3.put_object(Bucket="bucket", Key="pairs/old_$folder$", Body=b"")
    s3.put_object(Bucket="bucket", Key="pairs/empty.txt", Body=b"")
    assert storage.listing(URL) == {"empty.txt": 0}
    assert storage.tree(URL) == {"empty.txt": 0, "sub/a.jpg": 1}
    assert storage.children(URL)[1] == ["sub"]


def test_ranges(s3):
    s3.put_object(Bucket="bucket", Key="pairs/t.tar", Body=b"A" * 5000)
    assert storage.read_bytes(f"{URL}/t.tar", 1024, 1024) == b""
    assert len(storage.read_bytes(f"{URL}/t.tar", 1024, 2000)) == 976
    assert len(storage.read_bytes(f"{URL}/t.tar", 1024)) == 3976
    for start, end in ((4000, 5001), (5000, 5001), (9000, 9001)):
        with pytest.raises(storage.ShortRead):
            storage.read_bytes(f"{URL}/t.tar", start, end)


@pytest.mark.parametrize(
    "name", ["a b.jpg", "a#b.jpg", "a%20b.jpg", "a?b.jpg", "ü.jpg", "a[1].jpg", "a::b.jpg", "*.jpg"]
)
def test_any_name(s3, name):
    s3.put_object(Bucket="bucket", Key=f"pairs/{name}", Body=b"x")
    url = storage.inside(URL, name)
    assert storage.read_bytes(url) == b"x"
    assert storage.exists(url)
    assert storage.listing(URL) == {name: 1}
    assert storage.expand([url]) == [url]


def test_an_abandoned_upload_leaves_nothing(s3):

    def write():
        with storage.atomic_write(f"{URL}/cut") as f:
            f.write(b"x" * (12 << 20))
            raise KeyError("boom")

    with pytest.raises(KeyError):
        write()
    gc.collect()
    assert storage.tree("s3://bucket") == {}
    assert "Uploads" not in s3.list_multipart_uploads(Bucket="bucket")


def test_large_and_small_uploads(s3):
    with storage.atomic_write(f"{URL}/large") as f:
        f.write(b"x" * (12 << 20))
    storage.write_bytes(f"{URL}/small", b"y")
    storage.write_bytes(f"{URL}/empty", b"")
    assert storage.tree("s3://bucket") == {"pairs/empty": 0, "pairs/large": 12 << 20, "pairs/small": 1}
    assert s3.get_object(Bucket="bucket", Key="pairs/large")["Body"].read() == b"x" * (12 << 20)


def test_a_new_object_is_written_once():
    assert storage.write_new(f"{URL}/a", b"first") is True
    assert storage.write_new(f"{URL}/a", b"second") is False
    assert storage.read_bytes(f"{URL}/a") == b"first"


def test_the_version_is_the_etag(s3):
    s3.put_object(Bucket="bucket", Key="pairs/a", Body=b"1")
    first = storage.stat(f"{URL}/a")
    assert first.version == "c4ca4238a0b923820dcc509a6f75849b"
    assert storage.entries(URL)["a"].version == first.version
    s3.put_object(Bucket="bucket", Key="pairs/a", Body=b"2")
    assert storage.stat(f"{URL}/a").version != first.version


def test_a_missing_bucket_is_no_folder():
    assert storage.listing("s3://no-such-bucket/x") == {}
    assert storage.tree("s3://no-such-bucket/x") == {}
    assert not storage.exists("s3://no-such-bucket/x")


_RACE = """
import sys, storage
print("ready", flush=True)
for line in sys.stdin:
    try:
        held = storage.Claim.acquire(line.strip(), {"program": "racer"})
        print("won", flush=True)
        sys.stdin.readline()
        held.check()
        held.release()
        print("released", flush=True)
    except storage.Claimed:
        print("refused", flush=True)
"""


def test_of_two_processes_one_gets_the_claim_and_a_dead_ones_is_taken_over():
    dead = {"token": "t" * 32, "pid": 1}
    racers = [
        subprocess.Popen(
            [sys.executable, "-c", _RACE], stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True
        )
        for _ in range(2)
    ]
    assert [r.stdout.readline().strip() for r in racers] == ["ready", "ready"]
    for i in range(2):
        if i % 2:
            document = {**dead, "machine": machine(), "pid": 2**22 + 1, "pid_started": "1"}
            storage.write_bytes(f"{URL}/{i}/.claim.json", json.dumps(document).encode())
        for racer in racers:
            racer.stdin.write(f"{URL}/{i}\n")
            racer.stdin.flush()
        said = [racer.stdout.readline().strip() for racer in racers]
        assert sorted(said) == ["refused", "won"], f"round {i}"
        winner = racers[said.index("won")]
        winner.stdin.write("release\n")
        winner.stdin.flush()
        assert winner.stdout.readline().strip() == "released"
        assert storage.tree(f"{URL}/{i}") == {}
    for racer in racers:
        racer.stdin.close()
        racer.wait(10)
        racer.stdout.close()


class _Faults(http.server.BaseHTTPRequestHandler):
    """Passes requests on to the S3 server, and answers every third one with a fault."""

    protocol_version = "HTTP/1.1"
    upstream = ""
    n = 0
    injected: dict[str, int] = {}  # noqa: RUF012
    lock = threading.Lock()

    def _pass(self):
        body = self._body()
        with self.lock:
            _Faults.n += 1
            kind = ("500", "503", "cut", "drop")[(_Faults.n // 3) % 4] if _Faults.n % 3 == 0 else ""
            if kind == "cut" and self.command != "GET":
                kind = "503"
            if kind:
                self.injected[kind] = self.injected.get(kind, 0) + 1
        if kind in ("500", "503"):
            code = {"500": "InternalError", "503": "SlowDown"}[kind]
            text = (
                f"<?xml version='1.0'?><Error><Code>{code}</Code><Message>injected</Message></Error>".encode()
            )
            self._answer(int(kind), {"Content-Type": "application/xml"}, text)
            return
        if kind == "drop":
            self.close_connection = True
            self.connection.close()
            return
        headers = {
            k: v for k, v in self.headers.items() if k.lower() not in ("connection", "transfer-encoding")
        }
        headers.setdefault("Content-Type", "application/octet-stream")  # else urllib says that it is a form
        request = urllib.request.Request(
            self.upstream + self.path, data=body or None, headers=headers, method=self.command
        )
        try:
            with urllib.request.urlopen(request) as answer:
                status, fields, data = answer.status, answer.headers, answer.read()
        except urllib.error.HTTPError as answer:
            status, fields, data = answer.code, answer.headers, answer.read()
        kept = {
            k: v
            for k, v in fields.items()
            if k.lower() not in ("connection", "transfer-encoding", "server", "date")
        }
        self._answer(status, kept, data, cut=kind == "cut")

    def _body(self):
        if "chunked" not in self.headers.get("Transfer-Encoding", ""):
            return self.rfile.read(int(self.headers.get("Content-Length") or 0))
        body = b""
        while n := int(self.rfile.readline().split(b";")[0], 16):
            body += self.rfile.read(n)
            self.rfile.readline()
        self.rfile.readline()
        return body

    def _answer(self, status, headers, data, cut=False):
        self.send_response(status)
        for key, value in headers.items():
            if key.lower() != "content-length":
                self.send_header(key, value)
        length = headers.get("Content-Length", headers.get("content-length", len(data)))
        self.send_header("Content-Length", str(length if self.command == "HEAD" else len(data)))
        self.end_headers()
        if self.command != "HEAD":
            self.wfile.write(data[: len(data) // 2] if cut else data)
        if cut:
            self.close_connection = True

    do_GET = do_PUT = do_HEAD = do_POST = do_DELETE = _pass

    def log_message(self, *_):
        pass


@pytest.fixture
def faults(s3_server, monkeypatch):
    """The address of a server that fails every third request."""
    import s3fs

    _Faults.upstream, _Faults.n = s3_server, 0
    _Faults.injected.clear()
    server = http.server.ThreadingHTTPServer(("127.0.0.1", 0), _Faults)
    server.daemon_threads = True
    thread = threading.Thread(target=server.serve_forever, daemon=True)
    thread.start()
    monkeypatch.setenv("AWS_ENDPOINT_URL", f"http://127.0.0.1:{server.server_port}")
    monkeypatch.setenv("AWS_MAX_ATTEMPTS", "1")  # leave the work to us
    monkeypatch.setattr(s3fs.S3FileSystem, "retries", 1)
    s3fs.S3FileSystem.clear_instance_cache()
    yield _Faults.injected
    server.shutdown()
    server.server_close()
    s3fs.S3FileSystem.clear_instance_cache()


def test_a_store_that_fails_every_third_request_loses_and_replaces_nothing(faults):
    expected = {f"{i:03d}": bytes([i]) * (100 + i) for i in range(10)}
    for name, data in expected.items():
        storage.write_bytes(f"{URL}/{name}", data)
    assert storage.listing(URL) == {name: len(data) for name, data in expected.items()}
    for name, data in expected.items():
        assert storage.read_bytes(f"{URL}/{name}") == data
        assert storage.read_bytes(f"{URL}/{name}", 10, 90) == data[10:90]
        assert storage.open_read(f"{URL}/{name}").read() == data
        assert storage.exists(f"{URL}/{name}")
        assert not storage.exists(f"{URL}/{name}x")
        assert storage.write_new(f"{URL}/{name}", b"other") is False
        assert storage.write_new(f"{URL}/new/{name}", data) is True
    assert len(storage.tree(URL)) == 20
    with storage.Claim.acquire(URL, {"program": "x"}) as held:
        held.check()
    assert sum(faults.values()) > 30
    assert set(faults) == {"500", "503", "cut", "drop"}
