"""Files appear whole or not at all, and exclusively where asked for."""

from __future__ import annotations

import errno
import gc
import os
import signal
import subprocess
import sys
import threading
import time
from concurrent.futures import ThreadPoolExecutor

import pytest

import storage
from storage import atomic
from tests.storage.flaky import Flaky, failing, put

ROOTS = ["local", "memory://atomic", "flaky://bucket/atomic"]


@pytest.fixture(params=ROOTS)
def root(request, tmp_path):
    folder = str(tmp_path / "out") if request.param == "local" else request.param
    yield folder
    for name in storage.tree(folder):
        storage.remove(storage.join(folder, name))


def test_a_file_is_seen_whole_or_not_at_all(root):
    url = storage.join(root, "sub", "a")
    with storage.atomic_write(url) as f:
        f.write(b"12")
        f.flush()
        assert not storage.exists(url)
        f.seek(0)
        f.write(b"3")
    assert storage.read_bytes(url) == b"32"
    assert storage.tree(root) == {"sub/a": 2}
    storage.write_bytes(url, b"")
    assert storage.tree(root) == {"sub/a": 0}


@pytest.mark.parametrize("error", [ValueError("row 4 is bad"), KeyboardInterrupt(), SystemExit()])
@pytest.mark.parametrize("n_bytes", [0, 3, 1000])
def test_after_an_exception_nothing_is_published_ever(root, error, n_bytes):
    url = storage.join(root, "a")
    storage.write_bytes(url, b"the one before")

    def write():
        with storage.atomic_write(url) as f:
            f.write(b"x" * n_bytes)
            raise error

    with pytest.raises(type(error)):
        write()
    gc.collect()
    assert storage.tree(root) == {"a": 14}


def test_an_upload_that_fails_for_good_publishes_nothing_either():
    """`discard` of this store does nothing, and its files publish what they hold when they are collected."""
    failing("upload", 99, OSError(errno.ENOSPC, "no space left"))
    with pytest.raises(OSError, match="no space left"), storage.atomic_write("flaky://bucket/a") as f:
        f.write(b"x" * 1000)
    with pytest.raises(OSError, match="no space left"):
        storage.write_bytes("flaky://bucket/a", b"x" * 1000)
    Flaky.fail = staticmethod(lambda name, n: None)
    gc.collect()
    assert Flaky.store == {}


def test_an_upload_object_that_is_given_up_stays_given_up(flaky):
    upload = flaky().open("bucket/a", "wb")
    upload.write(b"half")
    atomic.abandon(upload)
    upload.close()
    del upload
    gc.collect()
    assert Flaky.store == {}


def test_a_rename_that_fails_leaves_the_old_file_and_no_temporary(tmp_path, monkeypatch):
    storage.write_bytes(str(tmp_path / "a"), b"old")

    def no(*_):
        raise OSError(errno.ENOSPC, "no space left")

    monkeypatch.setattr(os, "replace", no)
    with pytest.raises(OSError, match="no space left"):
        storage.write_bytes(str(tmp_path / "a"), b"new")
    assert storage.tree(str(tmp_path)) == {"a": 3}


def test_names_as_long_as_the_file_system_takes_them(tmp_path):
    for name in ("x" * 255, "ü" * 127):
        storage.write_bytes(str(tmp_path / name), b"1")
        assert storage.write_new(str(tmp_path / name), b"2") is False
        assert storage.read_bytes(str(tmp_path / name)) == b"1"
    for name in ("a" * 300, "ü" * 200):
        assert storage.temporary_name(name).startswith(storage.TEMPORARY)
        assert len(os.fsencode(storage.temporary_name(name))) <= 255


def test_a_new_file_is_written_once(root):
    url = storage.join(root, "sub", "a")
    assert storage.write_new(url, b"first") is True
    assert storage.write_new(url, b"second") is False
    assert storage.read_bytes(url) == b"first"
    assert storage.tree(root) == {"sub/a": 5}
    storage.remove(url)
    assert storage.write_new(url, b"third") is True


@pytest.mark.parametrize("root", ["local", "memory://race"])
def test_of_many_writers_of_a_new_file_one_succeeds(root, tmp_path):
    root = str(tmp_path) if root == "local" else root
    for i in range(20):
        url = storage.join(root, str(i))
        gate = threading.Barrier(8)

        def write(k, url=url, gate=gate):
            gate.wait()
            return storage.write_new(url, b"%d" % k)

        with ThreadPoolExecutor(8) as pool:
            won = list(pool.map(write, range(8)))
        assert sum(won) == 1
        assert storage.read_bytes(url) == b"%d" % won.index(True)


def test_file_systems_without_links_still_create_exclusively(tmp_path, monkeypatch):
    def no(*_):
        raise OSError(errno.EPERM, "no links here")

    monkeypatch.setattr(os, "link", no)
    assert storage.write_new(str(tmp_path / "a"), b"first") is True
    assert storage.write_new(str(tmp_path / "a"), b"second") is False
    assert storage.tree(str(tmp_path)) == {"a": 5}


