"""The .npz member of a sample: written as `np.savez` does it, read more carefully than `np.load`; both many times faster.

`np.savez` and `np.load` build the whole bookkeeping of a zip archive, and make and parse each array's header as Python
source. Our archives hold plain stored members, so their directory is read and written directly, and a dataset has few
distinct headers, so each is made and parsed once. What `np.savez` never writes is refused: a compressed member of some
kilobytes may unfold to gigabytes, and a header may claim any size.
"""

from __future__ import annotations

import io
import re
import struct
import zlib
from collections.abc import Mapping
from functools import lru_cache

import numpy as np

_MAGIC = np.lib.format.magic(1, 0)
_PREFIX = len(_MAGIC) + 2
#: End of the central directory, without a comment: signature, ..., entries, bytes of the directory, its offset.
_END = struct.Struct("<4s4xH2xIIH")
#: A central directory entry: signature, flags, method, CRC, stored bytes, bytes, name, extra, comment, header's offset.
_ENTRY = struct.Struct("<4s4xHH4xIIIHHH8xI")
#: A local header: signature, name and extra lengths.
_LOCAL = struct.Struct("<4s22xHH")
#: The header of an array of numbers in C order, as NumPy writes it; NumPy's own reader parses it as Python source.
_HEADER = re.compile(
    rb"\{'descr': '([<>|=][biuf]\d{1,2})', 'fortran_order': False, 'shape': \(((?:\d+, ?)*\d*)\), \} *\n?"
)
#: What `zipfile` writes for a member of a size it was not told: version, flags, method, time and date of 1980-01-01.
_WRITTEN = struct.pack("<HHHHH", 45, 0, 0, 0, 33)
#: Before the name in a local header: CRC, sizes that the 64-bit field holds, lengths of name and field.
_LOCAL_TAIL = struct.Struct("<IIIHH")
_WIDE = struct.Struct("<HHQQ")
#: A directory entry after `_WRITTEN`: CRC, stored bytes, bytes, name, extra, comment, disk, kinds, header's offset.
_ENTRY_TAIL = struct.Struct("<IIIHHHHHII")
_UNIX, _RIGHTS = 0x031E, 0o600 << 16
#: How a local header and a directory entry begin.
_LOCAL_START, _ENTRY_START = b"PK\x03\x04" + _WRITTEN, b"PK\x01\x02\x2d\x03" + _WRITTEN
#: Sizes from which a zip archive needs fields that we do not write.
_TOO_MUCH = 1 << 31


def write_npz(arrays: Mapping[str, np.ndarray]) -> bytes:
    """The bytes of `np.savez(**arrays)`: uncompressed, no time of its own. Arrays of numbers; names in ASCII.

    Raises ValueError for arrays of objects and for 2 GiB or more.
    """
    pieces: list[bytes] = []
    directory: list[bytes] = []
    at = 0
    for name, array in arrays.items():
        array = np.asarray(array)
        fortran = array.flags.fnc
        data = array.tobytes("F" if fortran else "C")
        file, head, head_crc = _start_of(name, array.dtype, array.shape, fortran)
        crc, n, n_name = zlib.crc32(data, head_crc), len(head) + len(data), len(file)
        local = _LOCAL_START + _LOCAL_TAIL.pack(crc, 0xFFFFFFFF, 0xFFFFFFFF, n_name, _WIDE.size)
        pieces += (local, file, _WIDE.pack(1, 16, n, n), head, data)
        directory += (_ENTRY_START + _ENTRY_TAIL.pack(crc, n, n, n_name, 0, 0, 0, 0, _RIGHTS, at), file)
        at += len(local) + n_name + _WIDE.size + n
        if at >= _TOO_MUCH:
            raise ValueError(f"arrays of {at} bytes are too many for one sample")
    size = sum(map(len, directory))
    end = b"PK\x05\x06" + struct.pack("<HHHHIIH", 0, 0, len(arrays), len(arrays), size, at, 0)
    return b"".join([*pieces, *directory, end])


