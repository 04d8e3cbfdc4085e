"""The fast .npz reader against NumPy's."""

from __future__ import annotations

import io
import pickle
import struct
import zipfile

import numpy as np
import pytest

from pipeline.dataset.npz import read_npz, write_npz
from pipeline.dataset.sample import pack_arrays

ARRAYS = {
    "boxes": np.random.default_rng(0).random((5, 4)).astype(np.float32),
    "none": np.zeros((0, 16), np.float16),
    "ids": np.arange(300, dtype=np.uint16),
    "scalar": np.array(3.0),
}


def _npz(save=np.savez, **arrays) -> bytes:
    buffer = io.BytesIO()
    save(buffer, **arrays)
    return buffer.getvalue()


def test_what_is_written_are_the_bytes_of_numpy():
    odd = {
        "turned": np.asfortranarray(np.ones((3, 4), np.int8)),
        "gaps": np.arange(12, dtype=np.float32).reshape(3, 4)[:, ::2],
        "flags": np.array([True, False]),
        "big": np.arange(3, dtype=">u4"),
    }
    for arrays in ({}, ARRAYS, odd, {**ARRAYS, **odd}):
        assert write_npz(arrays) == _npz(**arrays)


def test_objects_are_not_written():
    with pytest.raises(ValueError, match="objects"):
        write_npz({"names": np.array(["a", None], object)})


def test_the_arrays_of_numpy():
    data = _npz(**ARRAYS)
    with np.load(io.BytesIO(data)) as file:
        want = {name: file[name] for name in file.files}
    got = read_npz(data)
    assert got.keys() == want.keys()
    for name, array in got.items():
        assert array.dtype == want[name].dtype
        np.testing.assert_array_equal(array, want[name])
    assert read_npz(data, frozenset({"ids", "none"})).keys() == {"boxes", "scalar"}
    assert read_npz(pack_arrays(ARRAYS)).keys() == ARRAYS.keys()


def test_what_is_compressed_is_refused_and_not_unfolded():
    with pytest.raises(ValueError, match="compressed"):
        read_npz(_npz(np.savez_compressed, zeros=np.zeros(1 << 24, np.uint8)))


def test_a_comment_behind_the_archive_is_refused():
    buffer = io.BytesIO(_npz(**ARRAYS))
    with zipfile.ZipFile(buffer, "a") as archive:
        archive.comment = b"PK"
    with pytest.raises(ValueError, match="no end of an"):
        read_npz(buffer.getvalue())


def _with_header(text: bytes, version: bytes = b"\x01\x00") -> bytes:
    """An archive of one array whose header says `text`."""
    size = struct.pack("<H" if version == b"\x01\x00" else "<I", len(text))
    buffer = io.BytesIO()
    with zipfile.ZipFile(buffer, "w") as archive:
        archive.writestr("x.npy", b"\x93NUMPY" + version + size + text)
    return buffer.getvalue()


@pytest.mark.parametrize("version", [b"\x01\x00", b"\x02\x00", b"\x03\x00"])
@pytest.mark.parametrize(
    "text",
    [
        b"{'descr': '|u1', 'fortran_order': False, 'shape': (1099511627776,), }",
        b"{'descr': '<f8', 'fortran_order': False, 'shape': (65536, 65536, 65536), }",
        b"{'descr': '|u1', 'fortran_order': False, 'shape': (-1,), }",
        b"{'descr': '|V0', 'fortran_order': False, 'shape': (1099511627776,), }",
        b"{'descr': '|S0', 'fortran_order': False, 'shape': (3,), }",
        b"{'descr': [('a', '<f4')], 'fortran_order': False, 'shape': (0,), }",
        b"{'descr': '<M8[s]', 'fortran_order': False, 'shape': (0,), }",
        b"{'descr': " + b"(" * 5000 + b", 'fortran_order': False, 'shape': (3,), }",
        b"{'descr': '|u1', 'fortran_order': False, 'shape': (" + b"-" * 9000 + b"1,), }",
        b"",
        b"\xff" * 60,
    ],
    ids=range(11),
)
def test_a_header_that_claims_too_much_or_nonsense_is_refused_at_once(text, version):
    with pytest.raises(ValueError, match=r".+"):
        read_npz(_with_header(text, version))


def test_many_members_that_share_their_bytes_take_no_memory():
    data = _npz(x=np.zeros(1 << 20, np.uint8))
    end = len(data) - 22
    start = struct.unpack_from("<I", data, end + 16)[0]
    entry = bytearray(data[start:end])
    copies = b""
    for i in range(90):
        entry[46:47] = bytes([33 + i])
        copies += bytes(entry)
    tail = bytearray(data[end:])
    struct.pack_into("<HHI", tail, 8, 90, 90, len(copies))
    got = read_npz(data[:start] + copies + bytes(tail))
    assert len(got) == 90
    assert len({a.__array_interface__["data"][0] for a in got.values()}) == 1


def test_every_damaged_byte_of_the_contents_is_found():
    data = _npz(boxes=ARRAYS["boxes"])
    contents = data.index(ARRAYS["boxes"].tobytes())
    for at in range(contents, contents + ARRAYS["boxes"].nbytes, 7):
        broken = bytearray(data)
        broken[at] ^= 1
        with pytest.raises(ValueError, match="CRC"):
            read_npz(broken)


def test_damage_anywhere_is_an_error_or_harmless():
    data = _npz(**ARRAYS)
    for at in range(len(data)):
        for broken in (data[:at], data[:at] + b"\xff" + data[at + 1 :]):
            try:
                got = read_npz(broken)
            except ValueError:
                continue
            for name in got.keys() & ARRAYS.keys():  # a flag, a date, a name: the contents are as they were
                np.testing.assert_array_equal(got[name], ARRAYS[name])


def test_pickles_are_refused():
    class Loud:
        def __reduce__(self):
            return (print, ("ran",))

    data = _npz(thing=np.array([Loud()], dtype=object))
    assert b"ran" in data
    assert pickle.PROTO in data
    with pytest.raises(ValueError, match="something else than numbers"):
        read_npz(data)
