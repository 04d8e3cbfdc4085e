"""One self-contained HTML page about a built dataset: no network, no server, no full read.

Exact figures come from the manifest; what is said of single samples comes from the first samples of a few shards
(reports/look.py), and the page says which. Data lies in it as JSON and is shown as text, never as markup.
"""

from __future__ import annotations

import datetime
from collections.abc import Sequence
from dataclasses import asdict, replace
from typing import Any

import numpy as np
import yaml

from pipeline.dataset import Dataset
from pipeline.images import BadSample
from pipeline.scores import REASONS
from reports import against as comparison
from reports import histograms, issues
from reports.against import Against
from reports.books import Books, open_books
from reports.choose import plain, read
from reports.concept_rows import concept_rows, crops, surest
from reports.extremes import extremes
from reports.issues import Issue
from reports.look import Look, Seen, look
from reports.page import render
from reports.pictures import thumbnail
from reports.settings import ReportSettings

#: The page takes at most so many bytes; crops, then samples are left out until it does.
MAX_BYTES = 15_000_000


def html_report(
    dataset: Dataset, settings: ReportSettings | None = None, before: Dataset | None = None
) -> str:
    """The page, at most `MAX_BYTES` long: fewer crops and samples where all would take more.

    before: a dataset to compare with; a section says what changed since.
    """
    settings = settings or ReportSettings()
    books, looked = open_books(dataset), look(dataset, settings.shards, settings.samples)
    against = comparison.compare(dataset, looked, before) if before else None
    while True:
        page = render(document(dataset, settings, books, looked, against))
        if len(page.encode()) <= MAX_BYTES or settings.shown == 1:
            return page
        settings = replace(
            settings,
            shown=max(1, settings.shown // 2),
            crops=max(1, settings.crops // 2),
            concepts=max(1, settings.concepts // 2),
        )


def document(
    dataset: Dataset, settings: ReportSettings, books: Books, looked: Look, against: Against | None = None
) -> dict[str, Any]:
    """All that the page shows, as JSON values."""
    names = dataset.pool.names
    found = issues.find(books, looked, names)
    ends = extremes(looked.seen)
    sure = surest(looked.seen, settings.crops)
    samples = _shown(looked.seen, settings.shown, found, ends, against.shown() if against else [])
    cut = crops(dataset, [s for pair in sure.values() for side in pair for s in side])
    place = {s.key: i for i, s in enumerate(samples)}
    wanted = {(s.seen.key, s.region) for issue in found for s in issue.shown}
    concepts = concept_rows(dataset, books, settings.concepts)
    return {
        "head": head(dataset, books),
        "against": comparison.section(against, dataset, books, place) if against else None,
        "rule": looked.rule,
        "reasons": reasons(looked.seen),
        "issues": [_issue(issue, place) for issue in found],
        "histograms": [asdict(h) for h in histograms.all_of(looked.seen)],
        "concepts": concepts,
        "names": _other_names(names, {c["id"] for c in concepts}, samples),
        "n_concepts": len(names),
        "crops": {
            str(concept): [
                [cut[s.seen.key, s.region] for s in side if (s.seen.key, s.region) in cut] for side in pair
            ]
            for concept, pair in sure.items()
        },
        "extremes": [{"title": title, "samples": [place[s.key] for s in seen]} for title, seen in ends],
        "samples": _samples(dataset, samples, names, settings.regions, wanted),
        "n_listed": min(settings.shown, len(looked.seen)),
    }


def reasons(seen: Sequence[Seen]) -> list[tuple[str, int]]:
    """What became of the regions looked at, and of how many: kept ones, and those that are no pair by why not."""
    total = np.zeros(len(REASONS), int)
    for s in seen:
        total += np.bincount(s.reasons, minlength=len(REASONS))[: len(REASONS)]
    return [(REASONS[i], int(n)) for i, n in enumerate(total) if n]


def head(dataset: Dataset, books: Books) -> dict[str, Any]:
    """Counts, times and identity, of the whole dataset."""
    run = books.summary.get("last_run") or {}
    return {
        "name": plain(dataset.url.rstrip("/").rsplit("/", 1)[-1], 80),
        "made": datetime.datetime.now(datetime.timezone.utc).strftime("%Y-%m-%d %H:%M UTC"),
        "counts": books.counts,
        "n_shards": len(dataset.shards),
        "add_up": books.add_up,
        "complete": bool(books.summary),
        "rejects": books.rejects,
        "wall_s": run.get("wall_s"),
        "images_per_s": run.get("images_per_s"),
        "regions_per_s": run.get("regions_per_s"),
        "seconds": books.summary.get("stage_seconds", {}),
        "fingerprint": dataset.fingerprint,
        "pool": dataset.pool_hash,
        "libraries": books.made_with.get("libraries", {}),
        "format_version": books.made_with.get("format_version"),
        "settings": yaml.safe_dump(dataset.settings, sort_keys=False, allow_unicode=True),
    }


def _shown(
    seen: Sequence[Seen],
    n: int,
    found: Sequence[Issue],
    ends: Sequence[tuple[str, list[Seen]]],
    changed: Sequence[Seen],
) -> list[Seen]:
    """The samples of the page: the first `n` by key, then those that other sections show, each once."""
    extra = [shown.seen for issue in found for shown in issue.shown] + [s for _, some in ends for s in some]
    extra += changed
    listed = sorted(seen, key=lambda s: s.key)[:n]
    return list({s.key: s for s in [*listed, *extra]}.values())


def _other_names(names: Sequence[str], listed: set[int], samples: Sequence[Seen]) -> dict[str, str]:
    """Concept id -> name, of the labels of these samples that the table of concepts does not list."""
    labels = {int(label) for s in samples for label in s.labels}
    return {str(c): names[c] for c in sorted(labels - listed)}


def _issue(issue: Issue, place: dict[str, int]) -> dict[str, Any]:
    values = {k: getattr(issue, k) for k in ("title", "text", "n", "of", "exact", "names", "share")}
    return values | {"shown": [[place[s.seen.key], s.region] for s in issue.shown]}


def _samples(
    dataset: Dataset,
    samples: Sequence[Seen],
    names: Sequence[str],
    max_regions: int,
    wanted: set[tuple[str, int]],
) -> list[dict[str, Any]]:
    """The samples as the page draws them. wanted: (key, region) that must be among the regions."""
    pictures: dict[str, str] = {}
    for sample in read(dataset, [s.place for s in samples]):
        try:
            pictures[sample.key] = thumbnail(sample.image)
        except BadSample:
            pictures[sample.key] = ""
    return [
        {
            "key": s.key,
            "source_key": plain(s.source_key, 120),
            "width": s.width,
            "height": s.height,
            "captions": [plain(c, 400) for c in s.captions[:5]],
            "mentioned": [names[c] for c in sorted(s.mentioned)],
            "picture": pictures[s.key],
            "n_pairs": int(s.kept.sum()),
            "regions": _regions(s, max_regions, {r for key, r in wanted if key == s.key}),
        }
        for s in samples
    ]


def _regions(s: Seen, n: int, wanted: set[int]) -> list[list[Any]]:
    """[number, kept, concept, probability, objectness, x0, y0, x1, y1] of at most `n` regions, pairs first."""
    order = sorted(
        range(len(s.reasons)), key=lambda r: (r not in wanted, not s.kept[r], -s.probabilities[r])
    )[:n]
    return [
        [
            r,
            int(s.kept[r]),
            int(s.labels[r]),
            round(float(s.probabilities[r]), 3),
            round(float(s.objectness[r]), 2),
            *(round(float(v), 4) for v in s.boxes[r]),
        ]
        for r in order
    ]
