"""Streams go on after a failed read, and never mix two files."""

from __future__ import annotations

import errno
import io
import tarfile

import pytest

import storage
from storage import reading
from tests.storage.flaky import Flaky, failing, put

DATA = bytes(range(256)) * 40


@pytest.mark.parametrize("every", [2, 3])
@pytest.mark.parametrize("error", [ConnectionResetError("reset"), TimeoutError(), OSError(errno.EIO, "io")])
def test_a_stream_survives_failures_all_along(every, error):
    put("flaky://bucket/a", DATA)
    Flaky.fail = staticmethod(lambda name, n: error if name == "fetch" and n % every == 0 else None)
    with storage.open_read("flaky://bucket/a") as f:
        assert f.read(100) == DATA[:100]
        f.seek(5000)
        assert f.read(1000) == DATA[5000:6000]
        f.seek(-10, 2)
        assert f.tell() == len(DATA) - 10
        assert f.read() == DATA[-10:]
        f.seek(0)
        assert f.read() == DATA
    assert storage.sha256("flaky://bucket/a") == __import__("hashlib").sha256(DATA).hexdigest()


def test_a_stream_that_is_cut_goes_on_behind_the_cut():
    put("flaky://bucket/a", DATA)
    Flaky.cut = 3
    with storage.open_read("flaky://bucket/a") as f:
        assert f.read() == DATA


def test_a_stream_that_ends_early_for_good_is_unavailable_and_no_end_of_file(monkeypatch):
    put("flaky://bucket/a", DATA)
    monkeypatch.setattr(
        "tests.storage.flaky._File._fetch_range", lambda self, start, end: DATA[start : min(end, 5000)]
    )
    with (
        storage.open_read("flaky://bucket/a") as f,
        pytest.raises(storage.Unavailable, match="ended at byte 5000"),
    ):
        f.read()


def test_a_file_that_was_replaced_while_it_was_read_is_no_mixture():
    put("flaky://bucket/a", DATA)
    with storage.open_read("flaky://bucket/a") as f:
        f.read(100)
        f.seek(9000)
        put("flaky://bucket/a", DATA[::-1])
        failing("fetch", 1, TimeoutError())
        with pytest.raises(storage.Changed, match="replaced"):
            f.read()


def test_a_failure_that_stays_is_raised_by_name():
    put("flaky://bucket/a", DATA)
    with storage.open_read("flaky://bucket/a") as f:
        failing("fetch", 99, TimeoutError("slow"))
        with pytest.raises(storage.Unavailable, match="flaky://bucket/a: TimeoutError: slow"):
            f.read()
        Flaky.fail = staticmethod(lambda name, n: None)
        f.seek(0)
        assert f.read() == DATA


def test_a_local_disk_that_hiccups(tmp_path, monkeypatch):
    (tmp_path / "a").write_bytes(DATA)
    plain, n = reading._Reader._read_once, [0]

    def sick(self, buffer):
        n[0] += 1
        if n[0] % 2:
            raise OSError(errno.EIO, "input/output error")
        return plain(self, buffer)

    monkeypatch.setattr(reading._Reader, "_read_once", sick)
    with storage.open_read(str(tmp_path / "a")) as f:
        f.seek(1000)
        assert f.read() == DATA[1000:]


def test_a_tar_is_read_through_failures():
    sink = io.BytesIO()
    with tarfile.open(fileobj=sink, mode="w") as tar:
        for i in range(20):
            info = tarfile.TarInfo(f"{i}.jpg")
            info.size = 700
            tar.addfile(info, io.BytesIO(bytes([i]) * 700))
    put("flaky://bucket/a.tar", sink.getvalue())
    Flaky.fail = staticmethod(lambda name, n: TimeoutError() if name == "fetch" and n % 4 == 1 else None)
    with storage.open_read("flaky://bucket/a.tar") as f, tarfile.open(fileobj=f, mode="r|") as tar:
        assert [tar.extractfile(m).read() for m in tar] == [bytes([i]) * 700 for i in range(20)]


def test_two_readers_of_one_file_in_memory_have_two_positions():
    storage.write_bytes("memory://readers/a", b"0123456789")
    first, second = storage.open_read("memory://readers/a"), storage.open_read("memory://readers/a")
    assert (first.read(3), second.read(5), first.read(2)) == (b"012", b"01234", b"34")


def test_folders_and_missing_files_are_not_opened(tmp_path):
    with pytest.raises(IsADirectoryError):
        storage.open_read(str(tmp_path))
    for url in (str(tmp_path / "x"), "memory://x/y", "flaky://bucket/x"):
        with pytest.raises(FileNotFoundError):
            storage.open_read(url)
