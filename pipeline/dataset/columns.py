"""A user's columns beside a dataset: which are attached, what they say of a part's samples, whether they are whole.

`columns/NAME/<part>.parquet` holds the rows of a part's samples, `files.parquet` the sha256 of each of these files, and
`attachment.json`, written last, makes the attachment exist (docs/format.md). pipeline/attach.py writes them.
"""

from __future__ import annotations

import hashlib
import json
import re
from collections.abc import Iterator
from dataclasses import dataclass, field
from typing import Any

import pyarrow as pa
import pyarrow.parquet as pq

import storage
from pipeline.dataset.layout import Layout

NAME = re.compile(r"[a-z0-9][a-z0-9_-]{0,63}")
#: The files of an attachment.
FILES = pa.schema([("part", pa.string()), ("sha256", pa.string())])


@dataclass(frozen=True)
class Attachment:
    """Columns under a namespace.

    dataset: fingerprint of the dataset that they belong to. source_sha256: of the file that they came from.
    by_region: a row is of a region, not of a sample. columns: their names. sha256: part -> of its file.
    """

    name: str
    dataset: str
    source_sha256: str
    by_region: bool
    columns: list[str]
    counts: dict[str, int]
    sha256: dict[str, str] = field(repr=False)

    def of_part(self, layout: Layout, part: str) -> dict[str, Any]:
        """Key -> column -> value, of the samples of a part that have any; by region: key -> region -> column -> value.

        Raises ValueError for a file that is missing or not what it was.
        """
        if part not in self.sha256:
            return {}
        url = layout.columns(self.name, part)
        try:
            data = storage.read_bytes(url)
        except FileNotFoundError as e:
            raise ValueError(
                f"columns/{self.name}/{part}.parquet is missing: attach {self.name} again"
            ) from e
        if hashlib.sha256(data).hexdigest() != self.sha256[part]:
            raise ValueError(f"columns/{self.name}/{part}.parquet is damaged: attach {self.name} again")
        found: dict[str, Any] = {}
        for row in pq.ParquetFile(storage.arrow_file(data)).read().to_pylist():
            key = row.pop("key")
            if self.by_region:
                found.setdefault(key, {})[row.pop("region")] = row
            else:
                found[key] = row
        return found


def names(layout: Layout) -> list[str]:
    """The namespaces that there are, finished or not, sorted."""
    return sorted(storage.children(layout.file("columns"))[1])


def read(layout: Layout, name: str, fingerprint: str) -> Attachment:
    """The attachment of that name. Raises ValueError where there is none, or one that is damaged or of another dataset."""
    url = layout.attachment(name)
    try:
        document = json.loads(storage.read_bytes(url))
        files = document.pop("files_sha256")
        data = storage.read_bytes(layout.columns(name, "files"))
        if hashlib.sha256(data).hexdigest() != files:
            raise ValueError("files.parquet is another")
        table = pq.ParquetFile(storage.arrow_file(data)).read().cast(FILES)
        sha256 = dict(zip(table["part"].to_pylist(), table["sha256"].to_pylist(), strict=True))
        found = Attachment(**document, sha256=sha256)
    except FileNotFoundError as e:
        there = ", ".join(names(layout)) or "none"
        raise ValueError(
            f"{layout.url} has no columns '{name}', or only half of them (there: {there})"
        ) from e
    except (ValueError, KeyError, TypeError, pa.ArrowException) as e:
        raise ValueError(f"columns/{name}: damaged: {' '.join(str(e).split())[:200]}; attach it again") from e
    if found.dataset != fingerprint:
        raise ValueError(f"columns/{name} were attached to {found.dataset}, this dataset is {fingerprint}")
    return found


def faults(layout: Layout, fingerprint: str | None) -> Iterator[str]:
    """What is missing, damaged or foreign among the attached columns."""
    for name in names(layout):
        try:
            found = read(layout, name, fingerprint or "")
        except ValueError as e:
            yield f"damaged: {e}"
            continue
        there = {file.removesuffix(".parquet") for file in storage.names(layout.file(f"columns/{name}"))}
        for part in sorted(there - {*found.sha256, "files", "attachment.json"}):
            yield f"foreign: columns/{name}/{part}"
        for part in sorted(found.sha256):
            try:
                found.of_part(layout, part)
            except (ValueError, pa.ArrowException) as e:
                yield f"{'missing' if part not in there else 'damaged'}: {e}"
