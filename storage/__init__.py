"""Files by path or URL (local, s3://, gs://, ...): the one place that reads, lists and writes them.

    import storage

    storage.read_bytes(storage.join("s3://bucket/pairs", "fingerprint.json"))

Paths and URLs are plain strings; what a user gives is parsed once, by `location`. Reading never answers from a
cache, and tries again where the infrastructure failed (`Unavailable` at last); writing is atomic; `Claim` makes sure
that one program at a time writes into a folder.
"""

from storage.atomic import (
    atomic_write,
    remove_empty_folders,
    store_clock,
    sweep,
    temporary_name,
    write_bytes,
    write_new,
)
from storage.claim import CLAIMS, Claim, Claimed, ClaimLost, claim_token, require_claim
from storage.copying import link_or_copy
from storage.files import (
    TEMPORARY,
    FileStat,
    exists,
    is_folder,
    is_litter,
    read_bytes,
    remove,
    size,
    stat,
)
from storage.listings import children, entries, listing, tree, tree_entries
from storage.location import (
    absolute,
    filesystem,
    inside,
    is_local,
    join,
    local_folder,
    location,
    protocol,
    redacted,
    redacted_text,
    redacted_values,
    relative,
)
from storage.many import names, sizes
from storage.patterns import expand
from storage.reading import open_read, sha256
from storage.retries import RETRIES, retried
from storage.tables import arrow_file, open_parquet, read_table
from storage.texts import read_json, read_text
from storage.threads import map_threads
from storage.verdicts import Changed, Refusal, ShortRead, Unavailable

__all__ = [
    "CLAIMS",
    "RETRIES",
    "TEMPORARY",
    "Changed",
    "Claim",
    "ClaimLost",
    "Claimed",
    "FileStat",
    "Refusal",
    "ShortRead",
    "Unavailable",
    "absolute",
    "arrow_file",
    "atomic_write",
    "children",
    "claim_token",
    "entries",
    "exists",
    "expand",
    "filesystem",
    "inside",
    "is_folder",
    "is_litter",
    "is_local",
    "join",
    "link_or_copy",
    "listing",
    "local_folder",
    "location",
    "map_threads",
    "names",
    "open_parquet",
    "open_read",
    "protocol",
    "read_bytes",
    "read_json",
    "read_table",
    "read_text",
    "redacted",
    "redacted_text",
    "redacted_values",
    "relative",
    "remove",
    "remove_empty_folders",
    "require_claim",
    "retried",
    "sha256",
    "size",
    "sizes",
    "stat",
    "store_clock",
    "sweep",
    "temporary_name",
    "tree",
    "tree_entries",
    "write_bytes",
    "write_new",
]
