from __future__ import annotations

import dataclasses
import json
from pathlib import Path

import numpy as np
import pytest
import yaml

from concept_pool.pool import ConceptPool
from pipeline import teachers
from pipeline.align import AlignSettings
from pipeline.build import Incomplete, Refused, build
from pipeline.dataset import shards
from pipeline.dataset.damage import DamagedDataset
from pipeline.dataset.npz import read_npz
from pipeline.dataset.verify import repair, verify
from pipeline.relabel import NotRelabelable, relabel
from pipeline.run_local import LocalRunner
from tests.pipeline import worlds

ALIGN = AlignSettings(policy="blend", tau=0.1, threshold=0.2, top_k=3, region_embeddings="fp16")


@pytest.fixture
def built(tmp_path, color_teacher):
    """A dataset with stored embeddings, one of whose images is broken."""
    source = worlds.coco_folder(tmp_path / "source", n=14)
    (Path(source.images) / "003.jpg").write_bytes(b"no picture")
    settings = worlds.settings(tmp_path / "first", source, align=ALIGN, reject_budget=0.5)
    build(settings, LocalRunner())
    return settings


def samples_of(out) -> dict[str, tuple[dict, dict[str, np.ndarray], dict[str, bytes]]]:
    found = {}
    for path in sorted(Path(out, "shards").glob("*.tar")):
        for key, members in shards.read_shard(path.read_bytes()):
            found[key] = (json.loads(members["json"]), read_npz(members["npz"]), members)
    return found


def changed(settings, out, **align):
    return dataclasses.replace(settings, out=str(out), align=dataclasses.replace(settings.align, **align))


def no_teacher(monkeypatch):
    def refuse(settings):
        raise AssertionError("a model was loaded")

    monkeypatch.setattr(teachers, "load", refuse)


@pytest.mark.parametrize("stored", ["fp16", "int8"])
def test_it_gives_what_a_new_build_would(stored, tmp_path, color_teacher, monkeypatch):
    source = worlds.coco_folder(tmp_path / "source", n=14)
    align = dataclasses.replace(ALIGN, region_embeddings=stored)
    first = worlds.settings(tmp_path / "first", source, align=align)
    build(first, LocalRunner())
    again = changed(first, tmp_path / "built", policy="pool", tau=0.05, threshold=0.4, top_k=5)
    build(again, LocalRunner())
    no_teacher(monkeypatch)
    relabel(first.out, dataclasses.replace(again, out=str(tmp_path / "relabelled")), LocalRunner())
    assert list(verify(str(tmp_path / "relabelled"))) == []
    expected, got = samples_of(tmp_path / "built"), samples_of(tmp_path / "relabelled")
    assert list(expected) == list(got)
    tolerance = 0.002 if stored == "fp16" else 0.03
    for key, (meta, arrays, members) in got.items():
        assert arrays["topk_ids"][:, 0].tolist() == expected[key][1]["topk_ids"][:, 0].tolist()
        np.testing.assert_allclose(arrays["topk_probs"], expected[key][1]["topk_probs"], atol=tolerance)
        assert members["jpg"] == expected[key][2]["jpg"]
        for name in ("boxes_xyxy_norm", "objectness", "caption_embeddings", "region_embeddings"):
            assert arrays[name].tobytes() == expected[key][1][name].tobytes()
        for field in ("captions", "mentioned", "source_key", "pool", "n_regions"):
            assert meta[field] == expected[key][0][field]


def test_the_ledger_and_the_parts_are_kept(built, tmp_path):
    summary = relabel(built.out, changed(built, tmp_path / "second", threshold=0.3), LocalRunner())
    assert (summary["n_read"], summary["n_samples"], summary["n_rejected"]) == (14, 13, 1)
    assert summary["rejects_by_reason"] == {"not_an_image": 1}
    names = [sorted(worlds.hashes(root)) for root in (built.out, tmp_path / "second")]
    assert names[0] == names[1]


def test_another_pool_and_its_mentions(built, tmp_path):
    pool = ConceptPool.load(f"{built.out}/concept_pool")
    smaller = ConceptPool(pool.table.filter(pool.table["is_class"]).slice(1), pool.rejected, pool.about)
    smaller.save(str(tmp_path / "pool"))
    wanted = changed(built, tmp_path / "second")
    wanted = dataclasses.replace(wanted, pool=dataclasses.replace(wanted.pool, path=str(tmp_path / "pool")))
    relabel(built.out, wanted, LocalRunner())
    for key, (meta, arrays, _) in samples_of(tmp_path / "second").items():
        before = samples_of(built.out)[key][0]
        assert meta["pool"] == smaller.hash
        assert [smaller.names[i] for i in meta["mentioned"]] == [
            name for name in (pool.names[i] for i in before["mentioned"]) if name in smaller.names
        ]
        assert arrays["topk_ids"].max() < len(smaller.names)
    assert list(verify(str(tmp_path / "second"))) == []


