"""The samples of a tar: which members belong together, and what they hold.

WebDataset's rule: the key of a member is its path up to the first dot of its name, the rest is its extension. Members of
a sample need not be neighbours. Where a key's extensions are none that we know but end in one (`2019.05.12_000020.jpg`),
the last dot ends the key, so that such names are samples of their own and not one.
"""

from __future__ import annotations

import unicodedata
from collections.abc import Iterator
from dataclasses import dataclass, field

from pipeline.sources.files import is_clutter
from pipeline.sources.tar_members import Bytes, Damage, Member, members

#: Extensions of images, whatever format they hold; what they hold is found by content.
IMAGES = frozenset(
    {
        "jpg",
        "jpeg",
        "jpe",
        "jfif",
        "jif",
        "png",
        "apng",
        "webp",
        "gif",
        "bmp",
        "dib",
        "tif",
        "tiff",
        "mpo",
        "avif",
    }
    | {"heic", "heif", "jp2", "jxl", "ppm", "pgm", "pbm", "pnm", "tga", "ico"}
)
TEXTS = frozenset(("txt", "text", "caption", "captions", "cap"))
DOCUMENT = "json"
#: Bytes of a text or JSON member that are read; a larger one is no caption.
MAX_TEXT = 1 << 20
MAX_DOCUMENT = 8 << 20
_MAX_LINKS = 8


@dataclass(slots=True)
class Entry:
    """A member with its place in the sample: `key` and lower-case `extension` by the first dot of its name."""

    key: str
    extension: str
    member: Member
    content: bytes | None = None  # of a text or JSON member
    problem: str = ""

    @property
    def last(self) -> tuple[str, str]:
        """Key and extension by the last dot."""
        front, _, extension = self.extension.rpartition(".")
        return (f"{self.key}.{front}" if front else self.key), extension


@dataclass(slots=True)
class Sample:
    """What belongs to one key. `problem`: "" or why its image or captions cannot be read."""

    key: str
    image: Member | None = None
    text: bytes | None = None
    document: bytes | None = None
    extensions: list[str] = field(default_factory=list)
    problem: str = ""


@dataclass(frozen=True)
class Contents:
    """A tar: its samples in the order of their first members, its damage, and which samples lie beside which damage."""

    samples: list[Sample]
    damage: list[Damage]
    beside: list[tuple[str, ...]]  # for each damage the keys of the members before and after it
    end: int  # where the last member ends


def read_contents(data: Bytes) -> Contents:
    """All samples of a tar. OSError where it cannot be read; never an error for what it holds."""
    entries: list[Entry] = []
    files: dict[str, Member] = {}
    damage: list[tuple[int, Damage]] = []
    end = 0
    for found in members(data):
        if isinstance(found, Damage):
            damage.append((len(entries), found))
            continue
        end = found.offset + found.size
        name = _plain(found.name)
        if found.kind == "file":
            files.setdefault(name, found)
        entry = _entry(name, found)
        if entry is not None:
            if found.kind == "file":
                _read_content(data, entry)
            entries.append(entry)
    for entry in entries:
        if entry.member.kind == "link":
            _follow(data, entry, files)
    samples = [s for group in _groups(entries) for s in _samples(group)]
    beside = [
        tuple({key: 0 for e in entries[max(0, at - 1) : at + 1] for key in (e.key, e.last[0])})
        for at, _ in damage
    ]
    return Contents(samples, [d for _, d in damage], beside, end)


def _plain(name: str) -> str:
    """A member's name without `./`, with accents composed: macOS writes them in two characters."""
    while name.startswith("./"):
        name = name[2:].lstrip("/")
    return unicodedata.normalize("NFC", name)


def _entry(name: str, member: Member) -> Entry | None:
    folder, _, base = name.rpartition("/")
    stem, _, extension = base.partition(".")
    if member.kind == "other" or not extension or is_clutter(base) or "__MACOSX" in folder.split("/"):
        return None
    problem = (
        f"unsupported_member: {base} is a sparse member (tar --sparse)" if member.kind == "sparse" else ""
    )
    return Entry(f"{folder}/{stem}" if folder else stem, extension.lower(), member, None, problem)


def _read_content(data: Bytes, entry: Entry) -> None:
    kind = entry.last[1]
    limit = MAX_DOCUMENT if kind == DOCUMENT else MAX_TEXT if kind in TEXTS else 0
    if not limit:
        return
    if entry.member.size > limit:
        entry.problem = (
            f"member_too_large: .{entry.extension} holds {entry.member.size} bytes, more than {limit}"
        )
    else:
        entry.content = data.at(entry.member.offset, entry.member.size)


def _follow(data: Bytes, entry: Entry, files: dict[str, Member]) -> None:
    """Gives a link the data of the member that it stands for."""
    target = files.get(_resolved(entry.member.target))
    if target is None:
        entry.problem = (
            f"missing_file: .{entry.extension} is a link to {entry.member.target}, which is not in this tar"
        )
        return
    entry.member = target
    _read_content(data, entry)


def _resolved(path: str) -> str:
    """A path without `.` and `..`; one that leads above the tar's root is found nowhere."""
    parts: list[str] = []
    for part in _plain(path).split("/"):
        if part == "..":
            if not parts:
                return ""
            parts.pop()
        elif part not in ("", "."):
            parts.append(part)
    return "/".join(parts)


def _groups(entries: list[Entry]) -> Iterator[list[Entry]]:
    """Entries of one key, by their first member. The same extension again begins another sample of that key."""
    groups: list[list[Entry]] = []
    current: dict[str, tuple[list[Entry], set[str]]] = {}
    for entry in entries:
        group, extensions = current.get(entry.key, ([], set()))
        if not group or entry.extension in extensions:
            group, extensions = [], set()
            groups.append(group)
            current[entry.key] = (group, extensions)
        group.append(entry)
        extensions.add(entry.extension)
    return iter(groups)


def _is_known(extension: str) -> bool:
    return extension in IMAGES or extension in TEXTS or extension == DOCUMENT


def _samples(group: list[Entry]) -> Iterator[Sample]:
    """The samples of a group: that of the first dot's key, and those whose keys hold dots."""
    simple = [e for e in group if _is_known(e.extension)]
    dotted: dict[str, list[Entry]] = {}
    other = [e for e in group if not _is_known(e.extension) and not _is_known(e.last[1])]
    for entry in group:
        if entry not in simple and entry not in other:
            dotted.setdefault(entry.last[0], []).append(entry)
    has_image = any(e.extension in IMAGES for e in simple)
    if simple or not dotted:
        yield _sample(group[0].key, simple + other, [e.extension for e in group])
    for key, entries in dotted.items():
        kinds = {e.last[1] in IMAGES for e in entries}
        if len(kinds) == 2 or (True in kinds and not has_image) or (not simple):
            yield _sample(key, entries, [e.last[1] for e in entries])


def _sample(key: str, entries: list[Entry], extensions: list[str]) -> Sample:
    sample = Sample(key, extensions=extensions)
    for entry in entries:
        kind = entry.last[1]
        if kind in IMAGES and sample.image is None:
            if entry.problem:
                sample.problem = entry.problem
            else:
                sample.image = entry.member
        elif kind in TEXTS and entry.content is not None:
            sample.text = entry.content if sample.text is None else sample.text + b"\n" + entry.content
        elif kind == DOCUMENT and entry.content is not None and sample.document is None:
            sample.document = entry.content
        elif entry.problem and not sample.problem:
            sample.problem = entry.problem
    return sample
