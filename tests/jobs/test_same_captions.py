"""Both jobs read the same captions of the same tar, table, JSON and lines."""

from __future__ import annotations

import gzip
import json

import pyarrow as pa
import pyarrow.parquet as pq
import pytest

from concept_pool.settings import PoolSettings
from jobs.build_concept_pool import ConceptPoolJob, build_concept_pool, images_of
from pipeline import sources
from pipeline.sources import SourceSettings
from tests.pipeline.sources.kit import write_coco, write_tar

CAPTIONS = [
    "a dog",
    1984,
    None,
    "two dogs\non a beach",
    {"en": "a red ball"},
    ["a cat", "a kite"],
    "half \ud83d",
    "",
]


def settings_of(tmp_path, kind):
    if kind == "coco":
        document = write_coco(tmp_path, len(CAPTIONS))
        for annotation, caption in zip(document["annotations"], CAPTIONS, strict=True):
            annotation["caption"] = caption
        (tmp_path / "captions.json").write_text(json.dumps(document))
        return SourceSettings("coco", str(tmp_path / "images"), str(tmp_path / "captions.json"))
    if kind.startswith("webdataset"):
        members = [(f"{i}.txt", b"first\nsecond") for i in (0, 3)]
        for i, caption in enumerate(CAPTIONS):
            members += [(f"{i}.jpg", b"x"), (f"{i}.json", json.dumps({"caption": caption}).encode())]
        path = write_tar(tmp_path / "a.tar", members)
        if kind.endswith("gz"):
            path.write_bytes(gzip.compress(path.read_bytes()))
        return SourceSettings("webdataset", urls=str(path))
    if kind == "parquet":
        texts = [
            c if isinstance(c, (str, type(None))) else json.dumps(c) for c in CAPTIONS if c != "half \ud83d"
        ]
        table = pa.table({"image": [b"x"] * len(texts), "caption": texts, "text": [[t] for t in texts]})
        pq.write_table(table, tmp_path / "a.parquet", row_group_size=3)
        return SourceSettings("parquet", urls=str(tmp_path / "a.parquet"))
    (tmp_path / "a.tsv").write_text("a dog\tu\n\n\x00a cat\tu\n")
    return SourceSettings("tsv", urls=str(tmp_path / "a.tsv"))


@pytest.mark.parametrize("kind", ["coco", "webdataset", "webdataset.gz", "parquet", "tsv"])
def test_the_same_captions_for_dataset_and_pool(tmp_path, kind):
    settings = settings_of(tmp_path, kind)
    for_dataset = sources.load(settings, captions_only=kind == "tsv")
    planned = {
        row["source_key"]: row["captions"] for unit in for_dataset.units() for row in for_dataset.index(unit)
    }
    for_pool = sources.load(settings, captions_only=True)
    counted = dict(image for unit in for_pool.units() for image in images_of(for_pool, unit))
    assert counted == planned
    assert any(planned.values())
    out = str(tmp_path / "pool")
    pool = build_concept_pool(ConceptPoolJob(out, "local", True, settings, PoolSettings(min_count=1)))
    assert pool.about["n_captions"] == sum(len(set(c)) for c in planned.values())
    assert pool.about["n_images"] == len(planned)


def test_a_corpus_without_a_caption_is_one_line(tmp_path):
    path = write_tar(tmp_path / "a.tar", [("0.jpg", b"x")])
    with pytest.raises(ValueError, match="no caption was found in 1 units of kind webdataset"):
        build_concept_pool(
            ConceptPoolJob(str(tmp_path / "p"), source=SourceSettings("webdataset", urls=str(path)))
        )
