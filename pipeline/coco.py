"""The one reader of COCO JSON: images, captions and boxes, whatever some of the records look like.

A file that is no COCO file at all is a ValueError of one line. A record that is malformed costs that record: an image
says so in `problem`, any other record is counted in `Coco.skipped` with an example.
"""

from __future__ import annotations

import gzip
import io
import math
import re
import zlib
from collections import Counter
from collections.abc import Iterator
from dataclasses import dataclass, field
from typing import Any
from urllib.parse import unquote, urlsplit

import storage
from concept_pool.captions import captions_of, parse_json, storable

#: A compressed file may hold so many bytes for each of its own, and so many besides.
MAX_RATIO = 64
MAX_SURPLUS = 64 << 20


@dataclass(frozen=True, slots=True)
class CocoImage:
    """An image record. `id` is text, "" where it has none; width and height are pixels, 0 where unknown.

    `file_name` as the file has it, or the last part of `coco_url` where it has none (LVIS). `problem` is empty or
    "reason: detail": bad_record (no id, no file name, no object), duplicate_id.
    """

    id: str
    file_name: str
    width: int = 0
    height: int = 0
    problem: str = ""


@dataclass(frozen=True, slots=True)
class CocoBox:
    """An annotation with a box: x, y, width, height in pixels, all finite, width and height above 0."""

    id: str
    xywh: tuple[float, float, float, float]
    category_id: int = -1
    crowd: bool = False


@dataclass(frozen=True)
class Coco:
    """The contents of a COCO file.

    Attributes:
        images: in the file's order
        captions: image id -> its captions, in the file's order
        boxes: image id -> its boxes, in the file's order
        categories: category id -> name
        frequencies: category id -> LVIS's `frequency` (r, c, f), of the categories that have one
        skipped: what was wrong with records that are no images -> how many
        examples: what was wrong -> the first record of which it was
    """

    images: tuple[CocoImage, ...]
    captions: dict[str, list[str]] = field(default_factory=dict)
    boxes: dict[str, list[CocoBox]] = field(default_factory=dict)
    categories: dict[int, str] = field(default_factory=dict)
    frequencies: dict[int, str] = field(default_factory=dict)
    skipped: Counter[str] = field(default_factory=Counter)
    examples: dict[str, str] = field(default_factory=dict)

    def why(self) -> str:
        """One line about the records that were skipped; empty if there are none."""
        return "; ".join(f"{n} {what}, e.g. {self.examples[what]}" for what, n in self.skipped.most_common(3))

    def _skip(self, what: str, example: str) -> None:
        self.skipped[what] += 1
        self.examples.setdefault(what, example)


def read_coco(url: str, what: str = "COCO JSON") -> Coco:
    """A COCO captions or instances file (LVIS's too), gzip-compressed or not.

    Raises FileNotFoundError, and ValueError "<url> is no <what>: why".
    """
    try:
        data = storage.read_bytes(url)
        return coco_of(parse_json(_unpacked(data) if data[:2] == b"\x1f\x8b" else data))
    except IsADirectoryError:
        raise ValueError(f"{url} is no {what}: it is a folder") from None
    except (ValueError, EOFError, zlib.error, gzip.BadGzipFile) as e:
        raise ValueError(f"{url} is no {what}: {e}") from None


def _unpacked(data: bytes) -> bytes:
    """The contents of a gzip file, up to `MAX_RATIO` times its size; JSON that holds more is a decompression bomb."""
    limit = MAX_RATIO * len(data) + MAX_SURPLUS
    with gzip.GzipFile(fileobj=io.BytesIO(data)) as file:
        unpacked = file.read(limit + 1)
    if len(unpacked) > limit:
        raise ValueError(f"it unpacks to more than {MAX_RATIO} times its size")
    return unpacked


def coco_of(document: Any) -> Coco:
    """A parsed COCO document. ValueError says why it is none."""
    if not isinstance(document, dict) or not any(
        isinstance(document.get(key), list) for key in ("images", "annotations")
    ):
        raise ValueError("it has neither a list `images` nor a list `annotations`")
    records = _list(document, "images")
    images = tuple(_marked_duplicates([_image(record, i) for i, record in enumerate(records)]))
    found = Coco(images)
    for record in _list(document, "categories"):
        number = _integer(record.get("id")) if isinstance(record, dict) else None
        if number is None:
            found._skip("categories without an id", _shown(record))
        else:
            found.categories[number] = next(iter(captions_of(record.get("name"))), str(number))
            if isinstance(record.get("frequency"), str):
                found.frequencies[number] = record["frequency"]
    ids = _Ids(images)
    for i, record in enumerate(_list(document, "annotations")):
        _add_annotation(found, ids, record, i)
    return found


def _list(document: dict[str, Any], key: str) -> list[Any]:
    value = document.get(key)
    if value is None:
        return []
    if not isinstance(value, list):
        raise ValueError(f"`{key}` is no list")
    return value


