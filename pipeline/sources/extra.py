"""What of a foreign record travels into the sample's JSON because `source.extra` names it."""

from __future__ import annotations

import json
import math
from collections.abc import Mapping, Sequence
from datetime import date, datetime, time
from decimal import Decimal
from typing import Any

from concept_pool.captions import parse_json, storable

#: Characters of a text, values of a list or object, and how deep they are followed: an index is kept small.
MAX_CHARS = 4096
MAX_VALUES = 256
MAX_DEPTH = 4


def extra_of(record: Mapping[str, Any], names: Sequence[str]) -> str:
    """A JSON object of the named values that the record has, in the order of `names`; "" without names. Never raises.

    Numbers that are not finite, bytes and unknown types are left out, as None is.
    """
    if not names:
        return ""
    found = {name: _value(record[name], MAX_DEPTH) for name in names if name in record}
    return json.dumps({k: v for k, v in found.items() if v is not None}, ensure_ascii=False, allow_nan=False)


def extra_of_json(document: bytes | None, names: Sequence[str]) -> str:
    """`extra_of` of a JSON member; of none, or one that is no object, an empty object."""
    if not names:
        return ""
    try:
        record = parse_json(document) if document is not None else {}
    except ValueError:
        record = {}
    return extra_of(record if isinstance(record, dict) else {}, names)


def _value(value: Any, depth: int) -> Any:
    """A foreign value as JSON has it; None for what is left out."""
    if isinstance(value, str):
        return storable(value)[:MAX_CHARS]
    if isinstance(value, bool):
        return value
    if isinstance(value, int):
        return value if value.bit_length() <= 64 else None
    if isinstance(value, (float, Decimal)):
        return float(value) if math.isfinite(value) else None
    if isinstance(value, (date, datetime, time)):
        return value.isoformat()
    if isinstance(value, (list, tuple)) and depth:
        return [_value(v, depth - 1) for v in value[:MAX_VALUES]]
    if isinstance(value, Mapping) and depth:
        pairs = list(value.items())[:MAX_VALUES]
        return {storable(str(k))[:MAX_CHARS]: _value(v, depth - 1) for k, v in pairs}
    return None
