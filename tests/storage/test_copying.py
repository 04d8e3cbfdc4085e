from __future__ import annotations

import os

import pytest

import storage
from storage import copying


def test_one_file_system_holds_the_bytes_once(tmp_path):
    (tmp_path / "a").write_bytes(b"abc")
    target = tmp_path / "folder" / "b"
    storage.link_or_copy(str(tmp_path / "a"), str(target))
    assert target.read_bytes() == b"abc"
    assert os.path.samefile(tmp_path / "a", target)
    storage.link_or_copy(str(tmp_path / "a"), str(target))  # again, on what is there
    assert [p.name for p in target.parent.iterdir()] == ["b"]
    storage.write_bytes(str(target), b"new")  # a file is replaced, never changed
    assert (tmp_path / "a").read_bytes() == b"abc"


def test_a_file_is_copied_where_it_cannot_be_linked(tmp_path, monkeypatch):
    def refuse(*_: object) -> None:
        raise OSError(18, "another device")

    monkeypatch.setattr(copying.os, "link", refuse)
    (tmp_path / "a").write_bytes(b"abc")
    storage.link_or_copy(str(tmp_path / "a"), str(tmp_path / "b"))
    assert (tmp_path / "b").read_bytes() == b"abc"
    assert not os.path.samefile(tmp_path / "a", tmp_path / "b")
    assert sorted(p.name for p in tmp_path.iterdir()) == ["a", "b"]


def test_a_remote_file_is_copied(tmp_path):
    storage.write_bytes("memory://copying/a", b"abc")
    storage.link_or_copy("memory://copying/a", str(tmp_path / "b"))
    storage.link_or_copy(str(tmp_path / "b"), "memory://copying/c")
    assert storage.read_bytes("memory://copying/c") == b"abc"


def test_a_file_that_is_not_there_is_said(tmp_path):
    with pytest.raises(FileNotFoundError):
        storage.link_or_copy(str(tmp_path / "a"), str(tmp_path / "b"))
    assert list(tmp_path.iterdir()) == []