def _image(record: Any, position: int) -> CocoImage:
    if not isinstance(record, dict):
        return CocoImage("", "", problem=f"bad_record: images[{position}] is no object: {_shown(record)}")
    name = record.get("file_name")
    if not isinstance(name, str) or not name.strip():
        url = record.get("coco_url")
        name = unquote(_path_of(url).rsplit("/", 1)[-1]) if isinstance(url, str) else ""
    if not name.isascii() and name.encode(errors="replace") != name.encode(errors="surrogatepass"):
        name = storable(name)  # no file can have it, and no table could hold it
    problem = ""
    image_id = id_text(record.get("id"))
    if not image_id:
        problem = f"bad_record: images[{position}] has no id: {_shown(record)}"
    elif not name:
        problem = f"bad_record: the image of id {_short(image_id)} has no file_name"
    width, height = (_pixels(record.get(key)) for key in ("width", "height"))
    return CocoImage(image_id, name, width, height, problem)


def _path_of(url: str) -> str:
    """The path of a URL, without its query; the text itself where it cannot be parsed."""
    try:
        return urlsplit(url).path
    except ValueError:
        return url.split("?", 1)[0]


def id_text(value: Any) -> str:
    """An id as text: a number and the text of it are one id. "" for what is no id."""
    if isinstance(value, bool):
        return ""
    if isinstance(value, float):
        return str(int(value)) if math.isfinite(value) and value.is_integer() else ""
    if isinstance(value, int):
        return str(value) if value.bit_length() < 256 else ""
    return storable(value.strip()) if isinstance(value, str) else ""


def _marked_duplicates(images: list[CocoImage]) -> Iterator[CocoImage]:
    """An id that stands for two different files belongs to neither: nobody knows whose the captions are."""
    names: dict[str, set[str]] = {}
    for image in images:
        names.setdefault(image.id, set()).add(image.file_name)
    for image in images:
        if image.id and not image.problem and len(names[image.id]) > 1:
            others = ", ".join(_short(n) for n in sorted(names[image.id] - {image.file_name})[:2])
            detail = f"duplicate_id: id {_short(image.id)} is also that of {others}"
            yield CocoImage(image.id, image.file_name, image.width, image.height, detail)
        else:
            yield image


class _Ids:
    """Which image an annotation's id means: the same text, else the same number (`"000042"` and 42)."""

    def __init__(self, images: tuple[CocoImage, ...]):
        self._known = {image.id for image in images if image.id}
        numbers: dict[int, set[str]] = {}
        for text in self._known:
            if (number := _integer(text)) is not None:
                numbers.setdefault(number, set()).add(text)
        self._numbers = {number: next(iter(t)) for number, t in numbers.items() if len(t) == 1}

    def of(self, value: Any) -> str:
        """The image's id; the annotation's own where there is no such image; "" for what is no id."""
        text = id_text(value)
        if text in self._known or not text:
            return text
        number = _integer(text)
        return text if number is None else self._numbers.get(number, text)


def _add_annotation(found: Coco, ids: _Ids, record: Any, position: int) -> None:
    if not isinstance(record, dict):
        return found._skip("annotations that are no objects", f"annotations[{position}] {_shown(record)}")
    image_id = ids.of(record.get("image_id"))
    name = f"annotation {_short(id_text(record.get('id')) or f'[{position}]')}"
    if not image_id:
        return found._skip("annotations without an image_id", name)
    captions = captions_of(record.get("caption"))
    if captions:
        found.captions.setdefault(image_id, []).extend(captions)
    elif "caption" in record:
        found.captions.setdefault(image_id, [])
        found._skip("annotations whose caption is blank or no text", name)
    if "bbox" in record:
        box = _box(record["bbox"])
        if box is None:
            found._skip("annotations whose bbox is no box", name)
        else:
            category = _integer(record.get("category_id"))
            found.boxes.setdefault(image_id, []).append(
                CocoBox(
                    id_text(record.get("id")),
                    box,
                    -1 if category is None else category,
                    bool(record.get("iscrowd")),
                )
            )
    elif "caption" not in record:
        found._skip("annotations without a caption or a bbox", name)


def _box(value: Any) -> tuple[float, float, float, float] | None:
    if not isinstance(value, list) or len(value) != 4:
        return None
    numbers = [_number(v) for v in value]
    if any(n is None for n in numbers):
        return None
    x, y, width, height = (float(n) for n in numbers if n is not None)
    return (x, y, width, height) if width > 0 and height > 0 else None


def _number(value: Any) -> float | None:
    """A finite number, or None."""
    if isinstance(value, bool) or not isinstance(value, (int, float)):
        return None
    try:
        number = float(value)
    except OverflowError:
        return None
    return number if math.isfinite(number) else None


def _integer(value: Any) -> int | None:
    if isinstance(value, str):
        text = value.strip()
        return int(text) if re.fullmatch(r"-?[0-9]{1,40}", text) else None
    number = _number(value)
    return int(value) if number is not None and number.is_integer() else None


def _pixels(value: Any) -> int:
    number = _integer(value)
    return number if number is not None and 0 < number < 1 << 31 else 0


def _shown(value: Any) -> str:
    return _short(storable(repr(value)[:200]))


def _short(text: str) -> str:
    return text if len(text) <= 60 else text[:57] + "..."
