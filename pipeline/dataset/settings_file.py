"""`settings.yaml` as readers take it: no value of a file that is not the one that was written."""

from __future__ import annotations

import hashlib
import json
from typing import Any

import yaml

import storage
from pipeline.dataset.damage import by_its_maker, reading
from pipeline.dataset.layout import Layout


def settings_of(layout: Layout, components: dict[str, Any]) -> dict[str, Any]:
    """What `settings.yaml` holds. components: what `fingerprint.json` does.

    Raises DamagedDataset where it is missing or no settings; where its sha256 is not the one in the summary of a finished
    dataset; and where it says otherwise than `fingerprint.json` how regions were matched (`align`), which is all that there
    is to compare with before the end, and what readers compute with.
    """
    advice = by_its_maker(layout.url)
    with reading(layout.settings, advice):
        data = storage.read_bytes(layout.settings)
    expected = _in_summary(layout, advice)
    with reading(layout.settings, advice):
        if expected and hashlib.sha256(data).hexdigest() != expected:
            raise ValueError("its sha256 is not the one in summary.json")
        try:
            document = yaml.safe_load(data)
        except yaml.YAMLError as e:
            raise ValueError(str(e)) from e
        if not isinstance(document, dict):
            raise ValueError("it holds no settings")
        wanted = _align_of(components)
        if wanted is not None and document.get("align") != wanted:
            raise ValueError("its align is not the one in fingerprint.json")
    return document


def _in_summary(layout: Layout, advice: str) -> str:
    """The sha256 that the summary has; "" where there is none yet. Raises DamagedDataset for a summary that is no such
    file: whose settings these are, it does not say."""
    with reading(layout.summary, advice):
        try:
            return str(
                json.loads(storage.read_bytes(layout.summary)).get("sha256", {}).get("settings.yaml", "")
            )
        except FileNotFoundError:
            return ""
        except AttributeError as e:
            raise ValueError("it holds no sums") from e


def _align_of(components: dict[str, Any]) -> Any:
    """`align` of a build, or of a relabelling; None for what takes labels as they are."""
    own = components.get("settings")
    return own.get("align") if isinstance(own, dict) else components.get("align")
