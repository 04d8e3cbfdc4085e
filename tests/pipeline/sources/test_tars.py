"""Tars as the world makes them: every sample is read, or a row says that it is not."""

from __future__ import annotations

import bz2
import gzip
import io
import json
import lzma
import shutil
import subprocess
import tarfile

import pytest

import storage
from pipeline.sources import InputChanged, tar_samples
from pipeline.sources.settings import ColumnSettings
from tests.pipeline.sources.kit import add, n_lost, outcome, pairs, rows, tars, usable, write_tar

BLOCK = 512


def test_damage_in_a_header_costs_its_own_sample_alone(tmp_path):
    path = write_tar(tmp_path / "a.tar", pairs(0, 6))
    data = bytearray(path.read_bytes())
    data[data.index(b"000003.jpg\0") + 150] ^= 1
    path.write_bytes(data)
    found = outcome(tars(path))
    assert sorted(usable(tars(path))) == [f"a.tar/00000{i}" for i in (0, 1, 2, 4, 5)]
    assert found["a.tar/000003"][0] == "damaged_tar"
    assert len(found) == 6


@pytest.mark.parametrize("member", ["000003.jpg", "000003.txt"])
def test_zeros_in_place_of_a_header_are_damage(tmp_path, member):
    path = write_tar(tmp_path / "a.tar", pairs(0, 6))
    data = bytearray(path.read_bytes())
    at = data.index(member.encode() + b"\0")
    data[at : at + BLOCK] = bytes(BLOCK)
    path.write_bytes(data)
    assert len(usable(tars(path))) == 5
    assert n_lost(tars(path)) == 1


def test_a_sample_that_damage_took_whole_is_counted(tmp_path):
    path = write_tar(tmp_path / "a.tar", pairs(0, 9))
    data = bytearray(path.read_bytes())
    start, stop = data.index(b"000003.jpg\0"), data.index(b"000006.jpg\0")
    data[start:stop] = b"\x55" * (stop - start)
    path.write_bytes(data)
    assert len(usable(tars(path))) == 6
    assert n_lost(tars(path)) == 3


def test_bytes_lost_or_put_in_between_cost_no_more_than_their_neighbours(tmp_path):
    path = write_tar(tmp_path / "a.tar", pairs(0, 9))
    whole = path.read_bytes()
    at = whole.index(b"000004.jpg\0") + 700
    for changed in (whole[:at] + whole[at + 100 :], whole[:at] + b"x" * 333 + whole[at:]):
        path.write_bytes(changed)
        assert len(usable(tars(path))) >= 8
        assert len(usable(tars(path))) + n_lost(tars(path)) >= 9


def test_archives_behind_each_other_are_all_read(tmp_path):
    for n in (0, 1):
        write_tar(tmp_path / f"{n}.part", pairs(3 * n, 3 * n + 3))
    path = tmp_path / "a.tar"
    path.write_bytes((tmp_path / "0.part").read_bytes() + (tmp_path / "1.part").read_bytes())
    found = usable(tars(path))
    assert len(found) == 6
    assert found["a.tar/000005"].startswith(b"jpeg 5")


def test_bytes_behind_the_end_that_are_no_tar_are_told_of(tmp_path):
    path = write_tar(tmp_path / "a.tar", pairs(0, 3))
    path.write_bytes(path.read_bytes() + b"signed by nobody" * 100)
    assert len(usable(tars(path))) == 3
    assert any("follow the end" in r["problem"] for r in rows(tars(path)))


def test_an_end_without_blocks_of_zeros_after_it_is_no_damage(tmp_path):
    path = write_tar(tmp_path / "a.tar", pairs(0, 3))
    data = path.read_bytes().rstrip(b"\0")
    path.write_bytes(data + bytes(-len(data) % BLOCK) + bytes(BLOCK))
    assert n_lost(tars(path)) == 0


