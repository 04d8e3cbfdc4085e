"""The buffer of remote files: locks that outlive a fork, copies that heal, room that is made."""

from __future__ import annotations

import hashlib
import multiprocessing
import os
import threading
import time
from pathlib import Path

import fsspec
import pytest

import storage
from pipeline.dataset import buffer as buffers
from pipeline.dataset.buffer import Buffer, locked
from pipeline.images import BadSample


def _remote(name: str, data: bytes) -> tuple[str, str, int]:
    fsspec.filesystem("memory").pipe(f"/buffer/{name}", data)
    return f"memory://buffer/{name}", hashlib.sha256(data).hexdigest(), len(data)


def _content(descriptor: int) -> bytes:
    with os.fdopen(descriptor, "rb") as file:
        return file.read()


def test_a_lock_is_free_again_although_a_process_was_forked_under_it(tmp_path):
    path = str(tmp_path / "a.lock")
    held, release = threading.Event(), threading.Event()

    def hold() -> None:
        with locked(path):
            held.set()
            release.wait(10)

    thread = threading.Thread(target=hold)
    thread.start()
    held.wait(10)
    child = multiprocessing.get_context("fork").Process(target=time.sleep, args=(20,))
    child.start()  # has a copy of the descriptor under which the lock is held
    try:
        release.set()
        thread.join()
        free = threading.Event()

        def take() -> None:
            with locked(path):
                free.set()

        threading.Thread(target=take, daemon=True).start()
        assert free.wait(5)
    finally:
        child.kill()
        child.join()


def test_a_lock_keeps_threads_and_processes_apart(tmp_path):
    path, log = str(tmp_path / "a.lock"), tmp_path / "log"

    def work() -> None:
        for _ in range(5):
            with locked(path), log.open("a") as file:
                file.write("in ")
                file.flush()
                time.sleep(0.002)
                file.write("out\n")

    context = multiprocessing.get_context("fork")
    workers = [context.Process(target=work) for _ in range(2)] + [
        threading.Thread(target=work) for _ in range(2)
    ]
    for worker in workers:
        worker.start()
    for worker in workers:
        worker.join()
    assert log.read_text() == "in out\n" * 20


@pytest.mark.parametrize("harm", [lambda p: p.write_bytes(b"half"), lambda p: p.unlink()])
def test_a_copy_that_is_cut_or_gone_is_fetched_again(tmp_path, harm):
    file = _remote("a", b"x" * 1000)
    buffer = Buffer(str(tmp_path), 10**6)
    assert _content(buffer.open(*file)) == b"x" * 1000
    (copy,) = tmp_path.glob("*.tar")
    harm(copy)
    assert _content(buffer.open(*file)) == b"x" * 1000


def test_a_copy_whose_bytes_changed_is_healed_when_it_is_doubted(tmp_path):
    file = _remote("b", b"x" * 1000)
    buffer = Buffer(str(tmp_path), 10**6)
    os.close(buffer.open(*file))
    (copy,) = tmp_path.glob("*.tar")
    copy.write_bytes(b"y" * 1000)
    buffer.heal(file[1])
    assert _content(buffer.open(*file)) == b"x" * 1000
    buffer.heal(file[1])
    assert copy.exists()


def test_a_file_that_is_another_one_is_damaged_but_not_one_that_came_damaged_once(tmp_path, monkeypatch):
    url, sha256, n_bytes = _remote("c", b"x" * 1000)
    answers = [b"z" * 1000, b"x" * 1000]
    monkeypatch.setattr(storage, "read_bytes", lambda *_: answers.pop(0))
    assert _content(Buffer(str(tmp_path / "1"), 10**6).open(url, sha256, n_bytes)) == b"x" * 1000
    answers[:] = [b"z" * 1000, b"w" * 1000]
    with pytest.raises(OSError, match="two downloads differ"):
        Buffer(str(tmp_path / "2"), 10**6).open(url, sha256, n_bytes)
    answers[:] = [b"z" * 1000, b"z" * 1000]
    buffer = Buffer(str(tmp_path / "3"), 10**6)
    for _ in range(2):  # and is not fetched for every sample of it
        with pytest.raises(BadSample, match="damaged_shard"):
            buffer.open(url, sha256, n_bytes)
    assert not list((tmp_path / "3").glob("*.tar*[0-9a-f]"))


def test_a_file_that_cannot_be_had_is_no_damage(tmp_path, monkeypatch):
    def fails(*_):
        raise storage.Unavailable("503")

    file = _remote("d", b"x")
    monkeypatch.setattr(buffers.storage, "read_bytes", fails)
    with pytest.raises(storage.Unavailable):
        Buffer(str(tmp_path), 10**6).open(*file)
    assert not list(tmp_path.glob("*.tar"))


def test_the_oldest_copies_go_and_open_ones_can_still_be_read(tmp_path):
    buffer = Buffer(str(tmp_path), 2500)
    first = buffer.open(*_remote("0", b"0" * 1000))
    for n in range(1, 5):
        os.utime(next(tmp_path.glob("*.tar")), (n, n))
        os.close(buffer.open(*_remote(str(n), str(n).encode() * 1000)))
        assert len(list(tmp_path.glob("*.tar"))) <= 2
    assert _content(first) == b"0" * 1000


def _open_often(folder: Path, files: list, seed: int) -> None:
    buffer = Buffer(str(folder), 2500)
    for i in range(30):
        file = files[(i * 7 + seed) % len(files)]
        assert hashlib.sha256(_content(buffer.open(*file))).hexdigest() == file[1]


def test_processes_that_make_room_for_each_other_lose_nothing(tmp_path):
    files = [_remote(f"m{n}", bytes([n]) * 1000) for n in range(6)]
    context = multiprocessing.get_context("fork")
    workers = [context.Process(target=_open_often, args=(tmp_path, files, n)) for n in range(3)]
    for worker in workers:
        worker.start()
    for worker in workers:
        worker.join()
    assert [worker.exitcode for worker in workers] == [0, 0, 0]
