"""Errors of the infrastructure are tried again, definite answers are not, and no secret is in a message."""

from __future__ import annotations

import asyncio
import errno
import http.client
import logging
import random
import ssl
from multiprocessing import Pipe

import pytest

import storage
from storage.verdicts import Verdict, verdict
from tests.storage.flaky import Flaky, failing, put


class _Answer(Exception):
    def __init__(self, **fields):
        super().__init__("an answer")
        self.__dict__.update(fields)


def _boto(status, code=""):
    return _Answer(response={"Error": {"Code": code}, "ResponseMetadata": {"HTTPStatusCode": status}})


def _caused(error, cause):
    error.__cause__ = cause
    return error


def _while_handling(error, handled):
    """`error`, raised while `handled` was being handled."""
    error.__context__ = handled
    return error


def _of_library(module, **fields):
    error = type("SomeError", (Exception,), {"__module__": module})("failed")
    error.__dict__.update(fields)
    return error


AGAIN = [
    TimeoutError("read timed out"),
    asyncio.TimeoutError(),
    ConnectionResetError("503 Slow Down (once)"),
    BrokenPipeError(),
    BlockingIOError(),
    InterruptedError(),
    http.client.IncompleteRead(b""),
    OSError(errno.EIO, "input/output error"),
    OSError(errno.ESTALE, "stale file handle"),
    OSError(errno.EBUSY, "SlowDown"),
    OSError(errno.EMFILE, "too many open files"),
    OSError("no number: some library's"),
    _while_handling(IndexError("tuple index out of range"), ConnectionResetError()),
    _while_handling(AttributeError("'NoneType' ..."), OSError("no number")),
    _Answer(status=503),
    _Answer(status=429),
    _Answer(code=500),
    _Answer(code="502"),
    _Answer(status_code=408),
    _boto(503, "SlowDown"),
    _boto(400, "RequestTimeout"),
    _boto(400, "400"),  # HEAD
    _boto(400, "IncompleteBody"),
    _caused(OSError(errno.EINVAL, "incomplete body"), _boto(400, "IncompleteBody")),
    _caused(FileNotFoundError("https://h/x"), _Answer(status=503)),
    _caused(FileNotFoundError("https://h/x"), TimeoutError()),
    _of_library("aiohttp.client_exceptions"),
    _caused(_of_library("aiohttp"), _of_library("aiohttp.http_exceptions", code=400)),  # a body that was cut
    _of_library("botocore.exceptions"),
    _of_library("google.auth.exceptions"),
    _of_library("httpx"),
]
FINAL = [
    IsADirectoryError(),
    NotADirectoryError(),
    FileExistsError(),
    ValueError("a bad argument"),
    KeyError("x"),
    TypeError(),
    OSError(errno.ENOSPC, "no space left"),
    OSError(errno.EROFS, "read-only"),
    OSError(errno.ENAMETOOLONG, "name too long"),
    _caused(FileExistsError(), _boto(412, "PreconditionFailed")),
    storage.Unavailable("tried enough"),
    storage.ShortRead("ends early"),
]
REFUSED = [
    ssl.SSLCertVerificationError("self-signed"),
    OSError("[SSL: CERTIFICATE_VERIFY_FAILED] certificate verify failed"),  # requests' SSLError
    _caused(FileNotFoundError("https://h/x"), ssl.SSLCertVerificationError("self-signed")),
    _caused(FileNotFoundError("https://h/x"), _of_library("aiohttp.client_exceptions", status=451)),
    _of_library("aiohttp.client_exceptions", status=400),
    _of_library("aiohttp.client_exceptions", status=416),
]


@pytest.mark.parametrize("error", AGAIN, ids=lambda e: f"{type(e).__name__}")
def test_an_error_of_the_infrastructure_is_tried_again(error):
    failing("cat_file", 2, error)
    put("flaky://bucket/a", b"123")
    assert storage.read_bytes("flaky://bucket/a") == b"123"
    assert Flaky.calls.count("cat_file") == 3


@pytest.mark.parametrize("error", AGAIN, ids=lambda e: f"{type(e).__name__}")
def test_one_that_stays_is_unavailable_and_no_answer(error):
    failing("cat_file", 99, error)
    with pytest.raises(storage.Unavailable, match=r"^flaky://bucket/a: .* \(6 attempts\)$") as raised:
        storage.read_bytes("flaky://bucket/a")
    assert not isinstance(raised.value, (FileNotFoundError, ValueError))
    assert "\n" not in str(raised.value)
    assert Flaky.calls.count("cat_file") == 6
    here, there = Pipe()
    here.send(storage.Unavailable("x"))  # workers send it home
    assert str(there.recv()) == "x"


@pytest.mark.parametrize("error", FINAL, ids=lambda e: f"{type(e).__name__}")
def test_a_definite_answer_is_raised_at_once(error):
    failing("cat_file", 99, error)
    with pytest.raises(type(error)):
        storage.read_bytes("flaky://bucket/a")
    assert Flaky.calls.count("cat_file") == 1


@pytest.mark.parametrize("error", REFUSED, ids=lambda e: f"{type(e).__name__}")
def test_a_refusal_for_good_is_raised_at_once(error):
    failing("cat_file", 99, error)
    with pytest.raises(storage.Refusal, match=r"^flaky://bucket/a: the server"):
        storage.read_bytes("flaky://bucket/a")
    assert Flaky.calls.count("cat_file") == 1