def test_a_link_whose_answer_got_lost_counts_as_made(tmp_path, monkeypatch):
    plain = os.link

    def lossy(a, b):
        plain(a, b)
        raise FileExistsError(errno.EEXIST, "exists")  # what NFS says to the request sent again

    monkeypatch.setattr(os, "link", lossy)
    assert storage.write_new(str(tmp_path / "a"), b"first") is True


def test_a_creation_whose_answer_got_lost_is_recognised(monkeypatch):
    def lossy(url, data):
        if "a" in Flaky.calls:
            raise FileExistsError(url)
        Flaky.calls.append("a")
        put(url, data)
        raise TimeoutError

    monkeypatch.setattr(atomic, "_create", lossy)
    assert storage.write_new("flaky://bucket/a", b"mine") is True
    monkeypatch.setattr(Flaky, "calls", [])
    assert storage.write_new("flaky://bucket/b", b"mine") is True


def test_a_new_file_whose_temporary_was_swept_is_written_again(tmp_path, monkeypatch):
    """The owner of a claim sweeps while another program, stopped for a moment, is about to ask for the claim."""
    plain, swept = os.link, []

    def slow(source, target):
        if len(swept) < 2:
            swept.append(source)
            os.unlink(source)
        plain(source, target)

    monkeypatch.setattr(os, "link", slow)
    assert storage.write_new(str(tmp_path / "a"), b"mine") is True
    assert len(swept) == 2
    assert [p.name for p in tmp_path.iterdir()] == ["a"]


def test_a_clock_whose_probe_was_swept_is_asked_again(tmp_path, monkeypatch):
    plain, swept = atomic.stat, []

    def slow(url):
        if not swept:
            swept.append(url)
            os.unlink(url)
        return plain(url)

    monkeypatch.setattr(atomic, "stat", slow)
    assert abs(storage.store_clock(str(tmp_path)) - time.time()) < 60
    assert list(tmp_path.iterdir()) == []


def test_a_creation_that_a_library_sent_twice_by_itself_is_recognised(monkeypatch):
    """aiohttp sends a PUT again if a connection it had kept breaks: the first attempt ends with "it is there"."""

    def twice(url, data):
        put(url, data)
        raise FileExistsError(url)

    monkeypatch.setattr(atomic, "_create", twice)
    assert storage.write_new("flaky://bucket/a", b"mine") is True


_KILLED = """
import sys, time, storage
with storage.atomic_write(sys.argv[1]) as f:
    f.write(b"half")
    f.flush()
    print("writing", flush=True)
    time.sleep(60)
"""


def test_a_killed_writer_leaves_only_what_sweep_finds(tmp_path):
    storage.write_bytes(str(tmp_path / "a"), b"old")
    child = subprocess.Popen([sys.executable, "-c", _KILLED, str(tmp_path / "a")], stdout=subprocess.PIPE)
    child.stdout.readline()
    child.send_signal(signal.SIGKILL)
    child.wait()
    child.stdout.close()
    assert storage.read_bytes(str(tmp_path / "a")) == b"old"
    left = [name for name in storage.listing(str(tmp_path)) if name != "a"]
    assert len(left) == 1
    assert storage.sweep(str(tmp_path), older_than=time.time() - 60) == []
    assert storage.sweep(str(tmp_path)) == left
    assert storage.tree(str(tmp_path)) == {"a": 3}


@pytest.mark.parametrize("off_s", [-7200.0, 0.0, 7200.0])
def test_sweep_goes_by_the_clock_of_the_store(off_s, monkeypatch):
    """A file server whose clock is two hours off: the live file stays, the old one goes."""
    plain = atomic._send

    def send(url, content):
        plain(url, content)
        put(url, Flaky.store[url.removeprefix("flaky://")][0], age_s=-off_s)

    monkeypatch.setattr(atomic, "_send", send)
    put("flaky://bucket/d/.tmp-live", b"1", age_s=5 - off_s)
    put("flaky://bucket/d/.tmp-old", b"1", age_s=600 - off_s)
    put("flaky://bucket/d/a", b"1", age_s=600 - off_s)
    assert storage.sweep("flaky://bucket/d", older_than=time.time() - 60) == [".tmp-old"]
    assert storage.tree("flaky://bucket") == {"d/.tmp-live": 1, "d/a": 1}


def test_two_sweeps_at_once_do_not_disturb_each_other(tmp_path, monkeypatch):
    storage.write_bytes(str(tmp_path / ".tmp-1"), b"1")
    monkeypatch.setattr(atomic, "names", lambda url: iter([".tmp-1"]))
    assert storage.sweep(str(tmp_path)) == [".tmp-1"]
    assert storage.sweep(str(tmp_path)) == []


def test_empty_folders_are_removed_and_full_ones_stay(tmp_path):
    (tmp_path / "a" / "b" / "c").mkdir(parents=True)
    (tmp_path / "a" / "d").mkdir()
    (tmp_path / "a" / "d" / "x").write_text("")
    storage.remove_empty_folders(str(tmp_path / "a"))
    assert sorted(p.name for p in (tmp_path / "a").iterdir()) == ["d"]
