"""Patterns: a literal name wins, parts are matched one by one, and nothing found is an error."""

from __future__ import annotations

import pytest

import storage

NAMES = [
    "set[1].tar",
    "set1.tar",
    "set2.tar",
    "[2021] photos/a.tar",
    "[2021] photos/b.tar",
    "2 photos/c.tar",
    "x/00/a.tar",
    "x/01/a.tar",
    "x/01/b.txt",
    "x/y/z/a.tar",
    ".hidden.tar",
    "x/.git/a.tar",
    "folder.tar/inner",
    "a,b.tar",
    "{1,2}.tar",
    "what?.tar",
]


@pytest.fixture(params=["local", "memory://patterns", "flaky://patterns/root"])
def root(request, tmp_path):
    folder = str(tmp_path / "in [a] folder*") if request.param == "local" else request.param
    for name in NAMES:
        storage.write_bytes(storage.join(folder, name), b"1")
    yield folder
    for name in NAMES:
        storage.remove(storage.join(folder, name))


@pytest.mark.parametrize(
    ("pattern", "found"),
    [
        ("set[1].tar", ["set[1].tar"]),
        ("set[2].tar", ["set2.tar"]),
        ("set?.tar", ["set1.tar", "set2.tar"]),
        ("set*.tar", ["set1.tar", "set2.tar", "set[1].tar"]),
        ("[2021] photos/*.tar", ["[2021] photos/a.tar", "[2021] photos/b.tar"]),
        ("*/a.tar", ["[2021] photos/a.tar"]),
        ("x/*/a.tar", ["x/00/a.tar", "x/01/a.tar"]),
        ("x/0[0-9]/*.tar", ["x/00/a.tar", "x/01/a.tar"]),
        ("x/**/a.tar", ["x/00/a.tar", "x/01/a.tar", "x/y/z/a.tar"]),
        ("x/**", ["x/00/a.tar", "x/01/a.tar", "x/01/b.txt", "x/y/z/a.tar"]),
        (".h*", [".hidden.tar"]),
        ("a,b.tar", ["a,b.tar"]),
        ("{1,2}.tar", ["{1,2}.tar"]),
        ("what?.tar", ["what?.tar"]),
        ("*o*.tar", None),
        ("y/*.tar", None),
        ("set[9].tar", None),
    ],
)
def test_patterns(root, pattern, found):
    url = storage.join(root, pattern)
    if found is None:
        with pytest.raises(FileNotFoundError, match="no file matches") as missing:
            storage.expand([url])
        assert url in str(missing.value)
    else:
        assert storage.expand([url]) == [storage.join(root, name) for name in found]


def test_order_is_kept_and_nothing_comes_twice(root):
    one, two = storage.join(root, "set2.tar"), storage.join(root, "set1.tar")
    assert storage.expand([one, storage.join(root, "set?.tar"), one]) == [one, two]


def test_a_missing_local_file_is_named(tmp_path):
    with pytest.raises(FileNotFoundError, match=r"no such file: .*x\.tar"):
        storage.expand([str(tmp_path / "x.tar")])


def test_signed_addresses_are_no_patterns():
    url = "https://host/set[1]/a.tar?X-Amz-Signature=a*b&x=1"
    assert storage.expand([url]) == [url]


def test_relative_and_file_patterns(tmp_path, monkeypatch):
    (tmp_path / "a b.tar").write_text("")
    monkeypatch.chdir(tmp_path)
    assert storage.expand(["*.tar"]) == [str(tmp_path / "a b.tar")]
    assert storage.expand([f"file://{tmp_path}/*.tar"]) == [str(tmp_path / "a b.tar")]
    assert storage.expand([(tmp_path / "a b.tar").as_uri()]) == [str(tmp_path / "a b.tar")]
