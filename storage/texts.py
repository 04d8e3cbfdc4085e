"""Small text and JSON files, with errors of one short line that name the file."""

from __future__ import annotations

import json
from typing import Any

from storage.files import read_bytes
from storage.location import redacted


def read_text(url: str) -> str:
    """A UTF-8 text file, with or without a byte order mark, line ends as "\\n". ValueError if it is not UTF-8."""
    data = read_bytes(url)
    try:
        text = data.decode("utf-8-sig")
    except UnicodeDecodeError as error:
        line = data.count(b"\n", 0, error.start) + 1
        raise ValueError(f"{redacted(url)}: not UTF-8 text: line {line}, byte {error.start}") from None
    return text.replace("\r\n", "\n").replace("\r", "\n")


def read_json(url: str) -> Any:
    """The value of a JSON file. ValueError if it is damaged."""
    text = read_text(url)
    try:
        return json.loads(text)
    except json.JSONDecodeError as error:
        raise ValueError(f"{redacted(url)}: not valid JSON: {error.msg}, line {error.lineno}") from None
    except (RecursionError, ValueError):  # nested without end; a number of 5,000 digits
        raise ValueError(f"{redacted(url)}: not JSON of a reasonable size") from None
