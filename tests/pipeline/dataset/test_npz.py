"""The fast .npz reader against NumPy's."""

from __future__ import annotations

import io
import pickle
import zipfile

import numpy as np
import pytest

from pipeline.dataset.npz import read_npz
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


@pytest.mark.parametrize("save", [np.savez, np.savez_compressed])
def test_the_arrays_of_numpy(save):
    data = _npz(save, **ARRAYS)
    with np.load(io.BytesIO(data)) as file:
        want = {name: file[name] for name in file.files}
    got = read_npz(data)
    assert got.keys() == want.keys()
    for name, array in got.items():
        assert array.dtype == want[name].dtype
        np.testing.assert_array_equal(array, want[name])
    assert read_npz(data, frozenset({"ids", "none"})).keys() == {"boxes", "scalar"}
    assert read_npz(pack_arrays(ARRAYS)).keys() == ARRAYS.keys()


def test_a_comment_or_bytes_after_the_archive_are_read_by_zipfile():
    buffer = io.BytesIO(_npz(**ARRAYS))
    with zipfile.ZipFile(buffer, "a") as archive:
        archive.comment = b"PK"
    np.testing.assert_array_equal(read_npz(buffer.getvalue())["ids"], ARRAYS["ids"])


def test_every_damaged_byte_of_the_contents_is_found():
    data = _npz(boxes=ARRAYS["boxes"])
    contents = data.index(ARRAYS["boxes"].tobytes())
    for at in range(contents, contents + ARRAYS["boxes"].nbytes, 7):
        broken = bytearray(data)
        broken[at] ^= 1
        with pytest.raises(zipfile.BadZipFile):
            read_npz(broken)


def test_damage_anywhere_is_an_error_or_harmless():
    data = _npz(**ARRAYS)
    for at in range(len(data)):
        for broken in (data[:at], data[:at] + b"\xff" + data[at + 1 :]):
            try:
                got = read_npz(broken)
            except (ValueError, KeyError, OSError, EOFError, zipfile.BadZipFile):
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
    with pytest.raises(ValueError, match="Python objects"):
        read_npz(data)