@pytest.mark.parametrize("error", [PermissionError("ExpiredToken"), _Answer(status=403), _boto(401)], ids=str)
def test_a_refusal_is_tried_once_more(error):
    put("flaky://bucket/a", b"123")
    failing("cat_file", 1, error)
    assert storage.read_bytes("flaky://bucket/a") == b"123"
    failing("cat_file", 99, error)
    with pytest.raises(storage.Refusal):
        storage.read_bytes("flaky://bucket/a")
    assert Flaky.calls.count("cat_file") == 2


def test_that_a_file_is_missing_is_asked_twice():
    put("flaky://bucket/a", b"123")
    failing("cat_file", 1, FileNotFoundError("from an old listing"))
    assert storage.read_bytes("flaky://bucket/a") == b"123"
    failing("cat_file", 99, FileNotFoundError("gone"))
    with pytest.raises(FileNotFoundError, match="flaky://bucket/a"):
        storage.read_bytes("flaky://bucket/a")
    assert Flaky.calls.count("cat_file") == 2
    assert verdict(FileNotFoundError()) is Verdict.MISSING


@pytest.mark.parametrize("call", ["info", "ls", "cat_file", "rm_file", "open", "fetch", "upload"])
def test_every_operation_survives_two_failures(call):
    put("flaky://bucket/d/a", b"0123456789" * 10)

    def after(operation):
        failing(call, 2, ConnectionResetError("reset"))
        result = operation()
        Flaky.fail = staticmethod(lambda name, n: None)
        return result

    assert after(lambda: storage.exists("flaky://bucket/d/a"))
    assert after(lambda: storage.size("flaky://bucket/d/a")) == 100
    assert after(lambda: storage.listing("flaky://bucket/d")) == {"a": 100}
    assert after(lambda: storage.tree("flaky://bucket")) == {"d/a": 100}
    assert after(lambda: storage.expand(["flaky://bucket/*/a"])) == ["flaky://bucket/d/a"]
    assert after(lambda: storage.read_bytes("flaky://bucket/d/a", 10, 20)) == b"0123456789"
    assert after(lambda: storage.open_read("flaky://bucket/d/a").read()) == b"0123456789" * 10
    after(lambda: storage.write_bytes("flaky://bucket/d/b", b"1" * 99))
    assert Flaky.store["bucket/d/b"][0] == b"1" * 99
    assert after(lambda: storage.write_new("flaky://bucket/d/c", b"1"))

    def write():
        with storage.atomic_write("flaky://bucket/d/e") as f:
            f.write(b"2" * 99)

    after(write)
    assert Flaky.store["bucket/d/e"][0] == b"2" * 99
    after(lambda: storage.remove("flaky://bucket/d/b"))
    assert "bucket/d/b" not in Flaky.store


def test_no_failure_is_taken_for_an_absence():
    put("flaky://bucket/d/a", b"1")
    for call, ask in (
        ("info", lambda: storage.exists("flaky://bucket/d/a")),
        ("ls", lambda: storage.listing("flaky://bucket/d")),
        ("ls", lambda: storage.expand(["flaky://bucket/d/*"])),
        ("ls", lambda: storage.tree("flaky://bucket/d")),
    ):
        failing(call, 99, OSError(errno.EIO, "down"))
        with pytest.raises(storage.Unavailable):
            ask()


def test_no_failure_on_a_local_disk_is_taken_for_an_absence(tmp_path, monkeypatch):
    (tmp_path / "a").write_text("1")
    plain, calls = storage.files.os.stat, []

    def sick(path, *rest, **options):
        if str(path) == str(tmp_path / "a"):
            calls.append(path)
            if len(calls) < 3:
                raise OSError(errno.ESTALE, "stale file handle")
        return plain(path, *rest, **options)

    monkeypatch.setattr(storage.files.os, "stat", sick)
    assert storage.exists(str(tmp_path / "a"))
    assert len(calls) == 3


def test_pauses_grow_and_leave_seeded_generators_alone(monkeypatch):
    slept = []
    monkeypatch.setattr(storage.retries.time, "sleep", slept.append)
    monkeypatch.setattr(storage.RETRIES, "base_s", 1.0)
    monkeypatch.setattr(storage.RETRIES, "longest_s", 6.0)
    failing("cat_file", 99, TimeoutError())
    random.seed(0)
    first = random.random()
    random.seed(0)
    with pytest.raises(storage.Unavailable):
        storage.read_bytes("flaky://bucket/a")
    assert random.random() == first
    assert [0.5 * x <= s <= x for s, x in zip(slept, [1, 2, 4, 6, 6], strict=True)] == [True] * 5


def test_no_secret_is_in_a_message_or_a_log(caplog):
    url = "flaky://user:SECRET@bucket/a.jpg?X-Amz-Signature=SECRET"
    for error in (
        TimeoutError(f"GET {url}"),
        PermissionError(url),
        FileNotFoundError(url),
        IsADirectoryError(url),
    ):
        failing("cat_file", 99, error)
        with (
            caplog.at_level(logging.DEBUG, "storage"),
            pytest.raises(OSError, match=r"flaky://bucket/a\.jpg") as raised,
        ):
            storage.read_bytes(url)
        assert isinstance(raised.value, (type(error), storage.Unavailable))
        while raised is not None:
            shown = raised.value if hasattr(raised, "value") else raised
            assert "SECRET" not in str(shown)
            raised = None if shown.__suppress_context__ else shown.__cause__
    assert "SECRET" not in caplog.text
    assert "tried again" in caplog.text


def test_an_interrupt_is_no_error_to_try_again():
    failing("cat_file", 1, KeyboardInterrupt())
    with pytest.raises(KeyboardInterrupt):
        storage.read_bytes("flaky://bucket/a")
