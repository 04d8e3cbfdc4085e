"""Images and captions to region-text pairs in memory: no dataset, no files, the same annotator as in a build."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from os import PathLike
from typing import Any

import torch

import storage
from concept_pool.build import parser_of
from concept_pool.compare import extend_pool
from concept_pool.count import count_parsed, parse_block, phrases_in, spans_of
from concept_pool.embed import embed_pool
from concept_pool.pool import ConceptPool
from concept_pool.prompts import load_templates
from pipeline import teachers
from pipeline.dataset import Sample
from pipeline.dataset.concepts import Vocabulary
from pipeline.dataset.records import sample_key
from pipeline.mentions import concept_phrases, concept_spans
from pipeline.rejects import Rejects
from pipeline.settings import BuildSettings
from pipeline.stages.annotator import Annotator


@dataclass(frozen=True)
class Annotated:
    """What `annotate` gives.

    samples: one a usable image, in the order given. `sample.meta["pairs"]` lists the kept regions (region,
    box_xyxy_norm, concept, probability, ...), `sample.arrays` holds every region (docs/format.md).
    rejects: a row for each image that could not be used (source_key, stage, reason, detail).
    pool: the concepts that the regions were matched to.
    """

    samples: list[Sample]
    rejects: list[dict[str, Any]]
    pool: ConceptPool


def annotate(
    images: Sequence[str | PathLike[str] | bytes],
    captions: Sequence[str | Sequence[str]],
    settings: BuildSettings,
    concepts: Iterable[str] = (),
) -> Annotated:
    """Localizes, embeds and labels the regions of images whose captions say what may be there.

    images: paths or URLs, or the bytes of encoded images. captions: one or several an image. concepts: names that join
    the pool of the captions' own concepts, whatever their count. Of the settings, `localizer`, `teacher`, `align`,
    `pool` and `source.max_pixels` count.

    A file that is not there raises FileNotFoundError. An image that cannot be decoded is a reject. Raises ValueError
    where lengths differ, or where no concept is left to match with.
    """
    if len(images) != len(captions):
        raise ValueError(f"{len(images)} images and {len(captions)} captions: each image needs its own")
    texts = [[c] if isinstance(c, str) else list(c) for c in captions]
    parser = parser_of(settings.pool)
    parsed = parse_block(texts, parser)
    counts, mentions = count_parsed(parsed, parser)
    pool = ConceptPool.from_counts(counts, settings.pool)
    if names := list(concepts):
        pool, _ = extend_pool(pool, names)
    if not pool.names:
        raise ValueError(
            f"no concept is named by {settings.pool.min_count} images or more (pool.min_count); name some by `concepts`"
        )
    torch.set_num_threads(settings.threads)
    teacher = teachers.load(settings.teacher)
    templates = load_templates(settings.pool.templates)
    matrix = embed_pool(pool.names, templates, teacher.encode_text, settings.pool.ensemble)
    vocabulary = Vocabulary(list(pool.names), torch.as_tensor(matrix), pool.hash)
    annotator = Annotator(settings, vocabulary, "", teacher=teacher)
    rows = [
        {
            **_row(number, image, of_image),
            "mentioned": pool.ids_of(named),
            "spans": (spans := concept_spans(pool, of_image, spans_of(of_image, found, parser))),
            "phrases": concept_phrases(spans, phrases_in(of_image, found, parser)),
        }
        for number, (image, of_image, named, found) in enumerate(
            zip(images, texts, mentions, parsed, strict=True)
        )
    ]
    rejects = Rejects("in memory")
    samples = [_sample(row) for row in annotator(rows, rejects)]
    return Annotated(samples, rejects.rows, pool)


def _sample(row: dict[str, Any]) -> Sample:
    """A row of `records.ANNOTATED` as it would be read back from a shard."""
    members = {row["extension"]: row["image"], "json": row["meta"].encode(), "npz": row["arrays"]}
    return Sample.parse(row["key"], members)


def _row(number: int, image: str | PathLike[str] | bytes, captions: list[str]) -> dict[str, Any]:
    """What a row of `records.SAMPLES` says of the image alone; one without a name of its own is called by its place."""
    source_key = f"image-{number:06d}" if isinstance(image, bytes) else str(image)
    data = image if isinstance(image, bytes) else storage.read_bytes(storage.absolute(str(image)))
    return {
        "key": sample_key(source_key, data),
        "source_key": source_key,
        "source": source_key.rsplit("/", 1)[-1],
        "image": data,
        "captions": captions,
        "extra": "",
    }
