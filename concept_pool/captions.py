"""What the captions of a sample are: the one rule for every reader of tars, tables, JSON and text.

Foreign data has any type. `captions_of` turns a value of any type into a list of captions and never raises; the other
functions say which part of a text member, a JSON member or a table's row is such a value.
"""

from __future__ import annotations

import codecs
import json
import math
import re
from collections.abc import Iterable, Iterator, Mapping
from decimal import Decimal
from typing import Any

#: Names of JSON keys and columns that hold captions, in the order in which they are read. Case does not count.
CAPTION_FIELDS = ("captions", "caption", "text")
#: Keys of an object that stands for one caption, e.g. `{"raw": "a dog", "tokens": [...]}`.
_OBJECT_FIELDS = (*CAPTION_FIELDS, "raw", "sentence", "sentences")
#: Captions of one image that are read, and characters of one caption; the rest is cut off.
MAX_CAPTIONS = 256
MAX_CAPTION_CHARS = 8192
#: Lists and objects inside each other that are followed.
MAX_DEPTH = 8
#: Values of one field that are looked at, so that a list of a million numbers costs no more than a short one.
MAX_VALUES = 4096

_BOMS = (
    (codecs.BOM_UTF8, "utf-8"), (codecs.BOM_UTF32_LE, "utf-32-le"), (codecs.BOM_UTF32_BE, "utf-32-be"),
    (codecs.BOM_UTF16_LE, "utf-16-le"), (codecs.BOM_UTF16_BE, "utf-16-be"),
)  # fmt: skip
#: Control characters but tab and line ends, and the byte order mark. They are no text, and a terminal obeys some.
_CONTROL = re.compile("[\x00-\x08\x0e-\x1f\x7f-\x84\x86-\x9f\ufeff]")


def captions_of(value: Any) -> list[str]:
    """The captions in a value of any type, as text that can be stored; empty where there are none. Never raises.

    A text is a caption; bytes are text in UTF-8 (or what their byte order mark says). A number is a caption, NaN and
    booleans are not. Of a list each item counts. Of an object its field `captions`, `caption`, `text`, `raw` or
    `sentence` counts, and where it has none of these, each value that is a text, a list or an object (`{"en": ...,
    "fr": ...}`). numpy and Arrow values count as what they hold. Blank captions are dropped.
    """
    if type(value) is str and len(value) <= MAX_CAPTION_CHARS and value.isascii() and value.isprintable():
        plain = value.strip()  # most captions; all that follows would leave them as they are
        return [plain] if plain else []
    found: list[str] = []
    budget = iter(range(MAX_VALUES))
    try:
        for text in _texts(value, MAX_DEPTH, budget):
            caption = storable(text[: 4 * MAX_CAPTION_CHARS]).strip()[:MAX_CAPTION_CHARS].rstrip()
            if caption and not is_blank(caption):
                found.append(caption)
                if len(found) == MAX_CAPTIONS:
                    break
    except MemoryError:
        raise
    except Exception:  # noqa: BLE001 - a foreign object may fail in any way; what it gave before counts
        pass
    return found


def storable(text: str) -> str:
    """Text that any file can hold: halves of surrogate pairs are joined or replaced, control characters become blanks."""
    if not text.isascii():
        try:
            text.encode()
        except UnicodeEncodeError:
            text = text.encode("utf-16-le", "surrogatepass").decode("utf-16-le", "replace")
    elif text.isprintable():
        return str(text)
    return _CONTROL.sub(" ", text)


def is_blank(text: str) -> bool:
    """Whether nothing of the text can be seen: white space, zero-width and other invisible characters alone."""
    return not any(c.isprintable() and not c.isspace() for c in text)


def decode_text(data: bytes) -> str:
    """Bytes as text: by their byte order mark, which goes, else as UTF-8; what is neither becomes U+FFFD. Never raises."""
    for mark, encoding in _BOMS:
        if data.startswith(mark):
            return data[len(mark) :].decode(encoding, "replace")
    return data.decode("utf-8", "replace")


def captions_of_text(data: bytes) -> list[str]:
    """The captions of a text member (`.txt`, `.caption`): each line that is not blank."""
    return captions_of(decode_text(data).splitlines())


