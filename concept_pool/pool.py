"""The concept pool: a versioned vocabulary with counts, ids, aliases and examples, as an artifact on disk.

`concepts.parquet` (schema `CONCEPTS`) holds the concepts, classes first; `rejected.parquet` (schema
`REJECTED`) the words that are no concepts, with reasons; `pool.json` the hash, the settings, totals and what
it was made with.
"""

from __future__ import annotations

import hashlib
import io
import json
from collections.abc import Iterable, Sequence
from dataclasses import dataclass, field
from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc
import pyarrow.parquet as pq

import storage
from concept_pool.count import Counts, tails
from concept_pool.lexicon import Lexicon, read_names
from concept_pool.settings import PoolSettings

POOL_VERSION = 2
_STRINGS = pa.list_(pa.field("item", pa.string(), nullable=False))

#: One row a concept. The classes are the first rows: `concept_id` is the row number, by falling `n_images`,
#: then name (names added by `extend` follow the classes they were added to); the concepts below the threshold
#: come after them.
CONCEPTS = pa.schema(
    [
        pa.field("concept_id", pa.int32(), nullable=False),
        pa.field("name", pa.string(), nullable=False),
        pa.field("aliases", _STRINGS, nullable=False),
        pa.field("n_images", pa.int64(), nullable=False),  # images that name it
        pa.field("n_mentions", pa.int64(), nullable=False),  # captions that name it
        pa.field("n_images_within", pa.int64(), nullable=False),  # ... alone or at the end of a longer name
        pa.field("meets_threshold", pa.bool_(), nullable=False),
        pa.field("is_class", pa.bool_(), nullable=False),  # meets the threshold or was added by name
        pa.field("examples", _STRINGS, nullable=False),
    ]
)

REJECTED = pa.schema(
    [
        pa.field("word", pa.string(), nullable=False),
        pa.field("reason", pa.string(), nullable=False),
        pa.field("n_mentions", pa.int64(), nullable=False),
    ]
)


@dataclass
class ConceptPool:
    """A vocabulary. `table` has schema `CONCEPTS`, `rejected` schema `REJECTED`; `about` is what pool.json
    says of its making.
    """

    table: pa.Table
    rejected: pa.Table
    about: dict[str, Any] = field(default_factory=dict)

    def __post_init__(self) -> None:
        classes = self.table.filter(self.table["is_class"])
        self.names: list[str] = classes["name"].to_pylist()
        self.opaque = frozenset(self.about.get("opaque", ()))
        self._ids = {
            alias: i
            for i, aliases in enumerate(classes["aliases"].to_pylist())
            for alias in reversed(aliases)
        }
        self._ids.update({name: i for i, name in enumerate(self.names)})
        self.hash = _content_hash(self.table, len(self.names), sorted(self.opaque))

    def __len__(self) -> int:
        return len(self.names)

    @classmethod
    def from_counts(cls, counts: Counts, settings: PoolSettings) -> ConceptPool:
        """The pool of a whole corpus's counts, with the user's `extra_names` among the classes."""
        lexicon = Lexicon.load(settings)
        extra = {lexicon.aliases.get(name, name) for name in read_names(settings.extra_names)}
        names = {*counts.images, *extra}
        is_class = {name: counts.images[name] >= settings.min_count or name in extra for name in names}
        order = sorted(names, key=lambda name: (not is_class[name], -counts.images[name], name))
        aliases = _aliases_by_name(lexicon.aliases)
        rows = [
            {
                "name": name,
                "aliases": aliases.get(name, []),
                "n_images": counts.images[name],
                "n_mentions": counts.mentions[name],
                "n_images_within": counts.within[name],
                "meets_threshold": counts.images[name] >= settings.min_count,
                "is_class": is_class[name],
                "examples": [caption for _, caption in counts.examples.get(name, ())],
            }
            for name in order
        ]
        rejected = [
            {"word": word, "reason": reason, "n_mentions": n}
            for (word, reason), n in sorted(counts.rejected.items(), key=lambda item: (-item[1], item[0]))
        ]
        about = {
            "n_images": counts.n_images,
            "n_captions": counts.n_captions,
            "min_count": settings.min_count,
            "attributes": settings.attributes,
            "lexicon": lexicon.hash,
            "opaque": sorted(lexicon.opaque),
        }
        return cls(concept_table(rows), pa.Table.from_pylist(rejected, REJECTED), about)

    def ids_of(self, names: Iterable[str]) -> list[int]:
        """Class ids of names, sorted and unique. An alias counts as its name; a name of several words that is
        no class
        counts as the class at its end ("ceramic sink" as "sink", but "hot dog" never as "dog"); others are
        dropped."""
        return sorted({found[0] for name in names if (found := self.class_of(name)) is not None})

    def class_of(self, name: str) -> tuple[int, int] | None:
        """The class that a name counts as (`ids_of`), and how many of the name's first words it lacks; None: no class."""
        for candidate in (name, *tails(name, self.opaque)):
            found = self._ids.get(candidate)
            if found is not None:
                return found, name.count(" ") - candidate.count(" ")
        return None

    def save(self, url: str) -> None:
        """Write concepts.parquet, rejected.parquet and, last, pool.json into the folder `url`; equal pools, equal bytes.

        A pool.json of another pool is removed first, so that a save that is killed leaves no pool rather than a
        mixture of two.
        """
        files = {}
        for name, table in (("concepts.parquet", self.table), ("rejected.parquet", self.rejected)):
            sink = io.BytesIO()
            pq.write_table(table, sink, compression="zstd")
            files[name] = sink.getvalue()
        description = {"pool_version": POOL_VERSION, "hash": self.hash, "n_classes": len(self), **self.about}
        text = (json.dumps(description, indent=2, sort_keys=True) + "\n").encode()
        last = storage.join(url, "pool.json")
        if _read_if_there(last) not in (None, text):
            storage.remove(last)
        for name, data in files.items():
            storage.write_bytes(storage.join(url, name), data)
        storage.write_bytes(last, text)

    @classmethod
    def load(cls, url: str) -> ConceptPool:
        """The pool that `save` wrote. FileNotFoundError if there is none, ValueError, naming the file, if one of its
        files is damaged or is not what the hash in pool.json says.
        """
        about = _description(url)
        expected = about.pop("hash")
        about.pop("pool_version")
        about.pop("n_classes", None)
        tables = []
        for name, schema in (("concepts.parquet", CONCEPTS), ("rejected.parquet", REJECTED)):
            file = storage.join(url, name)
            try:
                tables.append(_as_schema(storage.read_table(file), schema))
            except FileNotFoundError:
                raise FileNotFoundError(f"{storage.redacted(url)} is a concept pool without {name}") from None
            except pa.ArrowException as error:
                raise ValueError(
                    f"{storage.redacted(file)}: not a table of a concept pool: {error}"
                ) from None
        pool = cls(tables[0], tables[1], about)
        if pool.hash != expected:
            raise ValueError(
                f"{storage.redacted(url)}: concepts.parquet does not have the hash that pool.json names ({expected})"
            )
        return pool


