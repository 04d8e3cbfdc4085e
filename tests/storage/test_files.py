"""Files: size, version, ranges, existence, removal."""

from __future__ import annotations

import os

import pytest

import storage
from tests.storage.flaky import Flaky, failing, put


def test_an_empty_range_costs_no_request():
    assert storage.read_bytes("flaky://bucket/not there", 1024, 1024) == b""
    assert Flaky.calls == []


@pytest.mark.parametrize("root", ["local", "memory://ranges", "flaky://ranges"])
def test_ranges(root, tmp_path):
    url = (str(tmp_path) if root == "local" else root) + "/a"
    storage.write_bytes(url, b"0123456789")
    assert storage.read_bytes(url, 2, 5) == b"234"
    assert storage.read_bytes(url, 7) == b"789"
    assert storage.read_bytes(url, end=3) == b"012"
    assert storage.read_bytes(url, 0, 10) == b"0123456789"
    assert storage.read_bytes(url, 10) == b""
    for start, end in ((-512, 0), (5, 2)):
        with pytest.raises(ValueError, match="no range"):
            storage.read_bytes(url, start, end)
    for start, end in ((8, 11), (10, 11), (500, 600)):
        with pytest.raises(storage.ShortRead, match="another file"):
            storage.read_bytes(url, start, end)


def test_a_cut_answer_is_asked_again():
    put("flaky://bucket/a", b"0123456789")
    Flaky.cut = 2
    assert storage.read_bytes("flaky://bucket/a", 2, 8) == b"234567"
    Flaky.cut = 99
    with pytest.raises(storage.Unavailable, match="3 of 6 bytes came"):
        storage.read_bytes("flaky://bucket/a", 2, 8)


def test_a_server_that_knows_no_ranges_is_understood(monkeypatch):
    put("flaky://bucket/a", b"0123456789")
    monkeypatch.setattr(Flaky, "cat_file", lambda self, path, **_: self.store[self._strip_protocol(path)][0])
    assert storage.read_bytes("flaky://bucket/a", 2, 5) == b"234"
    assert storage.read_bytes("flaky://bucket/a", 7) == b"789"


def test_folders_are_no_files(tmp_path):
    (tmp_path / "d").mkdir()
    (tmp_path / "f").write_text("1")
    put("flaky://bucket/d/f", b"1")
    for folder in (str(tmp_path / "d"), "flaky://bucket/d"):
        assert storage.exists(folder)
        assert storage.is_folder(folder)
        with pytest.raises(IsADirectoryError):
            storage.stat(folder)
    for file in (str(tmp_path / "f"), "flaky://bucket/d/f"):
        assert not storage.is_folder(file)
        assert storage.size(file) == 1
        assert storage.listing(file) == {}
        assert storage.tree(file) == {}
        assert not storage.exists(file + "/below a file")
        assert storage.listing(file + "/below a file") == {}


def test_names_that_cannot_be_do_not_exist(tmp_path):
    assert not storage.exists(str(tmp_path / "a\0b"))
    assert not storage.exists(str(tmp_path / ("x" * 300)))
    os.symlink("loop", tmp_path / "loop")
    os.symlink("nowhere", tmp_path / "dangling")
    assert not storage.exists(str(tmp_path / "loop"))
    assert not storage.exists(str(tmp_path / "dangling"))


@pytest.mark.parametrize("root", ["local", "memory://versions", "flaky://versions"])
def test_the_version_changes_with_the_file(root, tmp_path):
    url = (str(tmp_path) if root == "local" else root) + "/a"
    storage.write_bytes(url, b"1")
    first = storage.stat(url)
    assert storage.stat(url) == first
    storage.write_bytes(url, b"2")
    assert storage.stat(url).version != first.version
    assert storage.stat(url).n_bytes == first.n_bytes
    assert storage.stat(url).modified >= first.modified > 1.7e9


def test_removing_what_is_gone_is_no_error(tmp_path):
    storage.remove(str(tmp_path / "a"))
    storage.remove("flaky://bucket/a")
    put("flaky://bucket/a", b"1")
    failing("rm_file", 1, TimeoutError())
    storage.remove("flaky://bucket/a")
    assert Flaky.store == {}


def test_litter_is_known_by_its_name():
    for name in (
        ".DS_Store",
        "a/.DS_Store",
        "._a.jpg",
        "Thumbs.db",
        ".tmp-1-a",
        ".claim.json",
        ".claim-beat-1",
    ):
        assert storage.is_litter(name)
    for name in ("a.jpg", "DS_Store", "_a", "tmp-1", ".hidden"):
        assert not storage.is_litter(name)