def captions_of_record(record: Mapping[Any, Any], field: str | None = None) -> list[str]:
    """The captions of a JSON object or a table's row: those of all caption fields, each once, in the fields' order.

    field: read this one alone.
    """
    return list(dict.fromkeys(c for name in caption_fields(record, field) for c in captions_of(record[name])))


def caption_fields(names: Iterable[Any], field: str | None = None) -> list[Any]:
    """Those of `names` that hold captions: `field` alone where it is given, else what `CAPTION_FIELDS` lists."""
    if field:
        return [name for name in names if name == field]
    rank = {name: i for i, name in enumerate(CAPTION_FIELDS)}
    found = [name for name in names if isinstance(name, str) and name.lower() in rank]
    return sorted(found, key=lambda name: rank[name.lower()])


def captions_of_members(
    text: bytes | None, document: bytes | None, field: str | None = None
) -> tuple[list[str], bool]:
    """The captions of a tar's sample, and whether its JSON can be read. Those of the text go first; each counts once.

    A text that is as a whole one of the JSON's captions (img2dataset writes both) adds nothing, whatever its lines.
    """
    read: Any = None
    readable = True
    if document is not None:
        try:
            read = parse_json(document)
        except ValueError:
            readable = False
    if isinstance(read, Mapping):
        of_json = captions_of_record(read, field)
    elif field is None and isinstance(read, (str, list)):
        of_json = captions_of(read)
    else:
        of_json = []
    of_text = captions_of_text(text) if text is not None else []
    if of_text and captions_of(decode_text(text or b""))[:1] == of_json[:1]:
        of_text = []
    return list(dict.fromkeys([*of_text, *of_json]))[:MAX_CAPTIONS], readable


def parse_json(data: bytes) -> Any:
    """JSON by RFC 8259, in UTF-8, UTF-16 or UTF-32, with a byte order mark or without. Raises ValueError alone.

    The message is short: it names the place and quotes nothing. Bytes that are no text are replaced, not refused.
    """
    if not data.strip():
        raise ValueError("it is empty")
    if data.startswith(tuple(mark for mark, _ in _BOMS)):
        text = decode_text(data)
    else:
        text = data.decode(json.detect_encoding(data[:4]), "replace")
    try:
        return json.loads(text)
    except json.JSONDecodeError as e:
        raise ValueError(f"{e.msg} at line {e.lineno}, column {e.colno}") from None
    except RecursionError:
        raise ValueError("too many lists or objects inside each other") from None
    except ValueError as e:  # a number of more digits than Python converts
        raise ValueError(str(e)[:100]) from None


def _texts(value: Any, depth: int, budget: Iterator[int]) -> Iterator[str]:
    """The texts in a value, in order. `budget` yields once for each value that may still be looked at."""
    value = _plain(value)
    if isinstance(value, str):
        yield value
    elif isinstance(value, (bytes, bytearray)):
        yield decode_text(bytes(value[: 8 * MAX_CAPTION_CHARS]))
    elif isinstance(value, bool) or value is None:
        return
    elif isinstance(value, (int, float, Decimal)):
        yield from _number(value)
    elif depth and isinstance(value, Mapping):
        fields = [name for name in value if isinstance(name, str) and name.lower() in _OBJECT_FIELDS]
        for name in fields or value:
            item = _plain(value[name])
            if not isinstance(item, (bool, int, float, Decimal)) and next(budget, None) is not None:
                yield from _texts(item, depth - 1, budget)
    elif depth and isinstance(value, (list, tuple)):
        for item in value:
            if next(budget, None) is None:
                return
            yield from _texts(item, depth - 1, budget)


def _number(value: float | Decimal) -> Iterator[str]:
    """A finite number as text. An integer of thousands of digits, which Python does not print, is no caption."""
    if isinstance(value, int):
        if value.bit_length() < 256:
            yield str(value)
    elif isinstance(value, Decimal):
        if value.is_finite():
            yield str(value)
    elif math.isfinite(value):
        yield str(int(value)) if value.is_integer() and abs(value) < 1e15 else str(value)


def _plain(value: Any) -> Any:
    """numpy and Arrow values, and sets, as what Python has for them; anything else as it is."""
    if isinstance(value, memoryview):
        return value.tobytes()
    if isinstance(value, (set, frozenset)):
        return sorted(value, key=str)
    for name in ("as_py", "tolist", "to_pylist"):
        if hasattr(value, name):
            return getattr(value, name)()
    return value