def test_it_is_resumed_and_repaired_like_a_build(built, tmp_path):
    settings = changed(built, tmp_path / "second", policy="pool")
    relabel(built.out, settings, LocalRunner())
    before = worlds.hashes(tmp_path / "second")
    shard, row = (
        sorted((tmp_path / "second").glob("shards/*.tar"))[:2],
        sorted((tmp_path / "second").glob("manifest/*.json"))[1],
    )
    shard[0].write_bytes(b"cut")
    row.unlink()
    (tmp_path / "second" / "shards" / ".tmp-dead").write_bytes(b"half")
    assert relabel(built.out, settings, LocalRunner())["last_run"]["n_parts_built"] == 2
    assert worlds.hashes(tmp_path / "second") == before
    assert relabel(built.out, settings, LocalRunner())["last_run"]["n_parts_built"] == 0
    assert list(verify(str(tmp_path / "second"))) == []


def test_embeddings_can_be_dropped_or_made_smaller(built, tmp_path):
    relabel(built.out, changed(built, tmp_path / "none", region_embeddings="none"), LocalRunner())
    relabel(built.out, changed(built, tmp_path / "int8", region_embeddings="int8"), LocalRunner())
    for _, arrays, _ in samples_of(tmp_path / "none").values():
        assert "region_embeddings" not in arrays
    for key, (_, arrays, _) in samples_of(tmp_path / "int8").items():
        exact = samples_of(built.out)[key][1]["region_embeddings"].astype(np.float32)
        restored = arrays["region_embeddings"] * arrays["region_scales"][:, None]
        np.testing.assert_allclose(restored, exact, atol=0.005)


def test_other_settings_in_the_same_folder_are_refused(built, tmp_path):
    relabel(built.out, changed(built, tmp_path / "second", threshold=0.3), LocalRunner())
    with pytest.raises(Refused, match=r"align\.threshold: was 0\.3, is 0\.4"):
        relabel(built.out, changed(built, tmp_path / "second", threshold=0.4), LocalRunner())
    (tmp_path / "mine").mkdir()
    (tmp_path / "mine" / "thesis.txt").write_text("")
    with pytest.raises(Refused, match="thesis"):
        relabel(built.out, changed(built, tmp_path / "mine"), LocalRunner())


def test_what_cannot_be_relabelled_is_said(built, tmp_path):
    with pytest.raises(NotRelabelable, match="folder of their own"):
        relabel(built.out, built, LocalRunner())
    with pytest.raises(FileNotFoundError, match="no dataset"):
        relabel(str(tmp_path / "nowhere"), changed(built, tmp_path / "second"), LocalRunner())
    other = dataclasses.replace(built, out=str(tmp_path / "second"), samples_per_shard=3)
    with pytest.raises(NotRelabelable, match=r"needs a build.*samples_per_shard"):
        relabel(built.out, other, LocalRunner())
    bare = worlds.settings(tmp_path / "bare", built.source, reject_budget=0.5)
    build(bare, LocalRunner())
    with pytest.raises(NotRelabelable, match="stores no region embeddings"):
        relabel(bare.out, dataclasses.replace(bare, out=str(tmp_path / "second")), LocalRunner())


def test_a_dataset_from_before_a_setting_is_relabelled_as_if_that_had_its_default(built, tmp_path):
    path = Path(built.out, "settings.yaml")
    was = yaml.safe_load(path.read_text())
    del was["duplicates"], was["teacher"]["base"], was["filters"]["min_nouns"]
    worlds.write_settings(built.out, yaml.safe_dump(was))
    relabel(built.out, changed(built, tmp_path / "second", threshold=0.5), LocalRunner())
    assert list(verify(str(tmp_path / "second"))) == []
    was["filters"]["min_chars"] = 3
    worlds.write_settings(built.out, yaml.safe_dump(was))
    with pytest.raises(NotRelabelable, match=r"filters\.min_chars: was 3, is 0"):
        relabel(built.out, changed(built, tmp_path / "third"), LocalRunner())


def _flipped(shard):
    data = bytearray(shard.read_bytes())
    data[len(data) // 2] ^= 1
    shard.write_bytes(data)


@pytest.mark.parametrize(("damage", "said"), [(_flipped, "damaged"), (Path.unlink, "gone")])
def test_a_damaged_shard_of_the_dataset_is_not_relabelled(damage, said, built, tmp_path):
    shard = sorted(Path(built.out, "shards").glob("*.tar"))[0]
    damage(shard)
    with pytest.raises(Incomplete, match=said) as e:
        relabel(built.out, changed(built, tmp_path / "second"), LocalRunner())
    said = str(e.value)
    assert f"`regionpairs verify {built.out} --repair` and the command that made that dataset mend it" in said
    assert "committed; the same command goes on" not in said  # it would fail again
    assert repair(built.out)
    build(built, LocalRunner())
    relabel(built.out, changed(built, tmp_path / "second"), LocalRunner())  # as the line says
    assert list(verify(str(tmp_path / "second"))) == []
    shard.unlink()
    sorted(Path(built.out, "manifest").glob("*.json"))[0].unlink()
    with pytest.raises(DamagedDataset, match="not complete"):
        relabel(built.out, changed(built, tmp_path / "third"), LocalRunner())
