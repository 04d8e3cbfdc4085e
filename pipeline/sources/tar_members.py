"""The members of a tar, whatever state it is in: what is there, and which bytes hold nothing that can be read.

Python's `tarfile` ends at the first odd block without a word, follows negative sizes, and hides where bytes were lost.
This reader walks the headers by the formats' definition (POSIX ustar and pax, GNU, v7), goes on behind the end of an
archive (`cat a.tar b.tar`), and looks for the next header behind damage.
"""

from __future__ import annotations

import struct
from collections.abc import Iterator
from dataclasses import dataclass
from typing import Protocol

BLOCK = 512
#: Bytes of a name or of a pax header that are read.
MAX_HEADER = 1 << 20
_CHUNK = 1 << 20
_REGULAR = (b"0", b"\0", b"7")
_HARD_LINK, _SYMBOLIC_LINK, _SPARSE = b"1", b"2", b"S"
_NO_DATA = b"123456"  # links, devices, folders and pipes have none, whatever their size field says


class Bytes(Protocol):
    """What a tar is read from: bytes by position."""

    def at(self, offset: int, n: int) -> bytes:
        """Up to n bytes from `offset` on; fewer only at the end of the file."""
        ...

    def holds(self, offset: int) -> bool:
        """Whether there is a byte at `offset`."""
        ...


@dataclass(frozen=True, slots=True)
class Member:
    """A member: `kind` is file, link (`target`: the name it stands for), sparse or other; data at [offset, offset + size).

    `name` is text that can be stored: bytes that are no UTF-8 are written `\\xe9`.
    """

    name: str
    kind: str
    offset: int
    size: int
    target: str = ""


@dataclass(frozen=True, slots=True)
class Damage:
    """Bytes [start, stop) that hold nothing that can be read; stop -1: the file ends too early."""

    start: int
    stop: int
    detail: str


@dataclass(slots=True)
class _Extended:
    """What pax and GNU headers say about the next member."""

    name: str = ""
    target: str = ""
    size: int = -1
    sparse: bool = False


def members(data: Bytes) -> Iterator[Member | Damage]:
    """The members of a tar and the damage between them, by rising offset. Never raises for the tar's contents."""
    at, extended = 0, _Extended()
    while True:
        block = data.at(at, BLOCK)
        found: Member | Damage | None
        if len(block) < BLOCK:
            if not block or block.strip(b"\0"):
                yield Damage(
                    at, -1, "it ends without an end-of-archive block" if at else "it is empty or too short"
                )
            return
        header = _parsed(block)
        if block == bytes(BLOCK):
            behind = _behind_zeros(data, at)
            if behind is None:
                return
            if behind - at >= 2 * BLOCK and _parsed(data.at(behind, BLOCK)) is not None:
                at, extended = behind, _Extended()  # another archive
                continue
            what = (
                "bytes that are no tar follow the end"
                if behind - at >= 2 * BLOCK
                else "zeros in place of a header"
            )
            found = Damage(at, _next_header(data, behind), f"{what} at byte {at}")
        elif header is None or header.size < 0:
            found = Damage(at, _next_header(data, at + 1), f"no header of a tar member at byte {at}")
        else:
            at, found, extended = _one(data, header, at + BLOCK, extended)
        if found is not None:
            yield found
        if isinstance(found, Damage):
            if found.stop < 0:
                return
            at, extended = found.stop, _Extended()


@dataclass(frozen=True, slots=True)
class _Header:
    name: bytes
    size: int
    kind: bytes
    target: bytes
    is_extended: bool  # a GNU sparse header that goes on in the next block