def test_a_cut_tar_counts_what_its_neighbours_hold(tmp_path):
    for n in range(4):
        write_tar(tmp_path / f"{n}.tar", pairs(0, 20))
    data = (tmp_path / "3.tar").read_bytes()
    (tmp_path / "3.tar").write_bytes(data[: data.index(b"000005.jpg\0")])
    source = tars(tmp_path / "*.tar")
    assert len(usable(source)) == 65
    assert 13 <= n_lost(source) <= 22  # the end of a whole tar is padded


def test_a_tar_of_which_nothing_can_be_read_counts_by_its_neighbours(tmp_path):
    for n in range(3):
        write_tar(tmp_path / f"{n}.tar", pairs(0, 20))
    (tmp_path / "1.tar").write_bytes(b"<html>404</html>" * 3000)
    (tmp_path / "2.tar").write_bytes(b"")
    source = tars(tmp_path / "*.tar")
    assert len(usable(source)) == 20
    assert 30 <= n_lost(source) <= 50


@pytest.mark.parametrize("name", ["a.tar.gz", "a.tgz", "a.tar", "a.tar.bz2", "a.tar.xz"])
def test_compressed_tars_are_read_whatever_their_name(tmp_path, name):
    plain = write_tar(tmp_path / "plain", pairs(0, 6)).read_bytes()
    pack = {"bz2": bz2.compress, "xz": lzma.compress}.get(name.rsplit(".", 1)[-1], gzip.compress)
    (tmp_path / name).write_bytes(pack(plain))
    source = tars(tmp_path / name)
    listed = rows(source)
    assert len(listed) == 6
    for row in reversed(listed):
        assert source.read(row).startswith(b"jpeg ")
    assert source.read(listed[4]) == b"jpeg 4" * 80