@lru_cache(maxsize=4096)
def _start_of(name: str, dtype: np.dtype, shape: tuple[int, ...], fortran: bool) -> tuple[bytes, bytes, int]:
    """An array's file name in the archive, its header, and the CRC of that."""
    head = _header_of(dtype, shape, fortran)
    return f"{name}.npy".encode("ascii"), head, zlib.crc32(head)


def _header_of(dtype: np.dtype, shape: tuple[int, ...], fortran: bool) -> bytes:
    """The header of an array in a .npy file, as NumPy writes it."""
    if dtype.hasobject:
        raise ValueError("an array of objects")
    sink = io.BytesIO()
    described = {"descr": np.lib.format.dtype_to_descr(dtype), "fortran_order": fortran, "shape": shape}
    np.lib.format.write_array_header_1_0(sink, described)
    return sink.getvalue()


def read_npz(
    data: bytes | bytearray | memoryview, skip: frozenset[str] = frozenset()
) -> dict[str, np.ndarray]:
    """Name -> array of numbers, a view of `data`, without those named in `skip`: no memory of its own, whatever it says.

    Checks CRCs. Raises ValueError for damage, for compressed members and for anything but arrays of numbers.
    """
    return {name: _array(name, member) for name, member in _members(data, skip).items()}


def _members(data: bytes | bytearray | memoryview, skip: frozenset[str]) -> dict[str, memoryview]:
    """Name -> the bytes of each member."""
    view = memoryview(data)
    end = len(view) - _END.size
    if end < 0:
        raise ValueError(f"{len(view)} bytes are no .npz archive")
    signature, n_entries, _, at, comment = _END.unpack_from(view, end)
    if signature != b"PK\x05\x06" or comment:
        raise ValueError("no end of an .npz archive")
    members = {}
    for _ in range(n_entries):
        if at + _ENTRY.size > end:
            raise ValueError("the archive's directory is cut")
        signature, flags, method, crc, n_stored, n_bytes, n_name, n_extra, n_comment, header = (
            _ENTRY.unpack_from(view, at)
        )
        name = bytes(view[at + _ENTRY.size : at + _ENTRY.size + n_name]).decode("ascii").removesuffix(".npy")
        at += _ENTRY.size + n_name + n_extra + n_comment
        if signature != b"PK\x01\x02" or header + _LOCAL.size > end:
            raise ValueError("the archive's directory is damaged")
        if flags or method or n_stored != n_bytes:
            raise ValueError(f"{name!r} is compressed or encrypted")
        signature, n_name, n_extra = _LOCAL.unpack_from(view, header)
        begin = header + _LOCAL.size + n_name + n_extra
        if signature != b"PK\x03\x04" or begin + n_bytes > end:
            raise ValueError(f"{name!r} is cut")
        if name in skip:
            continue
        members[name] = view[begin : begin + n_bytes]
        if zlib.crc32(members[name]) != crc:
            raise ValueError(f"bad CRC-32 in {name!r}")
    return members


def _array(name: str, member: memoryview) -> np.ndarray:
    if member[: len(_MAGIC)] != _MAGIC:
        raise ValueError(f"{name!r} is no array, or one of another format version")
    start = _PREFIX + int.from_bytes(member[len(_MAGIC) : _PREFIX], "little")
    shape, dtype = _header(bytes(member[:start]))
    return np.frombuffer(member, dtype, offset=start).reshape(shape)


@lru_cache(maxsize=4096)
def _header(header: bytes) -> tuple[tuple[int, ...], np.dtype]:
    found = _HEADER.fullmatch(header[_PREFIX:])
    if found is None:
        raise ValueError("an array of something else than numbers, or in Fortran order")
    try:
        return tuple(int(n) for n in found[2].split(b",") if n.strip()), np.dtype(found[1].decode())
    except TypeError as e:  # no number has so many bytes
        raise ValueError(f"an array of {found[1].decode()}") from e
