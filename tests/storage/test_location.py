"""Locations: what is a local path, what a URL, what is refused, and what is hidden before it is written down."""

from __future__ import annotations

import os
from pathlib import Path

import pytest
from fsspec.registry import known_implementations

import storage

ODD_NAMES = [
    "a b.jpg",
    "a::b.jpg",
    "a#b.jpg",
    "a?b.jpg",
    "a%20b.jpg",
    "a[1].jpg",
    "{a,b}.jpg",
    "ü-猫.jpg",
    "~a.jpg",
    "~root",
    "simplecache::s3.jpg",
    "a:b.jpg",
    "s3:x.jpg",
    "a;b=c&d.jpg",
    "$HOME.jpg",
    "back\\slash.jpg",
    "new\nline.jpg",
    " space at both ends ",
    "*.jpg",
]


@pytest.mark.parametrize("name", ODD_NAMES)
@pytest.mark.parametrize("root", ["local", "memory://odd", "flaky://bucket/odd"])
def test_a_name_is_a_name_whatever_its_characters(name, root, tmp_path):
    root = str(tmp_path / "x") if root == "local" else root
    url = storage.inside(root, name)
    assert url == storage.join(root, name)
    storage.write_bytes(url, b"123")
    assert storage.read_bytes(url) == b"123"
    assert storage.read_bytes(url, 1, 2) == b"2"
    assert storage.exists(url)
    assert storage.listing(root) == {name: 3}
    assert storage.tree(root) == {name: 3}
    assert storage.expand([url]) == [url]
    assert storage.relative(root, url) == name
    with storage.open_read(url) as f:
        assert f.read() == b"123"
    storage.remove(url)
    assert not storage.exists(url)


