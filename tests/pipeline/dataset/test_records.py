"""Tables with images: as `from_pylist` makes them, and as rows whose images are views."""

from __future__ import annotations

import pyarrow as pa
import pytest

from pipeline.dataset import records

ROW = {
    "key": "k",
    "extension": "jpg",
    "meta": "{}",
    "arrays": b"z",
    "n_regions": 0,
    "n_pairs": 0,
    "pair_concept_ids": [],
}


def rows(*images: bytes) -> list[dict]:
    return [{**ROW, "key": str(i), "image": image} for i, image in enumerate(images)]


@pytest.mark.parametrize("images", [(), (b"",), (b"one", b"", b"three" * 100)])
def test_a_table_of_rows_with_images_is_that_of_from_pylist(images):
    table = records.with_images(rows(*images), records.ANNOTATED)
    table.validate(full=True)
    assert table.equals(pa.Table.from_pylist(rows(*images), records.ANNOTATED))
    assert records.with_images(rows(*map(memoryview, images)), records.ANNOTATED).equals(table)


def test_views_are_the_images_of_every_chunk_and_of_slices():
    one, other = (
        records.with_images(rows(*images), records.ANNOTATED)
        for images in ((b"a", b"bb"), (b"", b"cc", b"d"))
    )
    table = pa.concat_tables([one, other.slice(1), records.ANNOTATED.empty_table()])
    found = records.with_views(table)
    assert [bytes(row["image"]) for row in found] == [b"a", b"bb", b"cc", b"d"]
    assert [{**row, "image": bytes(row["image"])} for row in found] == table.to_pylist()
    assert records.with_views(records.ANNOTATED.empty_table()) == []
