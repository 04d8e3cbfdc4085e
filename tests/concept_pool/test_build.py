"""Captions to pools: the same bytes however the corpus is cut and ordered; what COCO's captions give."""

import dataclasses
import json
import random

import pyarrow.parquet as pq
import pytest

from concept_pool.build import count_unit, write_index
from concept_pool.count import Counts
from concept_pool.pool import ConceptPool
from concept_pool.settings import PoolSettings
from tests.concept_pool.labelled import read_labelled
from tests.shared_data import shared_data

SETTINGS = PoolSettings(min_count=2)
COCO_NAMES = (
    """
person,bicycle,car,motorcycle,airplane,bus,train,truck,boat,traffic light,
fire hydrant,stop sign,parking meter,bench,bird,cat,dog,horse,sheep,cow,elephant,
bear,zebra,giraffe,backpack,umbrella,handbag,tie,suitcase,frisbee,skis,snowboard,
sports ball,kite,baseball bat,baseball glove,skateboard,surfboard,tennis racket,
bottle,wine glass,cup,fork,knife,spoon,bowl,banana,apple,sandwich,orange,
broccoli,carrot,hot dog,pizza,donut,cake,chair,couch,potted plant,bed,
dining table,toilet,tv,laptop,mouse,remote,keyboard,cell phone,microwave,oven,
toaster,sink,refrigerator,book,clock,vase,scissors,teddy bear,hair drier,toothbrush
""".replace("\n", "")
    .strip()
    .split(",")
)


@pytest.fixture
def captions_file(tmp_path):
    """A COCO file of the labelled captions, two an image, some twice."""
    captions = [row.caption for row in read_labelled() if row.caption.strip()]
    rows = [{"image_id": i // 2, "caption": caption} for i, caption in enumerate(captions + captions[:40])]
    (tmp_path / "captions.json").write_text(json.dumps({"annotations": rows}))
    return tmp_path / "captions.json"


def images_of(path):
    """(image id, captions), by rising id."""
    images = {}
    for row in json.loads(path.read_text())["annotations"]:
        images.setdefault(row["image_id"], []).append(row["caption"])
    return [(str(key), images[key]) for key in sorted(images)]


def build(path, out, unit_images, order=None):
    images = images_of(path)
    parts = [images[i : i + unit_images] for i in range(0, len(images), unit_images)]
    numbers = list(range(len(parts)))
    if order is not None:
        random.Random(order).shuffle(numbers)
    out.mkdir(exist_ok=True)
    counts = Counts(SETTINGS.max_examples)
    for i in numbers:
        counts.merge(count_unit(parts[i], SETTINGS, f"{out}/{i:03d}.mentions"))
    pool = ConceptPool.from_counts(counts, SETTINGS)
    pool.save(str(out))
    write_index([f"{out}/{i:03d}.mentions" for i in range(len(parts))], pool, f"{out}/index.parquet", 16)
    return [
        (out / name).read_bytes()
        for name in ("concepts.parquet", "rejected.parquet", "pool.json", "index.parquet")
    ]


def test_equal_bytes_however_the_corpus_is_cut_and_ordered(captions_file, tmp_path):
    whole = build(captions_file, tmp_path / "whole", 1000)
    assert build(captions_file, tmp_path / "parts", 7) == whole
    assert build(captions_file, tmp_path / "shuffled", 5, order=1) == whole
    content = json.loads(captions_file.read_text())
    random.Random(2).shuffle(content["annotations"])
    captions_file.with_name("shuffled.json").write_text(json.dumps(content))
    assert build(captions_file.with_name("shuffled.json"), tmp_path / "reordered", 50) == whole


def test_the_index_names_the_concepts_of_each_image(captions_file, tmp_path):
    build(captions_file, tmp_path / "out", 10)
    pool = ConceptPool.load(str(tmp_path / "out"))
    index = pq.read_table(tmp_path / "out" / "index.parquet")
    assert index["image"].to_pylist() == sorted(index["image"].to_pylist(), key=int)
    ids = index["concept_ids"].to_pylist()
    for i in range(20):
        assert sum(i in image for image in ids) >= pool.table["n_images"][i].as_py()
    assert all(image == sorted(set(image)) for image in ids)


@pytest.mark.parity(1, 3)
@pytest.mark.slow
def test_the_captions_of_coco(tmp_path):
    path = shared_data() / "captions" / "coco_captions_val2017.json"
    counts = count_unit(images_of(path), PoolSettings(min_count=10))
    pool = ConceptPool.from_counts(counts, PoolSettings(min_count=10))
    assert counts.n_images == 5000
    assert 450 <= len(pool) <= 650
    missing = [name for name in COCO_NAMES if not pool.ids_of([name])]
    assert missing == ["toaster", "hair drier"]  # 3 and 7 images name them
    lower = ConceptPool.from_counts(counts, dataclasses.replace(PoolSettings(), min_count=3))
    assert [name for name in COCO_NAMES if not lower.ids_of([name])] == []
    assert {"traffic light", "hot dog", "tennis racket", "potted plant"} <= set(lower.names)
    assert not {"view", "background", "photo", "front", "time", "love", "image"} & set(lower.names)
    assert {"view", "background", "photo", "front"} <= set(pool.rejected["word"].to_pylist())
