"""The dataset card: Markdown with YAML front matter, from a dataset's own records; nothing in it is guessed."""

from __future__ import annotations

import json
from collections import Counter
from typing import Any

import yaml

import storage
from pipeline.dataset import Dataset, check_format, manifest

#: The hub's names for sizes, by the number of rows below which each holds.
_SIZES = (
    (10**3, "n<1K"), (10**4, "1K<n<10K"), (10**5, "10K<n<100K"), (10**6, "100K<n<1M"), (10**7, "1M<n<10M"),
    (10**8, "10M<n<100M"), (10**9, "100M<n<1B"),
)  # fmt: skip
_LIMITS = """\
- Labels are made by models, not by people: each pair is a region proposal and the concept that a teacher model found most
  likely there. `probability` and `score` say how sure it was.
- A concept is one that captions of this corpus name. What they rarely name is rarely labelled.
- An image may show more things than it has pairs for: a missing pair does not say that the thing is not there.
- Images and captions are the source's, with whatever rights, persons and errors they have. The licence above is for whoever
  publishes the dataset to fill in."""


def card(dataset: Dataset, n_samples: int, n_pairs: int) -> str:
    """The README.md of a dataset folder that holds so many images and pairs."""
    made_with = check_format(dataset.layout)
    front = {
        "license": "other",
        "license_name": "see-source",
        "task_categories": ["object-detection", "zero-shot-object-detection", "image-to-text"],
        "tags": ["region-text pairs", "grounding"],
        "size_categories": [next((name for limit, name in _SIZES if n_samples < limit), "n>1B")],
        "configs": [
            {
                "config_name": "default",
                "data_files": [
                    {"split": split, "path": f"data/{split}-*.parquet"} for split in ("train", "viewer")
                ],
            }
        ],
    }
    sections = [
        f"---\n{yaml.safe_dump(front, sort_keys=False)}---",
        "# Region-text pairs",
        _counts(dataset, n_samples, n_pairs),
        "## Columns\n\n`image` is the original file; `width`, `height` and `objects[].bbox` (x0, y0, x1, y1 in pixels) are "
        "those of the upright image, EXIF orientation applied. `source_key` is what the source calls the image. The split "
        "`viewer` repeats the first images.",
        f"## How it was made\n\n{_models(made_with)}",
        f"## Known limits\n\n{_LIMITS}",
    ]
    return "\n\n".join(sections) + "\n"


def _counts(dataset: Dataset, n_samples: int, n_pairs: int) -> str:
    rows = manifest.rows_of(dataset.layout)
    n_read, n_regions = (sum(rows.column(name).to_pylist()) for name in ("n_read", "n_regions"))
    concepts: Counter[int] = Counter()
    for ids, counts in zip(
        *(rows.column(f"concept_{name}").to_pylist() for name in ("ids", "counts")), strict=True
    ):
        concepts.update(dict(zip(ids, counts, strict=True)))
    names = dataset.pool.names
    most = ", ".join(f"{names[i]} ({n})" for i, n in concepts.most_common(10))
    lines = [
        "| | |",
        "|---|---|",
        f"| images | {n_samples} (of {n_read} read) |",
        f"| pairs | {n_pairs} (of {n_regions} regions) |",
        f"| concepts | {len(names)} in the pool, {len(concepts)} with a pair |",
        f"| most frequent | {_cell(most)} |",
        f"| rejected | {_cell(_rejects(dataset))} |",
        f"| identity | fingerprint `{dataset.fingerprint}`, concept pool `{dataset.pool_hash}` |",
    ]
    return "\n".join(lines)


def _rejects(dataset: Dataset) -> str:
    try:
        rows = storage.read_table(dataset.layout.rejects, ["reason", "n_samples"]).to_pylist()
    except FileNotFoundError:
        return "not known: the build is not complete"
    reasons: Counter[str] = Counter()
    for row in rows:
        reasons[row["reason"]] += row["n_samples"]
    return ", ".join(f"{n} {reason}" for reason, n in reasons.most_common()) or "none"


def _models(made_with: dict[str, Any]) -> str:
    """What the fingerprint says of models, settings and libraries, as it stands there."""
    parts = []
    for name in ("localizer", "teacher", "libraries", "made_from", "by"):
        if made_with.get(name):
            parts.append(f"**{name}**\n\n```json\n{json.dumps(made_with[name], indent=1)}\n```")
    return "\n\n".join(parts) or "Its records do not say."


def _cell(text: str) -> str:
    """Text of foreign origin in a table's cell."""
    return text.replace("|", "\\|").replace("\n", " ").replace("<", "&lt;")
