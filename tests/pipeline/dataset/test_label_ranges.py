"""Labels of a shard by byte ranges: what the whole shard says, without its images."""

from __future__ import annotations

import pytest

import storage
from pipeline.dataset import label_ranges
from pipeline.dataset.label_ranges import read_labels, runs
from pipeline.dataset.shards import pack, read_shard


def shard(n: int, image_bytes: int, extension: str = "png"):
    rows = [
        {
            "key": f"{i:024x}",
            "extension": extension,
            "image": bytes(image_bytes + i),
            "meta": "{}" + " " * i,
            "arrays": b"n" * (100 + i),
        }
        for i in range(n)
    ]
    return pack(rows)


@pytest.mark.parametrize("extension", ["gif", "png"])  # before and behind the labels in the tar
@pytest.mark.parametrize(("image_bytes", "n_reads"), [(100, 1), (50_000, 5)])
@pytest.mark.parametrize("where", ["{}/a.tar", "memory://label-ranges/a.tar"])
def test_labels_are_those_of_the_shard_and_large_images_are_not_read(
    tmp_path, monkeypatch, extension, image_bytes, n_reads, where
):
    url = where.format(tmp_path)
    data, index = shard(5, image_bytes, extension)
    storage.write_bytes(url, data)
    wanted = [(key, {**members, extension: b""}) for key, members in read_shard(data)]
    asked = []
    real = storage.read_bytes
    monkeypatch.setattr(storage, "read_bytes", lambda u, a, b: asked.append(b - a) or real(u, a, b))
    assert list(read_labels(url, index)) == wanted
    assert len(asked) == n_reads
    assert n_reads == 1 or sum(asked) < 5 * 2500


def test_a_shard_that_ends_too_early_is_told(tmp_path):
    data, index = shard(3, 50_000)
    storage.write_bytes(f"{tmp_path}/a.tar", data[: len(data) // 2])
    with pytest.raises(storage.ShortRead):
        list(read_labels(f"{tmp_path}/a.tar", index))


def test_reads_are_joined_over_small_gaps_alone():
    assert runs([(0, 10), (12, 20), (100, 110)], gap=5) == [(0, 2, 0, 20), (2, 3, 100, 110)]
    assert runs([]) == []
    assert runs([(0, 1), (1, 2)], gap=0) == [(0, 2, 0, 2)]
    assert label_ranges.GAP < 50_000