def _read_if_there(url: str) -> bytes | None:
    try:
        return storage.read_bytes(url)
    except FileNotFoundError:
        return None


def _description(url: str) -> dict[str, Any]:
    """pool.json, checked as far as `load` needs it."""
    file = storage.join(url, "pool.json")
    data = _read_if_there(file)
    shown = storage.redacted(url)
    if data is None:
        raise FileNotFoundError(f"{shown} is no concept pool: it has no pool.json")
    try:
        about = json.loads(data)
    except (ValueError, RecursionError):
        raise ValueError(f"{storage.redacted(file)}: not valid JSON; the pool is damaged") from None
    if not isinstance(about, dict) or not {"pool_version", "hash"} <= about.keys():
        raise ValueError(f"{storage.redacted(file)}: not the description of a concept pool")
    if about["pool_version"] != POOL_VERSION:
        raise ValueError(
            f"{shown} is a concept pool of version {about['pool_version']}; this code reads version {POOL_VERSION}"
        )
    opaque = about.get("opaque", [])
    if not isinstance(opaque, list) or not all(isinstance(name, str) for name in opaque):
        raise ValueError(f"{storage.redacted(file)}: opaque is not a list of names")
    return about


def _as_schema(table: pa.Table, schema: pa.Schema) -> pa.Table:
    """The table with exactly this schema. Raises ArrowInvalid for other columns, types or nulls."""
    if table.column_names != schema.names:
        raise pa.ArrowInvalid(f"its columns are {', '.join(table.column_names)[:200]}")
    table = table.cast(schema)
    if any(column.null_count for column in table.columns):
        raise pa.ArrowInvalid("it holds nulls")
    return table


def concept_table(rows: Sequence[dict[str, Any]]) -> pa.Table:
    """`CONCEPTS` of rows in id order; the row number becomes `concept_id`."""
    columns = {name: [row[name] for row in rows] for name in CONCEPTS.names[1:]}
    columns["concept_id"] = list(range(len(rows)))
    arrays = [pa.array(columns[field.name], field.type) for field in CONCEPTS]
    return pa.Table.from_arrays(arrays, schema=CONCEPTS)


def _aliases_by_name(aliases: dict[str, str]) -> dict[str, list[str]]:
    found: dict[str, list[str]] = {}
    for alias, name in sorted(aliases.items()):
        found.setdefault(name, []).append(alias)
    return found


def _content_hash(table: pa.Table, n_classes: int, opaque: Sequence[str]) -> str:
    """sha256 over everything that decides ids: all columns, and the names that are no kind of their last word.

    Columns are hashed as their values and lengths, so that chunks, offsets and Arrow's version do not matter.
    """
    head = json.dumps(["concept pool", POOL_VERSION, n_classes, table.num_rows, list(opaque)])
    digest = hashlib.sha256(head.encode())
    for name in CONCEPTS.names:
        digest.update(name.encode() + b"\0")
        column = table[name].combine_chunks()
        chunks = column.chunks if isinstance(column, pa.ChunkedArray) else [column]
        for array in chunks:
            _hash_array(digest, array)
    return digest.hexdigest()


def _hash_array(digest: Any, array: pa.Array) -> None:
    if pa.types.is_list(array.type):
        _hash_array(digest, pc.list_value_length(array))
        _hash_array(digest, array.flatten())
    elif pa.types.is_string(array.type):
        _hash_array(digest, pc.binary_length(array))
        if len(array):
            offsets = np.frombuffer(array.buffers()[1], np.int32)[
                array.offset : array.offset + len(array) + 1
            ]
            digest.update(memoryview(array.buffers()[2] or b"")[offsets[0] : offsets[-1]])
    else:
        # Not `to_numpy`: where pandas is installed, it imports it, which takes longer than all of `verify`.
        values = np.asarray(array.to_pylist(), array.type.to_pandas_dtype())
        digest.update(np.ascontiguousarray(values, values.dtype.newbyteorder("<")).tobytes())
