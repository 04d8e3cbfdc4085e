"""Whose folder it is: one writer at a time, and one set of settings for good.

`.claim.json` says who writes now (`storage.Claim`); `fingerprint.json` says what the dataset is made with. Nothing is
written, swept or removed but under the claim, and nothing is removed but names that this program writes.
"""

from __future__ import annotations

import contextlib
import dataclasses
import hashlib
import json
import logging
from collections.abc import Callable, Iterator
from typing import Any

import yaml

import storage
from pipeline.dataset import manifest
from pipeline.dataset.damage import DamagedDataset
from pipeline.dataset.layout import FOLDERS, FORMAT_VERSION, Layout, is_ours

log = logging.getLogger("regionpairs")

#: Files that only a dataset with all parts committed has.
_AT_THE_END = ("manifest.parquet", "summary.json")


class Refused(ValueError):
    """The folder holds a dataset that was made with something else. `differences`: one line each."""

    def __init__(self, differences: list[str]):
        super().__init__("\n".join(differences))
        self.differences = differences


@contextlib.contextmanager
def held(layout: Layout) -> Iterator[str]:
    """The claim on the dataset's folder while the body runs; gives its token. Raises `storage.Claimed` (a ValueError) where
    another program has it."""
    with storage.Claim.acquire(layout.url, {"program": "regionpairs"}) as claim:
        yield claim.token


def settle(
    layout: Layout, components: dict[str, Any], settings: Any, prove: Callable[[], object] | None = None
) -> None:
    """Makes the folder ours, or checks that it is; writes settings and fingerprint.

    components: everything that changes bytes. settings: a dataclass. prove: makes the pool that the committed parts were
    made with, or raises; asked where neither `fingerprint.json` nor the pool that is there says whose the parts are. A
    dataset in which nothing was committed may change its settings: it starts over. Raises Refused.
    """
    if _says(layout, components):
        _mend_settings(layout, settings)
        return  # without a listing: the folder may hold millions of files
    files = storage.tree(layout.url)
    ours = sorted(name for name in files if is_ours(name))
    committed = any(  # .DS_Store or an unfinished file in manifest/ is no row
        name.startswith("manifest/") or name in _AT_THE_END for name in ours if not storage.is_litter(name)
    )
    if committed and (
        _made(layout, components) or (prove is not None and _proven(layout, components, prove))
    ):
        log.warning("fingerprint.json is missing, damaged or another dataset's; it is written anew")
        _mend_settings(layout, settings)
        storage.write_bytes(layout.fingerprint, json.dumps(components, indent=1).encode())
        return
    foreign = sorted(name for name in files if not is_ours(name) and not storage.is_litter(name))
    if "fingerprint.json" in files:
        was = _fingerprint(layout)
        found = differences(was, components)
        if committed:
            raise Refused(found)
        log.info("settings changed before anything was committed; starting over (%s)", "; ".join(found))
    elif foreign:
        raise Refused(
            [f"out: {layout.url} holds {len(foreign)} files that are no dataset, e.g. {foreign[0]}"]
        )
    elif committed:
        raise Refused(
            [f"out: {layout.url} holds shards and no fingerprint.json, so nobody knows what made them"]
        )
    for name in ours:  # fingerprint.json is replaced below: without it nobody would know the folder again
        if name != "fingerprint.json":
            storage.remove(layout.file(name))
    _write_settings(layout, settings)
    storage.write_bytes(layout.fingerprint, json.dumps(components, indent=1).encode())


def _says(layout: Layout, components: dict[str, Any]) -> bool:
    """Whether `fingerprint.json` is there, whole, and of these components."""
    try:
        return not differences(json.loads(storage.read_bytes(layout.fingerprint)), components)
    except (FileNotFoundError, ValueError, AttributeError, TypeError):
        return False


def _made(layout: Layout, components: dict[str, Any]) -> bool:
    """Whether the parts that are there were made with these components, by the word of their manifest rows."""
    from pipeline.fingerprint import identity_of

    expected = identity_of(layout, components)
    return expected is not None and manifest.are_of(layout, expected["fingerprint"])