def test_a_compressed_tar_that_is_cut_keeps_what_came_before(tmp_path):
    plain = write_tar(tmp_path / "plain", pairs(0, 50)).read_bytes()
    packed = gzip.compress(plain)
    (tmp_path / "a.tar.gz").write_bytes(packed[: len(packed) * 3 // 4])
    source = tars(tmp_path / "a.tar.gz")
    assert 10 < len(usable(source)) < 50
    assert "cut short" in rows(source)[-1]["problem"]


def test_two_gzip_members_are_one_file(tmp_path):
    plain = write_tar(tmp_path / "plain", pairs(0, 6)).read_bytes()
    (tmp_path / "a.tar.gz").write_bytes(gzip.compress(plain[:3000]) + gzip.compress(plain[3000:]))
    assert len(usable(tars(tmp_path / "a.tar.gz"))) == 6


def test_a_bomb_ends_at_a_limit(tmp_path):
    info = tarfile.TarInfo("000000.txt")
    info.size = 1 << 31
    head = info.tobuf()
    packer = __import__("zlib").compressobj(9, wbits=31)
    data = (
        packer.compress(head) + b"".join(packer.compress(bytes(1 << 20)) for _ in range(200)) + packer.flush()
    )
    (tmp_path / "a.tar.gz").write_bytes(data)
    assert "more than" in rows(tars(tmp_path / "a.tar.gz"))[0]["problem"]


def test_zstandard_is_refused_by_name(tmp_path):
    (tmp_path / "a.tar").write_bytes(b"\x28\xb5\x2f\xfd" + bytes(500))
    with pytest.raises(ValueError, match=r"a\.tar is compressed by zstandard"):
        rows(tars(tmp_path / "a.tar"))


@pytest.mark.skipif(shutil.which("tar") is None, reason="needs GNU tar")
@pytest.mark.parametrize("form", ["gnu", "pax", "posix"])
def test_sparse_members_are_rejected_and_cost_nobody_else(tmp_path, form):
    (tmp_path / "w").mkdir()
    with open(tmp_path / "w" / "000000.bmp", "wb") as f:
        f.write(b"BM")
        f.truncate(1 << 20)
        f.seek(1 << 19)
        f.write(b"x")
    (tmp_path / "w" / "000000.txt").write_text("a dog")
    for i in range(1, 5):
        (tmp_path / "w" / f"{i:06d}.jpg").write_bytes(b"jpeg %d" % i)
        (tmp_path / "w" / f"{i:06d}.txt").write_text("a cat")
    command = ["tar", "--sparse", f"--format={form}", "--sort=name", "-cf", "../a.tar", "."]
    subprocess.run(command, cwd=tmp_path / "w", check=True)
    found = outcome(tars(tmp_path / "a.tar"))
    assert found["a.tar/000000"][0] == "unsupported_member"
    assert usable(tars(tmp_path / "a.tar"))["a.tar/000003"] == b"jpeg 3"
    assert len(found) == 5


def test_links_have_the_bytes_of_what_they_stand_for(tmp_path):
    with tarfile.open(tmp_path / "a.tar", "w") as tar:
        for i, (kind, target) in enumerate(
            [
                ("", ""),
                (tarfile.LNKTYPE, "d/0.jpg"),
                (tarfile.SYMTYPE, "0.jpg"),
                (tarfile.SYMTYPE, "../d/3.jpg"),
            ]
        ):
            if kind:
                link = tarfile.TarInfo(f"d/{i}.jpg")
                link.type, link.linkname = kind, target
                tar.addfile(link)
            else:
                add(tar, f"d/{i}.jpg", b"jpeg")
            add(tar, f"d/{i}.txt", b"a dog")
        link = tarfile.TarInfo("d/4.txt")
        link.type, link.linkname = tarfile.LNKTYPE, "d/0.txt"
        add(tar, "d/4.jpg", b"four")
        tar.addfile(link)
        link = tarfile.TarInfo("d/5.jpg")
        link.type, link.linkname = tarfile.SYMTYPE, "/etc/passwd"
        tar.addfile(link)
        add(tar, "d/5.txt", b"a dog")
    source = tars(tmp_path / "a.tar")
    assert usable(source) == {
        "a.tar/d/0": b"jpeg", "a.tar/d/1": b"jpeg", "a.tar/d/2": b"jpeg", "a.tar/d/4": b"four",
    }  # fmt: skip
    assert outcome(source)["a.tar/d/4"][1] == ["a dog"]
    assert outcome(source)["a.tar/d/3"][0] == "missing_file"  # it stands for itself
    assert outcome(source)["a.tar/d/5"][0] == "missing_file"


def test_dots_in_names_follow_webdataset_where_it_keeps_samples_apart(tmp_path):
    members = pairs(0, 2)
    members += [(f"2019.05.12_{i}.{e}", b"x %d" % i) for i in range(3) for e in ("jpg", "txt")]
    members += [
        ("000.jpg", b"image"),
        ("000.seg.png", b"mask"),
        ("000.txt", b"a dog"),
        ("000.meta.json", b"{}"),
    ]
    members += [("v1.2.JPG", b"image"), ("v1.2.txt", b"a cat")]
    source = tars(write_tar(tmp_path / "a.tar", members))
    found = usable(source)
    assert found["a.tar/2019.05.12_1"] == b"x 1"
    assert found["a.tar/000"] == b"image"
    assert found["a.tar/v1.2"] == b"image"
    assert len(found) == len(rows(source)) == 2 + 3 + 1 + 1


def test_several_dotted_images_without_captions_are_rows(tmp_path):
    members = [("photo.1.jpg", b"1"), ("photo.2.jpg", b"2"), ("photo.txt", b"a dog")]
    found = outcome(tars(write_tar(tmp_path / "a.tar", members)))
    assert {k: v[0] for k, v in found.items()} == {
        "a.tar/photo": "no_image", "a.tar/photo.1": "no_caption", "a.tar/photo.2": "no_caption",
    }  # fmt: skip


def test_what_systems_leave_behind_is_nobodys_data(tmp_path):
    double = b"\0\5\x16\7\0\2\0\0Mac OS X        " + bytes(139)
    members = [(".DS_Store", b"x"), ("Thumbs.db", b"x"), ("__MACOSX/a.jpg", b"x"), ("d/._.DS_Store", b"x")]
    for name, data in pairs(0, 4):
        members += [(f"./._{name}", double), (f"./{name}", data)]
    write_tar(tmp_path / "a.tar", members)
    write_tar(tmp_path / "._a.tar", [("x.jpg", b"x")])
    source = tars(tmp_path / "*.tar")
    assert sorted(usable(source)) == [f"a.tar/00000{i}" for i in range(4)]
    assert len(rows(source)) == 4


def test_members_of_a_sample_need_not_be_neighbours(tmp_path):
    members = sorted(pairs(0, 4), key=lambda m: (m[0][-3:], m[0]))
    source = tars(write_tar(tmp_path / "a.tar", members))
    assert usable(source)["a.tar/000002"] == b"jpeg 2" * 80
    assert outcome(source)["a.tar/000002"] == ("", ["a dog 2"])


def test_a_name_that_comes_twice_is_two_samples_with_one_key(tmp_path):
    members = [(f"{n}.{e}", b"x") for n in ("a", "b", "b", "c") for e in ("jpg", "txt")]
    assert [r["source_key"] for r in rows(tars(write_tar(tmp_path / "t.tar", members)))] == [
        "t.tar/a", "t.tar/b", "t.tar/b", "t.tar/c",
    ]  # fmt: skip


def test_the_same_name_in_two_folders_is_two_tars(tmp_path):
    for folder, first in (("one", 0), ("two", 50), ("two/three", 90)):
        (tmp_path / folder).mkdir()
        write_tar(tmp_path / folder / "00000.tar", pairs(first, first + 2))
    source = tars(tmp_path / "one" / "*.tar", tmp_path / "two" / "*.tar", tmp_path / "two/three/00000.tar")
    keys = [r["source_key"] for r in rows(source)]
    assert len(set(keys)) == 6
    assert "two/three/00000.tar/000090" in keys
    identity = source.identity()
    assert identity["n_files"] == 3
    moved = tmp_path / "elsewhere"
    moved.mkdir()
    for folder in ("one", "two"):
        (tmp_path / folder).rename(moved / folder)
    again = tars(moved / "one" / "*.tar", moved / "two" / "*.tar", moved / "two/three/00000.tar")
    assert (again.identity(), [r["source_key"] for r in rows(again)]) == (identity, keys)
    with pytest.raises(FileNotFoundError, match="no such file"):
        tars(tmp_path / "one" / "00000.tar", tmp_path / "two" / "00000.tar").units()


def test_other_names_of_images_and_captions_are_known(tmp_path):
    kinds = [
        ("jfif", "txt"),
        ("jpe", "txt"),
        ("jpg", "caption"),
        ("JPG", "TXT"),
        ("heic", "txt"),
        ("npy", "txt"),
    ]
    members = []
    for i, (image, words) in enumerate(kinds):
        members += [(f"{i}.{image}", b"x"), (f"{i}.{words}", b"a dog")]
    source = tars(write_tar(tmp_path / "a.tar", members))
    assert len(usable(source)) == 5
    assert rows(source)[5]["problem"] == "no_image: its members are .npy, .txt"


def test_byte_order_marks_are_no_text(tmp_path):
    bom = b"\xef\xbb\xbf"
    members = [
        ("0.jpg", b"x"), ("0.json", bom + b'{"caption": "a dog"}'),
        ("1.jpg", b"x"), ("1.txt", bom + b"Dogs run"),
        ("2.jpg", b"x"), ("2.txt", "Dogs bark".encode("utf-16")),
        ("3.jpg", b"x"), ("3.json", '{"caption": "a kite"}'.encode("utf-16")),
    ]  # fmt: skip
    found = outcome(tars(write_tar(tmp_path / "a.tar", members)))
    assert [v for v in found.values()] == [("", [c]) for c in ("a dog", "Dogs run", "Dogs bark", "a kite")]


@pytest.mark.parametrize("form", [tarfile.GNU_FORMAT, tarfile.PAX_FORMAT, tarfile.USTAR_FORMAT])
def test_long_and_foreign_names(tmp_path, form):
    names = ["d/" * 40 + "0", "caf\u00e9", "\u732b", "a b", "x" * 90]
    if form != tarfile.USTAR_FORMAT:
        names.append("long" * 60)
    members = [(f"{n}.{e}", b"x") for n in names for e in ("jpg", "txt")]
    source = tars(write_tar(tmp_path / "a.tar", members, format=form))
    assert [r["source_key"] for r in rows(source)] == [f"a.tar/{n}" for n in names]
    assert not n_lost(source)


def test_names_that_are_no_utf8_and_decomposed_accents(tmp_path):
    with tarfile.open(tmp_path / "a.tar", "w", format=tarfile.GNU_FORMAT, encoding="latin-1") as tar:
        for end in ("jpg", "txt"):
            add(tar, f"caf\u00e9.{end}", b"x")
    write_tar(tmp_path / "b.tar", [("caf\u00e9.jpg", b"x"), ("cafe\u0301.txt", b"a cup")])
    write_tar(tmp_path / "c.tar", [("\x1b[2J\x07.jpg", b"x"), ("\x1b[2J\x07.txt", b"a cup")])
    keys = list(usable(tars(tmp_path / "*.tar")))
    assert keys == ["a.tar/caf\\xe9", "b.tar/caf\u00e9", "c.tar/\\x1b[2J\\x07"]
    for key in keys:
        key.encode()


@pytest.mark.parametrize("size", [-512, -1, 1 << 62, 1 << 40])
def test_sizes_that_cannot_be_end_nothing(tmp_path, size):
    path = write_tar(tmp_path / "a.tar", pairs(0, 6))
    data = bytearray(path.read_bytes())
    at = data.index(b"000002.jpg\0")
    data[at + 124 : at + 136] = (b"\x80" if size >= 0 else b"\xff") + (size % (1 << 88)).to_bytes(11, "big")
    data[at + 148 : at + 156] = b" " * 8
    data[at + 148 : at + 156] = b"%06o\0 " % sum(data[at : at + BLOCK])
    path.write_bytes(data)
    assert len(usable(tars(path))) == 5
    assert n_lost(tars(path)) == 1


def test_members_larger_than_captions_are_not_read(tmp_path, monkeypatch):
    monkeypatch.setattr(tar_samples, "MAX_TEXT", 1000)
    monkeypatch.setattr(tar_samples, "MAX_DOCUMENT", 2000)
    members = [
        ("0.jpg", b"x"), ("0.txt", b"dog " * 1000),
        ("1.jpg", b"x"), ("1.txt", b"a dog"), ("1.json", json.dumps({"x": "y" * 3000}).encode()),
    ]  # fmt: skip
    found = outcome(tars(write_tar(tmp_path / "a.tar", members)))
    assert found == {"a.tar/0": ("member_too_large", []), "a.tar/1": ("", ["a dog"])}


@pytest.mark.parametrize("text", [b"[" * 200_000, b"1" * 5000, b"{broken", b"", b"[]", b"null", b"\xff\xfe"])
def test_json_that_is_no_captions_costs_its_sample_alone(tmp_path, text):
    members = [("0.jpg", b"x"), ("0.json", text), ("1.jpg", b"x"), ("1.json", text), ("1.txt", b"a dog")]
    found = outcome(tars(write_tar(tmp_path / "a.tar", members)))
    assert found["a.tar/0"][0] in ("bad_json", "no_caption", "empty_caption")
    assert found["a.tar/1"] == ("", ["a dog"])


def test_captions_of_any_type_in_json(tmp_path):
    captions = [
        12345,
        True,
        None,
        float("nan"),
        {"en": "a red ball", "fr": "une balle"},
        ["a", ["b", 3]],
        "half \ud83d",
    ]
    members = []
    for i, caption in enumerate(captions):
        members += [(f"{i}.jpg", b"x"), (f"{i}.json", json.dumps({"caption": caption}).encode())]
    found = list(outcome(tars(write_tar(tmp_path / "a.tar", members))).values())
    assert [c for _, c in found] == [
        ["12345"], [], [], [], ["a red ball", "une balle"], ["a", "b", "3"], ["half \ufffd"],
    ]  # fmt: skip


def test_lines_of_a_text_are_captions_and_what_json_repeats_is_not(tmp_path):
    members = [
        ("0.jpg", b"x"), ("0.txt", b"a dog\r\n\na cat\n"),
        ("1.jpg", b"x"), ("1.txt", b"a dog\non a beach"), ("1.json", b'{"caption": "a dog\\non a beach"}'),
        ("2.jpg", b"x"), ("2.txt", b"a dog"), ("2.json", b'{"caption": "a dog", "text": "a pet"}'),
    ]  # fmt: skip
    found = [c for _, c in outcome(tars(write_tar(tmp_path / "a.tar", members))).values()]
    assert found == [["a dog", "a cat"], ["a dog\non a beach"], ["a dog", "a pet"]]
    source = tars(tmp_path / "a.tar", columns=ColumnSettings(caption="text"))
    assert [c for _, c in outcome(source).values()] == [
        ["a dog", "a cat"],
        ["a dog", "on a beach"],
        ["a dog", "a pet"],
    ]


def test_an_empty_member_is_an_empty_image_without_a_request(tmp_path, monkeypatch):
    source = tars(write_tar(tmp_path / "a.tar", [("0.jpg", b""), ("0.txt", b"a dog")]))
    (row,) = rows(source)
    monkeypatch.setattr(storage, "read_bytes", None)
    assert (row["problem"], source.read(row)) == ("", b"")


def test_a_failure_of_the_moment_is_no_damage(tmp_path, monkeypatch):
    path = write_tar(tmp_path / "a.tar", pairs(0, 6))
    honest = storage.open_read
    calls = []

    def cut_once(url):
        calls.append(url)
        return honest(url) if len(calls) > 1 else io.BytesIO(path.read_bytes()[:4000])

    source = tars(path)
    units = source.units()
    monkeypatch.setattr(storage, "open_read", cut_once)
    with pytest.raises(OSError, match="when it was read again"):
        list(source.index(units[0]))
    assert len(list(source.index(units[0]))) == 6


def test_a_time_out_in_the_index_pass_propagates(tmp_path, monkeypatch):
    class Failing(io.BytesIO):
        def read(self, n=-1):
            if self.tell() > 2000:
                raise TimeoutError("once")
            return super().read(n)

    path = write_tar(tmp_path / "a.tar", pairs(0, 6))
    source = tars(path)
    units = source.units()
    monkeypatch.setattr(storage, "open_read", lambda url: Failing(path.read_bytes()))
    with pytest.raises(TimeoutError):
        list(source.index(units[0]))


def test_a_tar_that_was_replaced_is_noticed(tmp_path):
    source = tars(write_tar(tmp_path / "a.tar", pairs(0, 6)))
    (unit,), listed = source.units(), rows(source)
    write_tar(tmp_path / "a.tar", pairs(0, 1))
    with pytest.raises(InputChanged, match=r"a\.tar was changed"):
        list(source.index(unit))
    (tmp_path / "a.tar").write_bytes(b"short")
    with pytest.raises((OSError, InputChanged)):
        source.read(listed[3])


def test_paths_with_letters_of_patterns_and_urls(tmp_path):
    for folder in ("set [2017]", "a{b}", "re::zero", "50%20", "x?y#z", "~home"):
        (tmp_path / folder).mkdir()
        path = write_tar(tmp_path / folder / "a[1].tar", pairs(0, 2))
        for pattern in (path, tmp_path / folder / "*.tar", tmp_path / folder):
            source = tars(pattern)
            assert len(usable(source)) == 2, pattern
            assert source.root == str(tmp_path / folder)


def test_a_pattern_without_files_and_a_folder_without_tars_are_named(tmp_path):
    with pytest.raises(FileNotFoundError, match=r"source\.urls: .*none\*\.tar"):
        tars(tmp_path / "none*.tar").units()
    (tmp_path / "folder").mkdir()
    (tmp_path / "folder" / "readme.md").write_text("x")
    with pytest.raises(ValueError, match=r"folder is a folder without files \*\.tar"):
        tars(tmp_path / "folder").units()
