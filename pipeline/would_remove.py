"""What each rule would leave out of a dataset that is there, before a build runs it. Nothing is decoded or written.

Rules on captions and columns are answered from the plan; those on files, sizes and image-text scores from stored
samples' JSON and indices, so of built samples alone. Duplicates need the images' hashes: they are counted by a build that
looks for them.
"""

from __future__ import annotations

import json
from collections import Counter
from dataclasses import replace
from typing import Any

import storage
from concept_pool.parse import Parser
from concept_pool.settings import PoolSettings
from pipeline.dataset import Dataset, manifest
from pipeline.dataset.layout import Layout
from pipeline.dataset.plan import Plan, part_rows
from pipeline.duplicates.held_out import digest_of_caption
from pipeline.filters import FilterSettings, check_bytes, check_image_text, check_size, filter_rows
from pipeline.images import BadSample
from pipeline.stages.index import drop_without_nouns

#: Rules, the reason that each gives, and what it is answered from.
CAPTIONS = ("short_caption", "long_caption", "other_language", "no_noun", "frequent_caption")
IMAGES = ("small_file", "small_image", "extreme_aspect")
SCORE = "low_image_text_score"


def would_remove(url: str, rules: FilterSettings) -> dict[str, Any]:
    """Samples that each rule alone would leave out, of those that can be used: {reason: n}, and what is not known.

    A sample counts for every rule that is against it, so the counts do not add up to a build's. url: a dataset that has a
    plan; FileNotFoundError where it has none.
    """
    layout = Layout(storage.absolute(url))
    plan = Plan.committed(layout)
    counts: Counter[str] = Counter()
    n_usable = _of_captions(layout, plan, rules, counts)
    n_built, n_scored = _of_images(layout, plan, rules, counts)
    of = {
        reason: n_built if reason in IMAGES else n_usable for reason in ("column_filter", *CAPTIONS, *IMAGES)
    }
    of[SCORE] = n_scored
    asked = {"column_filter": bool(rules.columns), SCORE: bool(rules.min_image_text_score)}
    reasons = [reason for reason in of if asked.get(reason, True)]
    return {
        "dataset": url,
        "n_planned": plan.n_samples,
        "n_usable": n_usable,
        "n_built": n_built,
        "would_remove": {reason: counts[reason] for reason in reasons},
        "of": {reason: of[reason] for reason in reasons},
        "needs_the_images": ["duplicate_image", "near_duplicate", "duplicate_pair", "held_out_image"],
    }


def _of_captions(layout: Layout, plan: Plan, rules: FilterSettings, counts: Counter[str]) -> int:
    """Counts by reason; returns how many samples of the plan are usable."""
    parser = Parser(PoolSettings())
    only = replace(rules, preset="none", language="any", min_bytes=0, min_side_px=0, max_aspect=0.0)
    bare = replace(only, min_chars=0, min_words=0, max_words=0, min_nouns=0, max_repeats=0, columns=[])
    each = [
        replace(bare, columns=rules.columns),
        replace(bare, min_chars=int(rules.number("min_chars")), min_words=int(rules.number("min_words"))),
        replace(bare, max_words=int(rules.number("max_words"))),
        replace(bare, language="en" if rules.english else "any"),
    ]
    repeats: Counter[bytes] = Counter()
    n_usable = 0
    for part in plan.parts:
        rows = [r for r in part_rows(layout, part).to_pylist() if not r["problem"]]
        n_usable += len(rows)
        for rule in each:
            copies = [dict(row) for row in rows]
            filter_rows(copies, rule)
            counts.update(c["problem"].partition(":")[0] for c in copies if c["problem"])
        if least := int(rules.number("min_nouns")):
            copies = [dict(row) for row in rows]
            drop_without_nouns(copies, parser, least)
            counts["no_noun"] += sum(bool(c["problem"]) for c in copies)
        for row in rows:
            repeats.update({digest_of_caption(caption) for caption in row["captions"]})
    if most := rules.number("max_repeats"):
        frequent = {digest for digest, n in repeats.items() if n > most}
        for part in plan.parts:
            for row in part_rows(layout, part).select(["captions", "problem"]).to_pylist():
                own = {digest_of_caption(caption) for caption in row["captions"]}
                counts["frequent_caption"] += not row["problem"] and own <= frequent
    return n_usable


def _of_images(layout: Layout, plan: Plan, rules: FilterSettings, counts: Counter[str]) -> tuple[int, int]:
    """Counts by reason, of the samples that are built; returns how many those are, and how many say their scores."""
    if not any(manifest.committed(layout)):
        return 0, 0
    dataset = Dataset.open(layout.url)
    n_built = n_scored = 0
    each = [
        replace(rules, preset="none", min_side_px=int(rules.number("min_side_px")), max_aspect=0.0),
        replace(rules, preset="none", min_side_px=0, max_aspect=rules.number("max_aspect")),
    ]
    for shard in dataset.shards:
        for row in shard.places().to_pylist():
            n_built += 1
            counts["small_file"] += _against(check_bytes, row["image_bytes"], rules)
            start = row["json_offset"]
            meta = json.loads(shard.read(shard.url, start, start + row["json_bytes"]))
            for rule, reason in zip(each, IMAGES[1:], strict=True):
                counts[reason] += _against(check_size, meta["width"], meta["height"], rule)
            if "image_text_scores" in meta:  # older datasets have none
                n_scored += 1
                counts[SCORE] += _against(check_image_text, meta["image_text_scores"], rules)
    return n_built, n_scored


def _against(check: Any, *arguments: Any) -> bool:
    try:
        check(*arguments)
    except BadSample:
        return True
    return False
