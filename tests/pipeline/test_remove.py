"""A dataset without listed samples: what goes, what stays byte for byte, and what the new one says of itself."""

from __future__ import annotations

import dataclasses
import hashlib
import json
import os
from pathlib import Path

import pytest

from jobs import cli
from pipeline.align import AlignSettings
from pipeline.block_list import BlockList
from pipeline.build import build
from pipeline.dataset import Dataset
from pipeline.dataset.claim import Refused
from pipeline.dataset.layout import Layout
from pipeline.dataset.plan import Plan, part_rows
from pipeline.dataset.verify import verify
from pipeline.relabel import relabel
from pipeline.remove import remove
from pipeline.run_local import LocalRunner
from tests.pipeline import worlds

ALIGN = AlignSettings(policy="caption", tau=0.1, threshold=0.2, top_k=3, region_embeddings="fp16")


@pytest.fixture
def built(tmp_path, color_teacher):
    """26 samples in five shards, one more is broken."""
    source = worlds.coco_folder(tmp_path / "source", n=27)
    (Path(source.images or "") / "003.jpg").write_bytes(b"no picture")
    settings = worlds.settings(tmp_path / "first", source, align=ALIGN)
    build(settings, LocalRunner())
    return settings


def samples(url) -> dict[str, object]:
    return {s.key: s for s in Dataset.open(str(url)).samples()}


def without(built, out, *entries: str, **changes):
    settings = dataclasses.replace(built, out=str(out), **changes)
    return remove(built.out, settings, BlockList(frozenset(entries)), LocalRunner())


def test_keys_source_keys_and_images_go_and_the_rest_stays_byte_for_byte(built, tmp_path):
    before = samples(built.out)
    order = list(before.values())
    gone = [order[1], order[2], order[-1]]
    entries = (gone[0].key, gone[1].meta["source_key"], hashlib.sha256(gone[2].image).hexdigest())
    summary = without(built, tmp_path / "second", *entries, "unheard of")
    assert list(verify(str(tmp_path / "second"))) == []
    after = samples(tmp_path / "second")
    assert set(before) - set(after) == {s.key for s in gone}
    for key, sample in after.items():
        assert sample.image == before[key].image
        assert sample.meta == before[key].meta
    assert summary["rejects_by_reason"] == {"not_an_image": 1, "removed": 3}
    assert (summary["n_read"], summary["n_samples"]) == (27, 23)
    assert summary["not_found"] == ["unheard of"]
    shards = [worlds.hashes(root) for root in (built.out, tmp_path / "second")]
    assert list(shards[0]) == list(shards[1])
    assert sum(shards[0][name] != shards[1][name] for name in shards[0]) == 2  # two are neighbours
    for name in shards[0]:
        same_file = os.path.samefile(f"{built.out}/shards/{name}", tmp_path / "second/shards" / name)
        assert same_file == (shards[0][name] == shards[1][name])


def test_the_new_generation_names_the_old_one_and_is_another_dataset(built, tmp_path):
    first = Dataset.open(built.out)
    without(built, tmp_path / "second", next(iter(samples(built.out))))
    second = Dataset.open(str(tmp_path / "second"))
    document = json.loads((tmp_path / "second/fingerprint.json").read_text())
    assert document["made_from"] == first.fingerprint
    assert second.fingerprint != first.fingerprint
    assert second.pool_hash == first.pool_hash


def test_a_removal_from_a_removal_is_whole_and_can_be_relabelled(built, tmp_path):
    keys = list(samples(built.out))
    without(built, tmp_path / "second", keys[0])
    again = dataclasses.replace(built, out=str(tmp_path / "third"))
    summary = remove(str(tmp_path / "second"), again, BlockList(frozenset(keys[5:7])), LocalRunner())
    assert list(verify(str(tmp_path / "third"))) == []
    assert set(samples(tmp_path / "third")) == set(keys) - {keys[0], *keys[5:7]}
    assert summary["rejects_by_reason"]["removed"] == 3
    changed = dataclasses.replace(
        again, out=str(tmp_path / "fourth"), align=dataclasses.replace(ALIGN, tau=0.2)
    )
    relabel(str(tmp_path / "third"), changed, LocalRunner())
    assert list(verify(str(tmp_path / "fourth"))) == []
    assert set(samples(tmp_path / "fourth")) == set(samples(tmp_path / "third"))