def _one(
    data: Bytes, header: _Header, start: int, extended: _Extended
) -> tuple[int, Member | Damage | None, _Extended]:
    """The member of a header whose data begins at `start`: where the next header is, what was found, what applies next."""
    kind = header.kind
    size = 0 if kind in _NO_DATA else header.size
    if kind in (*_REGULAR, _SPARSE) and extended.size >= 0:
        size = extended.size
    while kind == _SPARSE and header.is_extended:
        block = data.at(start, BLOCK)
        start += BLOCK
        if len(block) < BLOCK or not block[504]:
            break
    stop = start + -(-size // BLOCK) * BLOCK
    if size and not data.holds(start + size - 1):
        following = _next_header(data, start)
        name = _text(header.name)[:100]
        detail = f"the data of {name} ({size} bytes) goes beyond the end of the file"
        return start, Damage(start - BLOCK, following, detail), _Extended()
    if kind in b"xXLKg":
        if size <= MAX_HEADER and kind != b"g":
            extended = _extend(extended, kind, data.at(start, size))
        return stop, None, extended
    name = extended.name or _text(header.name)
    target = extended.target or _text(header.target)
    what = "other"
    if kind == _SPARSE or extended.sparse:
        what = "sparse"
    elif kind in (_HARD_LINK, _SYMBOLIC_LINK):
        what = "link"
        if kind == _SYMBOLIC_LINK and not target.startswith("/"):
            target = name.rpartition("/")[0] + "/" + target if "/" in name else target
    elif kind in _REGULAR and not name.endswith("/"):
        what = "file"
    return stop, Member(name, what, start, size, target), _Extended()


def _extend(extended: _Extended, kind: bytes, data: bytes) -> _Extended:
    if kind == b"L":
        extended.name = _text(data)
    elif kind == b"K":
        extended.target = _text(data)
    else:
        for key, value in _pax(data):
            if key == b"path":
                extended.name = _text(value)
            elif key == b"linkpath":
                extended.target = _text(value)
            elif key == b"size" and value.isdigit() and len(value) < 20:
                extended.size = int(value)
            elif key.startswith(b"GNU.sparse."):
                extended.sparse = True
                if key == b"GNU.sparse.name":
                    extended.name = _text(value)
    return extended


def _pax(data: bytes) -> Iterator[tuple[bytes, bytes]]:
    """Records `<length> <key>=<value>\\n`; what follows a malformed one is not read."""
    at = 0
    while at < len(data) and data[at]:
        number, _, _ = data[at : at + 20].partition(b" ")
        if not number.isdigit() or int(number) <= len(number) + 1:
            return
        record = data[at + len(number) + 1 : at + int(number)]
        key, equals, value = record.partition(b"=")
        if not equals:
            return
        yield key, value.removesuffix(b"\n")
        at += int(number)


def _parsed(block: bytes) -> _Header | None:
    """The header in a block of 512 bytes, or None where the checksum says that it is none."""
    if len(block) < BLOCK:
        return None
    told = _number(block[148:156])
    unsigned = 256 + sum(block[:148]) + sum(block[156:])
    if told != unsigned:
        signed = 256 + sum(struct.unpack("148b", block[:148])) + sum(struct.unpack("356b", block[156:]))
        if told != signed:
            return None
    name = block[:100].split(b"\0", 1)[0]
    if block[257:263] == b"ustar\0" and block[345]:
        name = block[345:500].split(b"\0", 1)[0] + b"/" + name
    size = _number(block[124:136])
    return _Header(
        name,
        -1 if size is None else size,
        block[156:157],
        block[157:257].split(b"\0", 1)[0],
        bool(block[482]),
    )


def _number(field: bytes) -> int | None:
    """An octal or base-256 number; None where it is neither. Base-256 numbers may be negative."""
    if field[0] in (0x80, 0xFF):
        number = int.from_bytes(field[1:], "big")
        return number if field[0] == 0x80 else number - (1 << 8 * (len(field) - 1))
    text = field.split(b"\0", 1)[0].strip()
    try:
        return int(text or b"0", 8)
    except ValueError:
        return None


def _text(data: bytes) -> str:
    text = data.split(b"\0", 1)[0].decode("utf-8", "backslashreplace")
    if text.isprintable():
        return text
    return "".join(c if c.isprintable() else c.encode("unicode_escape").decode() for c in text)


def _behind_zeros(data: Bytes, at: int) -> int | None:
    """The first block from `at` on that is not zero; None where there is none."""
    while chunk := data.at(at, _CHUNK):
        if chunk.strip(b"\0"):
            first = len(chunk) - len(chunk.lstrip(b"\0"))
            return at + first // BLOCK * BLOCK
        at += len(chunk)
    return None


def _next_header(data: Bytes, at: int) -> int:
    """Where the next header with the mark of ustar or GNU tar is, at any alignment; -1: nowhere."""
    while len(chunk := data.at(at, _CHUNK)) >= BLOCK:
        found = chunk.find(b"ustar", 257)
        while found >= 0:
            header = _parsed(chunk[found - 257 : found - 257 + BLOCK])
            if header is not None and header.size >= 0:
                return at + found - 257
            found = chunk.find(b"ustar", found + 1)
        at += len(chunk) - BLOCK + 1
    return -1
