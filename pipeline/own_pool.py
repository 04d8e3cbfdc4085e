"""Which pool a dataset's committed parts were made with: one that is damaged, lost or another dataset's is made anew, and
is theirs if it leads to the fingerprint that their rows have."""

from __future__ import annotations

import contextlib
import logging
from collections.abc import Iterator
from typing import Any

from pipeline import fingerprint
from pipeline.dataset import concepts, manifest
from pipeline.dataset.damage import DamagedDataset
from pipeline.dataset.layout import POOL_FILES, Layout
from pipeline.dataset.put_back import put_back

log = logging.getLogger("regionpairs")

#: What mends a dataset whose pool cannot be made again.
ADVICE = (
    "put back the concept_pool/ that the parts were made with, or give another --out: the same command makes the dataset "
    "there"
)


def found(layout: Layout, components: dict[str, Any], templates: str = "") -> dict[str, Any] | None:
    """The record of the pool that is there; None where there is none that is whole and the committed parts' own.

    templates: the hash of the prompt templates; with it a record that is lost or another's is written anew, where rows say
    that all other files are theirs.
    """
    record = concepts.embeddings_record(layout)
    if record is not None:
        if _says(layout, components, record) is not False:
            return record
        log.warning("concept pool: it is not the one that the committed parts were made with")
    again = concepts.described(layout, templates) if templates else None
    if again is None or not _says(layout, components, again):
        return None
    log.warning("concept_pool/embeddings.json is missing, damaged or another dataset's; it is written anew")
    concepts.write_record(layout, again)
    return again


def check(layout: Layout, components: dict[str, Any], record: dict[str, Any]) -> dict[str, Any]:
    """The record. Raises DamagedDataset where parts are committed, and none was made with this pool and embeddings."""
    if _says(layout, components, record) is False:
        raise DamagedDataset(
            _other(
                layout, "the text embeddings", f"they give fingerprint {_fingerprint(components, record)}"
            ),
            ADVICE,
        )
    return record


@contextlib.contextmanager
def kept(layout: Layout) -> Iterator[None]:
    """The pool that lies there comes back where the one that is made turns out not to be the committed parts'."""
    if next(manifest.made_with(layout), None) is None:
        yield
        return
    names = (*POOL_FILES, "embeddings.json")  # the record comes last
    with put_back([layout.pool_file(name) for name in names], DamagedDataset):
        yield


def check_pool(layout: Layout, pool_hash: str) -> None:
    """Raises DamagedDataset where parts are committed, and none was made with a pool of this hash."""
    pools = [row["pool"] for row in manifest.made_with(layout)]
    if pools and pool_hash not in pools:
        raise DamagedDataset(
            _other(layout, "the concept pool", f"{pools[0][:16]}, not {pool_hash[:16]}"), ADVICE
        )


def _other(layout: Layout, what: str, which: str) -> str:
    return f"{layout.url}: {what} that this command makes is not what its parts were made with ({which})"


def _fingerprint(components: dict[str, Any], record: dict[str, Any]) -> str:
    return fingerprint.identity(components, record)["fingerprint"]


def _says(layout: Layout, components: dict[str, Any], record: dict[str, Any]) -> bool | None:
    return manifest.says(layout, _fingerprint(components, record))