def test_the_plan_forgets_the_captions_of_what_went(built, tmp_path):
    sample = next(iter(samples(built.out).values()))
    without(built, tmp_path / "second", sample.key)
    layout = Layout(str(tmp_path / "second"))
    rows = [r for part in Plan.read(layout).parts for r in part_rows(layout, part).to_pylist()]
    (row,) = [r for r in rows if r["source_key"] == sample.meta["source_key"]]
    assert (row["captions"], row["mentions"], row["spans"], row["problem"]) == ([], [], [], "removed")
    assert sum(bool(r["captions"]) for r in rows) == 26
    assert len(rows) == 27


def test_whole_shards_may_go_and_no_budget_counts_them(built, tmp_path):
    keys = list(samples(built.out))
    summary = without(built, tmp_path / "second", *keys[:-1], reject_budget=0.1)
    assert (summary["n_samples"], summary["n_shards"]) == (1, 1)
    assert list(verify(str(tmp_path / "second"))) == []


def test_an_empty_list_gives_the_same_shards(built, tmp_path):
    without(built, tmp_path / "second", "unheard of", recheck="size")
    assert worlds.hashes(tmp_path / "second") == worlds.hashes(built.out)
    assert list(verify(str(tmp_path / "second"))) == []


def test_it_is_resumed_and_another_list_is_refused(built, tmp_path):
    key = next(iter(samples(built.out)))
    without(built, tmp_path / "second", key)
    before = worlds.hashes(tmp_path / "second")
    for path in sorted((tmp_path / "second").glob("manifest/*.json"))[:2]:
        path.unlink()
    assert without(built, tmp_path / "second", key)["last_run"]["n_parts_built"] == 2
    assert worlds.hashes(tmp_path / "second") == before
    with pytest.raises(Refused, match=r"options\.sha256"):
        without(built, tmp_path / "second", "another")
    with pytest.raises(ValueError, match="out: "):
        without(built, built.out, key)


def test_a_damaged_shard_is_not_carried_over(built, tmp_path):
    shard = sorted(Path(built.out, "shards").glob("*.tar"))[-1]
    shard.write_bytes(shard.read_bytes()[:-1] + b"x")
    with pytest.raises(RuntimeError, match="bytes have changed"):
        without(built, tmp_path / "second", next(iter(samples_of_first(built))))


def samples_of_first(built) -> list[str]:
    data = Dataset.open(built.out)
    return [s.key for s in data.read(data.shards[0])]


def test_the_command_removes_and_names_what_it_did_not_find(built, tmp_path, capsys):
    key = next(iter(samples(built.out)))
    (tmp_path / "list.txt").write_text(f"# requests of November\n\n{key}\nhttps://example.com/dog.jpg\n")
    command = ["remove", built.out, "--list", str(tmp_path / "list.txt"), "--out", str(tmp_path / "second")]
    assert cli.main(command) == 0
    said = capsys.readouterr()
    assert "1 removed" in said.out
    assert "https://example.com/dog.jpg" in said.err
    assert key not in samples(tmp_path / "second")
    assert cli.main([*command[:3], str(tmp_path / "nowhere.txt"), *command[4:]]) == 2


# a block list at build time


def test_a_build_leaves_out_what_its_block_list_names(built, tmp_path):
    order = list(samples(built.out).values())
    entries = [order[0].meta["source_key"], order[4].key, hashlib.sha256(order[8].image).hexdigest().upper()]
    (tmp_path / "list.txt").write_text("\n".join(entries))
    source = dataclasses.replace(built.source, block_list=str(tmp_path / "list.txt"))
    settings = dataclasses.replace(built, out=str(tmp_path / "second"), source=source, reject_budget=0.05)
    summary = build(settings, LocalRunner())
    assert summary["rejects_by_reason"] == {"blocked": 3, "not_an_image": 1}
    assert {s.image for s in samples(built.out).values()} - {
        s.image for s in samples(settings.out).values()
    } == {order[i].image for i in (0, 4, 8)}
    assert list(verify(settings.out)) == []
    (tmp_path / "list.txt").write_text("\n".join(entries[:2]))
    with pytest.raises(Refused, match=r"settings\.source\.block_list"):
        build(settings, LocalRunner())
    missing = dataclasses.replace(source, block_list=str(tmp_path / "nowhere.txt"))
    with pytest.raises(FileNotFoundError):
        build(dataclasses.replace(settings, source=missing, out=str(tmp_path / "third")), LocalRunner())


def test_the_order_and_the_comments_of_a_list_do_not_count(tmp_path):
    (tmp_path / "a").write_text("# why\nx\n\ny\n")
    (tmp_path / "b").write_text("y\r\n x \r\n")
    a, b = (BlockList.read(str(tmp_path / name)) for name in "ab")
    assert a == b
    assert a.identity() == b.identity()
    assert not a.has_images