def _proven(layout: Layout, components: dict[str, Any], prove: Callable[[], object]) -> bool:
    """Whether what these settings make is what the parts were made with. A folder whose own files agree is not asked:
    other settings than its own are no damage. Nor is one of which no row can be read: nothing there could say that the
    pool is not its own. Raises Refused, with the reason, where it is not."""
    if next(manifest.made_with(layout), None) is None:
        return False
    with contextlib.suppress(FileNotFoundError, ValueError):
        if _made(layout, json.loads(storage.read_bytes(layout.fingerprint))):
            return False
    try:
        prove()
    except (DamagedDataset, FileNotFoundError, ValueError) as e:
        reason = " ".join(str(e).split())
        raise Refused(
            [
                f"out: {layout.url} has no fingerprint.json of its parts, and these settings are not theirs: {reason}",
                *_differences_there(layout, components),
            ]
        ) from e
    return _made(layout, components)


def _differences_there(layout: Layout, components: dict[str, Any]) -> list[str]:
    """What differs from `fingerprint.json`, which may be the dataset's although nothing proves it."""
    with contextlib.suppress(FileNotFoundError, Refused):
        return differences(_fingerprint(layout), components)
    return []


def _text(settings: Any) -> bytes:
    """What `settings.yaml` holds for these."""
    return yaml.safe_dump(_plain(dataclasses.asdict(settings)), sort_keys=False, allow_unicode=True).encode()


def _write_settings(layout: Layout, settings: Any) -> None:
    storage.write_bytes(layout.settings, _text(settings))


def _mend_settings(layout: Layout, settings: Any) -> None:
    """Writes `settings.yaml` again where it is not what `summary.json` says, or, before there is one, not these settings:
    a file that lost its end still holds some."""
    try:
        found = storage.read_bytes(layout.settings)
        written = json.loads(storage.read_bytes(layout.summary))["sha256"]["settings.yaml"]
        if hashlib.sha256(found).hexdigest() == written:
            return
    except (FileNotFoundError, ValueError, KeyError, TypeError):
        found = storage.read_bytes(layout.settings) if storage.exists(layout.settings) else b""
    if found != _text(settings):
        log.warning("settings.yaml is written anew: it was missing, damaged or of a run that did not end")
        _write_settings(layout, settings)


def _plain(document: Any) -> Any:
    """A document of JSON values, without what is secret in its addresses: it is published with the dataset."""
    if isinstance(document, dict):
        return {key: _plain(value) for key, value in document.items()}
    if isinstance(document, list | tuple):
        return [_plain(value) for value in document]
    return storage.redacted_text(document) if isinstance(document, str) else document


def _fingerprint(layout: Layout) -> Any:
    try:
        document = json.loads(storage.read_bytes(layout.fingerprint))
    except ValueError as e:
        raise Refused([f"out: {layout.fingerprint} is damaged: {e}"]) from e
    version = document.get("format_version") if isinstance(document, dict) else None
    if version != FORMAT_VERSION:
        raise Refused(
            [f"out: {layout.url} has format version {version}; this program writes version {FORMAT_VERSION}"]
        )
    return document


def sweep(layout: Layout, started: float) -> None:
    """Removes unfinished files that a dead writer left."""
    for folder in FOLDERS:
        if swept := storage.sweep(layout.file(folder), older_than=started):
            log.info("swept %d unfinished files from %s", len(swept), folder or "the folder")


def differences(was: Any, now: Any, path: str = "") -> list[str]:
    """One line for every value that differs between two documents: `align.tau: was 0.01, is 0.02`."""
    if isinstance(was, dict) and isinstance(now, dict):
        return [
            line
            for key in sorted({*was, *now})
            for line in differences(was.get(key), now.get(key), f"{path}.{key}" if path else key)
        ]
    return [] if was == now else [f"{path}: was {json.dumps(was)}, is {json.dumps(now)}"]
