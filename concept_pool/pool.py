"""The concept pool: a versioned vocabulary with counts, ids, aliases and examples, as an artifact on disk.

`concepts.parquet` (schema `CONCEPTS`) holds the concepts, classes first; `rejected.parquet` (schema
`REJECTED`) the words that are no concepts, with reasons; `pool.json` the hash, the settings, totals and what
it was made with.
"""

from __future__ import annotations

import hashlib
import io
import json
import os
from collections.abc import Iterable, Sequence
from dataclasses import dataclass, field
from typing import Any

import fsspec
import pyarrow as pa
import pyarrow.parquet as pq

from concept_pool.count import Counts, tails
from concept_pool.lexicon import Lexicon, read_names
from concept_pool.settings import PoolSettings

POOL_VERSION = 1
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
        self.hash = _content_hash(self.table, len(self.names))

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
        ids = set()
        for name in names:
            for candidate in (name, *tails(name, self.opaque)):
                found = self._ids.get(candidate)
                if found is not None:
                    ids.add(found)
                    break
        return sorted(ids)

    def save(self, url: str) -> None:
        """Write concepts.parquet, rejected.parquet and, last, pool.json into the folder `url`; equal pools,
        equal bytes.
        """
        fs, root = fsspec.core.url_to_fs(url)
        fs.makedirs(root, exist_ok=True)
        for name, table in (("concepts.parquet", self.table), ("rejected.parquet", self.rejected)):
            sink = io.BytesIO()
            pq.write_table(table, sink, compression="zstd")
            _replace(fs, f"{root}/{name}", sink.getvalue())
        description = {"pool_version": POOL_VERSION, "hash": self.hash, "n_classes": len(self), **self.about}
        _replace(fs, f"{root}/pool.json", (json.dumps(description, indent=2, sort_keys=True) + "\n").encode())

    @classmethod
    def load(cls, url: str) -> ConceptPool:
        """The pool that `save` wrote. ValueError if its content is not what the hash in pool.json says."""
        fs, root = fsspec.core.url_to_fs(url)
        tables = []
        for name, schema in (("concepts.parquet", CONCEPTS), ("rejected.parquet", REJECTED)):
            with fs.open(f"{root}/{name}", "rb") as file:
                tables.append(pq.read_table(file).cast(schema))
        with fs.open(f"{root}/pool.json", "rb") as file:
            about = json.loads(file.read())
        version, expected, _ = about.pop("pool_version"), about.pop("hash"), about.pop("n_classes")
        if version != POOL_VERSION:
            raise ValueError(
                f"{url} is a concept pool of version {version}; this code reads version {POOL_VERSION}"
            )
        pool = cls(tables[0], tables[1], about)
        if pool.hash != expected:
            raise ValueError(
                f"{url}: concepts.parquet does not have the hash that pool.json names ({expected})"
            )
        return pool


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


def _content_hash(table: pa.Table, n_classes: int) -> str:
    digest = hashlib.sha256(f"concept pool {POOL_VERSION} {n_classes}\n".encode())
    for batch in table.to_batches(max_chunksize=65536):
        for row in batch.to_pylist():
            digest.update(json.dumps(row, sort_keys=True, ensure_ascii=True).encode() + b"\n")
    return digest.hexdigest()


def _replace(fs: Any, path: str, content: bytes) -> None:
    """Write a file as a whole: a local one under another name first (an object store's PUT is atomic by
    itself).
    """
    if "file" not in (fs.protocol if isinstance(fs.protocol, tuple) else (fs.protocol,)):
        fs.pipe_file(path, content)
        return
    temporary = f"{path}.tmp-{os.getpid()}"
    with open(temporary, "wb") as file:
        file.write(content)
        file.flush()
        os.fsync(file.fileno())
    os.replace(temporary, path)