@pytest.mark.parametrize("name", [n for n in ODD_NAMES if n.strip() == n])
def test_an_existing_local_path_is_taken_as_it_is(name, tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    (tmp_path / name).mkdir()
    given = "./" + name if name.startswith("~") else name
    assert storage.location(given, "run.out") == str(tmp_path / name)
    assert storage.local_folder(given, "run.out") == str(tmp_path / name)


def test_home_is_expanded_at_the_start_only(monkeypatch, tmp_path):
    monkeypatch.setenv("HOME", str(tmp_path))
    assert storage.absolute("~/a") == str(tmp_path / "a")
    assert storage.absolute("/x/~/a") == "/x/~/a"
    assert storage.absolute("x/~root") == os.path.abspath("x/~root")


def test_file_urls_are_paths(tmp_path):
    (tmp_path / "a b").mkdir()
    assert storage.location((tmp_path / "a b").as_uri()) == str(tmp_path / "a b")
    assert storage.location(f"file://{tmp_path}/a b") == str(tmp_path / "a b")
    assert storage.location(f"file://localhost{tmp_path}/a b") == str(tmp_path / "a b")
    (tmp_path / "a%20b").mkdir()
    assert storage.location(f"file://{tmp_path}/a%20b") == str(tmp_path / "a%20b")
    assert storage.is_local(f"file://{tmp_path}")
    assert storage.location(Path("x")) == os.path.abspath("x")


def test_joins():
    assert storage.join("/", "a") == "/a"
    assert storage.join("/a/", "b", "c") == "/a/b/c"
    assert storage.join("memory://", "a") == "memory://a"
    assert storage.join("s3://bucket/", "a", "b") == "s3://bucket/a/b"
    assert storage.join("https://h/x?sig=1", "a b#1.jpg") == "https://h/x/a%20b%231.jpg?sig=1"
    assert storage.join("https://h/x", "a%20b.jpg?token=1") == "https://h/x/a%20b.jpg?token=1"
    assert storage.join("https://h/x", "100%.jpg", "why?.jpg") == "https://h/x/100%25.jpg/why%3F.jpg"


@pytest.mark.parametrize(
    ("text", "says"),
    [
        ("", "expected a path"),
        ("   ", "expected a path"),
        (None, "expected a path"),
        (3, "expected a path"),
        ("a\0b", "NUL"),
        ("zip://a.jpg::s3://b/c.zip", "chains"),
        ("simplecache::s3://b/c", "chains"),
        ("filecache::/data/x", "chains"),
        ("tar://a::/b.tar", "chains"),
        ("foo://bucket/x", "unknown protocol foo://"),
        ("s3:/bucket/x", "slash is missing"),
        ("https:/host/x", "slash is missing"),
        ("s3://", "no bucket"),
    ],
)
def test_what_is_no_location_is_refused_in_one_line_that_begins_with_the_key(text, says):
    with pytest.raises(ValueError, match=says) as refused:
        storage.location(text, "run.out")
    assert str(refused.value).startswith("run.out: ")
    assert "\n" not in str(refused.value)


def test_a_missing_package_is_named(monkeypatch):
    toy = {"class": "toycloud_fs.FS", "err": "Install toycloud_fs"}
    monkeypatch.setitem(known_implementations, "toycloud", toy)
    with pytest.raises(ValueError, match=r"run\.out: toycloud://b: Install toycloud_fs"):
        storage.location("toycloud://b", "run.out")


def test_nothing_is_written_to_the_web():
    assert storage.location("https://host/x?sig=1") == "https://host/x?sig=1"
    with pytest.raises(ValueError, match="out: https://host/x: nothing can be written"):
        storage.location("https://host/x?sig=SECRET", "out", write=True)


@pytest.mark.parametrize("url", ["s3://bucket/run", "https://h/x", "memory://x"])
def test_a_url_is_refused_where_a_local_folder_is_needed(url):
    with pytest.raises(ValueError, match=r"^run\.out: .*is a URL; a folder on this machine") as refused:
        storage.local_folder(url, "run.out")
    assert "\n" not in str(refused.value)


def test_a_file_is_refused_where_a_folder_is_needed(tmp_path):
    (tmp_path / "x").write_text("")
    with pytest.raises(ValueError, match=r"^run\.out: .*is a file"):
        storage.local_folder(str(tmp_path / "x"), "run.out")


def test_protocols_are_written_in_lower_case():
    assert storage.location("S3://Bucket/X", "out") == "s3://Bucket/X"
    storage.write_bytes("MEMORY://case/x", b"1")
    assert storage.read_bytes("memory://case/x") == b"1"


@pytest.mark.parametrize(
    "address",
    [
        "../secret.jpg",
        "a/../../secret.jpg",
        "a/..",
        "..",
        "/etc/passwd",
        "//host/share",
        "file:///etc/passwd",
        "http://127.0.0.1/latest/meta-data",
        "s3://other/bucket.jpg",
        "zip://a::http://127.0.0.1/a.zip",
        "simplecache::http://127.0.0.1/x",
        "",
        ".",
        "./",
        "a\0b",
    ],
)
@pytest.mark.parametrize("root", ["/data/images", "s3://bucket/images", "https://host/images?sig=1"])
def test_addresses_from_data_stay_below_the_root(address, root):
    with pytest.raises(ValueError, match="not a"):
        storage.inside(root, address)


def test_encoded_dots_do_not_leave_a_web_root():
    for address in ("%2e%2e/x.jpg", "a/%2E./../x", "..%2fx"):
        with pytest.raises(ValueError, match="not a location"):
            storage.inside("https://host/images", address)


def test_addresses_below_the_root_are_joined():
    assert storage.inside("/data", "./a/./b.jpg") == "/data/a/b.jpg"
    assert storage.inside("/data", "...jpg") == "/data/...jpg"
    assert storage.inside("s3://b/c", "a..b.jpg") == "s3://b/c/a..b.jpg"
    assert storage.relative("s3://b/c/", "s3://b/c/d/e.jpg") == "d/e.jpg"
    for other in ("s3://b/cd/e.jpg", "s3://b/c", "s3://b/c/../d", "/x"):
        with pytest.raises(ValueError, match="does not lie below"):
            storage.relative("s3://b/c", other)


@pytest.mark.parametrize(
    ("url", "shown"),
    [
        ("https://host/cat.jpg?X-Amz-Signature=SECRET#x", "https://host/cat.jpg"),
        ("https://user:SECRET@host:8/cat.jpg", "https://host:8/cat.jpg"),
        ("https://SECRET@host/a@b.jpg", "https://host/a@b.jpg"),
        ("HTTPS://user:SECRET@host/x?y=SECRET", "HTTPS://host/x"),
        ("s3://key:SECRET@bucket/x", "s3://bucket/x"),
        ("s3://bucket/a?b#c@d.jpg", "s3://bucket/a?b#c@d.jpg"),
        ("s3://bucket/cat.jpg?X-Amz-Credential=A&X-Amz-Signature=SECRET", "s3://bucket/cat.jpg"),
        ("sftp://user:SECRET@host/x", "sftp://host/x"),
        (
            "abfs://container@account.dfs.core.windows.net/x",
            "abfs://container@account.dfs.core.windows.net/x",
        ),
        ("cat.jpg?X-Amz-Credential=A&X-Amz-Signature=SECRET", "cat.jpg"),
        ("cat.jpg?x=1&sig=SECRET", "cat.jpg"),
        ("https://SECRET@host", "https://host"),
        ("/data/a?b#c@d.jpg", "/data/a?b#c@d.jpg"),
    ],
)
def test_secrets_are_taken_out(url, shown):
    assert storage.redacted(url) == shown
    assert storage.redacted(shown) == shown
    assert (
        storage.redacted_text(f"403, url='{url}' failed") == f"403, url='{shown}' failed" or "://" not in url
    )
    assert "SECRET" not in storage.redacted_text(f"see {url}, and <{url}>") or "://" not in url
