"""Where everything lies in a dataset's folder: the only place that spells its file names (docs/format.md)."""

from __future__ import annotations

import re
from dataclasses import dataclass

import storage

FORMAT_VERSION = 2

#: Folders that this program writes into, "" being the dataset's own. Unfinished files are swept from all of them.
FOLDERS = (
    "",
    "shards",
    "index",
    "manifest",
    "concept_pool",
    "plan",
    "plan/units",
    "plan/index",
    "plan/counts",
    "plan/hashes",
    "plan/keys",
    "corpus",
)
POOL_FILES = ("concepts.parquet", "rejected.parquet", "pool.json", "text_embeddings.safetensors")
_PART = r"\d{6,}-[0-9a-f]{12}"
_OURS = re.compile(
    rf"""shards/{_PART}\.tar | index/{_PART}\.parquet | manifest/{_PART}\.json
    | plan/(units|parts|frequent)\.parquet | plan/plan\.json | plan/units/\d+\.json
    | plan/index/\d+\.parquet | plan/counts/(\d+|merged-\d+-\d+)\.parquet
    | plan/hashes/(\d+|first-\d+)\.parquet | plan/keys/([a-z0-9-]+-)?(scattered|repeated|found)-\d+-[0-9a-f]{{12}}
    | concept_pool/({"|".join(map(re.escape, POOL_FILES))}|embeddings\.json|classifier\.(safetensors|json))
    | corpus/({_PART}|state)\.safetensors
    | (manifest|rejects|duplicates)\.parquet | fingerprint\.json | summary\.json | settings\.yaml | images\.json
    | columns/[a-z0-9][a-z0-9_-]*/(({_PART}|files)\.parquet|attachment\.json)""",
    re.VERBOSE,
)


def is_ours(name: str) -> bool:
    """Whether a dataset may hold a file of this name (relative to its folder): nothing else is ever removed."""
    return bool(_OURS.fullmatch(name)) or name.rsplit("/", 1)[-1].startswith(storage.TEMPORARY)


@dataclass(frozen=True)
class Layout:
    """The files of the dataset at `url` (an absolute path or a URL)."""

    url: str

    def file(self, name: str) -> str:
        """A file or folder by its name relative to the dataset."""
        return storage.join(self.url, name) if name else self.url

    def shard(self, part: str) -> str:
        return self.file(f"shards/{part}.tar")

    def index(self, part: str) -> str:
        """The index of a part's shard."""
        return self.file(f"index/{part}.parquet")

    def row(self, part: str) -> str:
        """The manifest row of a part."""
        return self.file(f"manifest/{part}.json")

    def pool_file(self, name: str) -> str:
        return self.file(f"concept_pool/{name}")

    @property
    def unit_records(self) -> str:
        """The folder of the records of indexed units."""
        return self.file("plan/units")

    def unit_record(self, unit: int) -> str:
        return self.file(f"plan/units/{unit:06d}.json")

    def unit_index(self, unit: int) -> str:
        return self.file(f"plan/index/{unit:06d}.parquet")

    def unit_counts(self, unit: int) -> str:
        return self.file(f"plan/counts/{unit:06d}.parquet")

    def merged_counts(self, level: int, group: int) -> str:
        return self.file(f"plan/counts/merged-{level}-{group}.parquet")

    def unit_hashes(self, unit: int) -> str:
        """The hashes of a unit's images, where duplicates are looked for."""
        return self.file(f"plan/hashes/{unit:06d}.parquet")

    @property
    def keys(self) -> str:
        """The folder of what is written while units are compared with each other; empty afterwards."""
        return self.file("plan/keys")

    def scattered(self, name: str, group: int, version: str) -> str:
        """The records of a group of units, for a search of that name."""
        return self.file(f"plan/keys/{name}-scattered-{group:06d}-{version}")

    def found(self, name: str, share: int, version: str) -> str:
        """What a search found in a share of the records."""
        return self.file(f"plan/keys/{name}-found-{share:06d}-{version}")

    @property
    def duplicates(self) -> str:
        """Who is whose duplicate; where duplicates were looked for."""
        return self.file("duplicates.parquet")

    @property
    def frequent(self) -> str:
        """Captions that too many samples have; where `filters.max_repeats` is a rule."""
        return self.file("plan/frequent.parquet")

    def regions(self, part: str) -> str:
        """What the corpus pass reads of a part; there while it runs."""
        return self.file(f"corpus/{part}.safetensors")

    @property
    def corpus_state(self) -> str:
        """The corpus pass after its last round; there while it runs."""
        return self.file("corpus/state.safetensors")

    @property
    def corpus_report(self) -> str:
        """How the fit of the classifier went."""
        return self.pool_file("classifier.json")

    @property
    def classifier(self) -> str:
        return self.pool_file("classifier.safetensors")

    @property
    def pool(self) -> str:
        return self.file("concept_pool")

    @property
    def embeddings_record(self) -> str:
        return self.pool_file("embeddings.json")

    @property
    def units(self) -> str:
        return self.file("plan/units.parquet")

    @property
    def parts(self) -> str:
        return self.file("plan/parts.parquet")

    @property
    def plan(self) -> str:
        return self.file("plan/plan.json")

    @property
    def manifest(self) -> str:
        return self.file("manifest.parquet")

    @property
    def rejects(self) -> str:
        return self.file("rejects.parquet")

    @property
    def fingerprint(self) -> str:
        return self.file("fingerprint.json")

    @property
    def settings(self) -> str:
        return self.file("settings.yaml")

    def columns(self, name: str, part: str) -> str:
        """A user's columns of a part's samples; `part` may be "files": what files there are."""
        return self.file(f"columns/{name}/{part}.parquet")

    def attachment(self, name: str) -> str:
        """What a user's columns are; makes them exist."""
        return self.file(f"columns/{name}/attachment.json")

    @property
    def images(self) -> str:
        """Where the images lie, of a dataset that holds labels alone."""
        return self.file("images.json")

    @property
    def summary(self) -> str:
        return self.file("summary.json")
