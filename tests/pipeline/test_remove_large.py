"""Removal from a dataset of a hundred shards: what it touches."""

from __future__ import annotations

import dataclasses
import json
import os

from pipeline.block_list import BlockList
from pipeline.build import build
from pipeline.dataset import Dataset
from pipeline.dataset.verify import verify
from pipeline.remove import remove
from pipeline.run_local import LocalRunner
from tests.pipeline import worlds


def test_ten_keys_of_a_hundred_shards_touch_ten_shards(tmp_path, color_teacher):
    """Bytes of the other ninety are the very files; the new dataset is whole and names the old one."""
    source = worlds.coco_folder(tmp_path / "source", n=200)
    settings = worlds.settings(tmp_path / "first", source, samples_per_shard=2)
    build(settings, LocalRunner())
    first = Dataset.open(settings.out)
    assert len(first.shards) == 100
    shards = [first.shards[i] for i in range(3, 100, 10)]
    keys = [next(iter(first.read(shard))).key for shard in shards]
    second = dataclasses.replace(settings, out=str(tmp_path / "second"))
    summary = remove(settings.out, second, BlockList(frozenset(keys)), LocalRunner())
    assert summary["rejects_by_reason"] == {"removed": 10}
    assert (summary["n_samples"], summary["not_found"]) == (190, [])
    before, after = (worlds.hashes(tmp_path / name) for name in ("first", "second"))
    touched = {name for name in before if before[name] != after[name]}
    assert touched == {shard.name for shard in shards}
    for name in set(before) - touched:
        assert os.path.samefile(tmp_path / "first/shards" / name, tmp_path / "second/shards" / name)
    assert list(verify(second.out)) == []
    assert json.loads((tmp_path / "second/fingerprint.json").read_text())["made_from"] == first.fingerprint
    assert not set(keys) & {sample.key for sample in Dataset.open(second.out).samples()}
