"""Listings: fresh, through links, without markers, and whole."""

from __future__ import annotations

import os
import threading

import fsspec
import pytest

import storage
from tests.storage.flaky import Flaky, put


@pytest.fixture
def folder(tmp_path):
    """Files, links to files and folders, a loop, a dangling link, a pipe."""
    (tmp_path / "blobs").mkdir()
    (tmp_path / "blobs" / "b1").write_text("123")
    root = tmp_path / "images"
    (root / "sub" / "deep").mkdir(parents=True)
    (root / "a.jpg").write_text("1")
    (root / "sub" / "deep" / "c.jpg").write_text("12")
    (root / "empty").write_text("")
    os.symlink("../blobs/b1", root / "link.jpg")
    os.symlink("../blobs", root / "linked")
    os.symlink("..", root / "sub" / "up")
    os.symlink("nowhere", root / "dangling")
    os.symlink("loop", root / "loop")
    os.mkfifo(root / "pipe")
    return str(root)


def test_links_are_followed(folder):
    assert storage.listing(folder) == {"a.jpg": 1, "empty": 0, "link.jpg": 3}
    assert storage.children(folder)[1] == ["linked", "sub"]
    assert storage.tree(folder) == {
        "a.jpg": 1,
        "empty": 0,
        "link.jpg": 3,
        "linked/b1": 3,
        "sub/deep/c.jpg": 2,
    }
    assert storage.entries(folder)["link.jpg"].version == storage.stat(folder + "/../blobs/b1").version


def test_no_folder_is_an_empty_listing(tmp_path):
    for url in (str(tmp_path / "x"), "memory://nothing here", "flaky://bucket/x"):
        assert storage.listing(url) == {}
        assert storage.tree(url) == {}


def test_a_file_that_vanishes_while_a_folder_is_listed_is_left_out(tmp_path, monkeypatch):
    for name in "abc":
        (tmp_path / name).write_text("1")
    plain = os.scandir

    class Scan:
        def __init__(self, path):
            self._found = plain(path)

        def __enter__(self):
            return self

        def __exit__(self, *_):
            self._found.close()

        def __iter__(self):
            for entry in self._found:
                if entry.name == "b":
                    os.unlink(entry.path)
                yield entry

    monkeypatch.setattr(os, "scandir", Scan)
    assert storage.listing(str(tmp_path)) == {"a": 1, "c": 1}


def test_a_folder_that_is_written_to_meanwhile_is_listed(tmp_path):
    stop = threading.Event()

    def write():
        n = 0
        while not stop.is_set():
            storage.write_bytes(str(tmp_path / f"{n % 7}"), b"1")
            n += 1

    (tmp_path / "here").write_text("1")
    writer = threading.Thread(target=write)
    writer.start()
    try:
        for _ in range(200):
            assert "here" in storage.listing(str(tmp_path))
    finally:
        stop.set()
        writer.join()


def test_markers_of_folders_are_left_out():
    put("flaky://bucket/pairs/", b"")
    put("flaky://bucket/pairs/sub/", b"")
    put("flaky://bucket/pairs/sub/a", b"1")
    put("flaky://bucket/pairs/sub", b"")
    put("flaky://bucket/pairs/hadoop_$folder$", b"")
    put("flaky://bucket/pairs/empty file", b"")
    assert storage.listing("flaky://bucket/pairs") == {"empty file": 0}
    assert storage.tree("flaky://bucket/pairs") == {"empty file": 0, "sub/a": 1}


def test_names_that_begin_alike_are_kept_apart():
    put("flaky://bucket/pairs/a", b"1")
    put("flaky://bucket/pairs-old/b", b"1")
    assert storage.listing("flaky://bucket/pairs") == {"a": 1}
    assert storage.tree("flaky://bucket/pairs") == {"a": 1}


def test_a_store_of_no_files_under_a_root(tmp_path):
    storage.write_bytes("memory://a/b", b"1")
    assert storage.tree("memory://").get("a/b") == 1


class _Cached(Flaky):
    """Answers from its listings, as s3fs does, negative answers too."""

    protocol = "cachedflaky"
    cachable = True

    def __init__(self, **options):
        super().__init__(**options)
        self.listed = {}

    def ls(self, path, detail=True, **options):
        path = self._strip_protocol(path)
        if path not in self.listed:
            self.listed[path] = super().ls(path, True, **options)
        return self.listed[path] if detail else [e["name"] for e in self.listed[path]]

    def info(self, path, **options):
        path = self._strip_protocol(path)
        parent = path.rpartition("/")[0]
        if parent in self.listed:
            for entry in self.listed[parent]:
                if entry["name"] == path:
                    return entry
            raise FileNotFoundError(path)
        return super().info(path, **options)

    def invalidate_cache(self, path=None):
        self.listed.clear()


fsspec.register_implementation("cachedflaky", _Cached, clobber=True)


def test_what_another_process_wrote_after_a_listing_is_there():
    put("flaky://bucket/d/a", b"1")
    assert storage.listing("cachedflaky://bucket/d") == {"a": 1}
    assert not storage.exists("cachedflaky://bucket/d/b")
    put("flaky://bucket/d/b", b"22")
    put("flaky://bucket/d/a", b"333")
    assert storage.exists("cachedflaky://bucket/d/b")
    assert storage.size("cachedflaky://bucket/d/a") == 3
    assert storage.listing("cachedflaky://bucket/d") == {"a": 3, "b": 2}
    assert storage.tree("cachedflaky://bucket") == {"d/a": 3, "d/b": 2}
    assert storage.expand(["cachedflaky://bucket/d/*"])[-1] == "cachedflaky://bucket/d/b"
    assert storage.open_read("cachedflaky://bucket/d/a").read() == b"333"
    del Flaky.store["bucket/d/a"]
    assert not storage.exists("cachedflaky://bucket/d/a")
