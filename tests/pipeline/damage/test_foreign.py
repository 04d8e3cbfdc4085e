"""Files of another dataset, and identities that are lost: what mends them is said, does, and costs no shard."""

from __future__ import annotations

import dataclasses
import json
import re
import shutil
from pathlib import Path

import pyarrow.parquet as pq
import pytest

import storage
from concept_pool.count import Counts
from jobs import cli
from jobs.failures import failure
from pipeline import fingerprint, sources
from pipeline.build import build
from pipeline.dataset import Dataset
from pipeline.dataset.claim import Refused
from pipeline.dataset.damage import DamagedDataset
from pipeline.dataset.layout import Layout
from pipeline.dataset.random_access import Shards
from pipeline.dataset.verify import repair, verify
from pipeline.run_local import LocalRunner
from tests.pipeline import worlds
from tests.pipeline.damage.faults import (
    ALIGN,
    ITS_MAKER,
    RECORDS,
    commands,
    contents,
    derivations,
    elsewhere,
    lose,
    put,
    shard_of,
)

#: Files of another dataset, and files that are lost too.
FOREIGN_POOLS = [
    (("concept_pool",), ()),
    (("concept_pool", *RECORDS), ()),
    (("concept_pool", "fingerprint.json"), ()),
    (("concept_pool",), ("fingerprint.json",)),
    ((), ("fingerprint.json", "concept_pool/embeddings.json")),
    (("concept_pool/text_embeddings.safetensors",), ("fingerprint.json",)),
]


@pytest.mark.parametrize(("foreign", "lost"), FOREIGN_POOLS)
def test_the_maker_makes_the_pool_that_rows_say_it_was(copied, other, foreign, lost):
    before = worlds.hashes(copied.out)
    pool = worlds.hashes(copied.out, "concept_pool/*")
    put(other, copied.out, foreign)
    lose(copied.out, lost)
    assert list(verify(copied.out))
    with pytest.raises(DamagedDataset):
        repair(copied.out)
    assert build(copied, LocalRunner())["last_run"]["n_parts_built"] == 0
    assert worlds.hashes(copied.out) == before
    assert worlds.hashes(copied.out, "concept_pool/*") == pool
    assert list(verify(copied.out)) == []


@pytest.mark.parametrize("name", ["relabelled", "removed", "merged"])
def test_a_derived_dataset_gets_its_pool_back_too(copied, other, name):
    make, out = derivations(copied)[name], str(Path(copied.out).parent / name)
    make()
    pool = worlds.hashes(out, "concept_pool/*")
    put(other, out, ("concept_pool",))
    assert make()["last_run"]["n_parts_built"] == 0
    lose(out, ("fingerprint.json", "concept_pool/embeddings.json"))
    assert make()["last_run"]["n_parts_built"] == 0
    assert worlds.hashes(out, "concept_pool/*") == pool
    assert list(verify(out)) == []


def test_a_folder_whose_identity_is_lost_is_not_taken_over(copied, other):
    """Neither by another input nor by other settings; what there is stays."""
    lose(copied.out, ("fingerprint.json", "concept_pool/embeddings.json"))
    before = contents(copied.out)
    foreign = dataclasses.replace(
        copied, source=dataclasses.replace(copied.source, captions=f"{other.parent}/source/captions.json")
    )
    templates = Path(copied.out).parent / "templates.txt"
    templates.write_text("one {}\n")
    other_templates = dataclasses.replace(copied.pool, templates=str(templates))
    for settings in (
        foreign,
        dataclasses.replace(copied, align=dataclasses.replace(ALIGN, tau=0.3)),
        dataclasses.replace(copied, pool=other_templates),
    ):
        with pytest.raises(
            Refused, match=r"has no fingerprint\.json of its parts, and these settings are not theirs"
        ):
            build(settings, LocalRunner())
        assert contents(copied.out) == before
    build(copied, LocalRunner())
    after = contents(copied.out)
    assert {name: after[name] for name in before} == before


@pytest.mark.parametrize("cut", [False, True], ids=["gone", "cut"])
def test_without_a_row_other_settings_take_nothing_over(copied, cut):
    """The pool that lies there is not theirs, and no row could say so: it would label, and shards would be lost."""
    lose(copied.out, ("manifest.parquet",))
    for row in (Path(copied.out) / "manifest").iterdir():
        row.write_text("{") if cut else row.unlink()
    before = contents(copied.out)
    pool = dataclasses.replace(copied.pool, min_count=copied.pool.min_count + 1)
    with pytest.raises(Refused, match=r"settings\.pool\.min_count: was"):
        build(dataclasses.replace(copied, pool=pool), LocalRunner())
    assert contents(copied.out) == before


@pytest.mark.parametrize(
    "lost", [(), ("fingerprint.json",), ("fingerprint.json", "concept_pool/embeddings.json")]
)
def test_one_row_that_strayed_in_takes_nothing_over(copied, lost):
    layout = Layout(copied.out)
    others = dataclasses.replace(copied, align=dataclasses.replace(ALIGN, tau=0.3))
    theirs = fingerprint.identity_of(layout, fingerprint.components(others, sources.load(others.source)))
    rows = sorted((Path(copied.out) / "manifest").iterdir())
    assert len(rows) > 1
    name = "000000-0123456789ab"
    row = json.loads(rows[0].read_text().replace(rows[0].stem, name)) | {"fingerprint": theirs["fingerprint"]}
    (rows[0].parent / f"{name}.json").write_text(json.dumps(row))
    lose(copied.out, ("manifest.parquet", "summary.json", "rejects.parquet", *lost))
    before = worlds.hashes(copied.out, "shards/*")
    with pytest.raises(Refused):
        build(others, LocalRunner())
    assert worlds.hashes(copied.out, "shards/*") == before
    assert (Path(copied.out) / "fingerprint.json").exists() is not bool(lost)


def test_a_refusal_names_the_settings_where_the_pool_is_lost_too(copied):
    lose(copied.out, ("concept_pool/embeddings.json",))
    with pytest.raises(Refused, match=r"settings\.align\.tau: was 0\.1, is 0\.3"):
        build(dataclasses.replace(copied, align=dataclasses.replace(ALIGN, tau=0.3)), LocalRunner())


def test_a_pool_that_cannot_be_made_again_ends_in_a_line_that_says_what_to_do(
    copied, other, monkeypatch, capsys
):
    put(other, copied.out, ("concept_pool",))
    before = worlds.hashes(copied.out, "concept_pool/*")
    monkeypatch.setattr(
        "pipeline.planning.total_counts",
        lambda *_: Counts.from_table(storage.read_table(str(other / RECORDS[0]))),
    )
    with pytest.raises(DamagedDataset, match="the concept pool that this command makes is not") as e:
        build(copied, LocalRunner())
    assert failure("x.py", e.value) == 1
    assert "give another --out" in capsys.readouterr().err
    assert worlds.hashes(copied.out, "concept_pool/*") == before
    build(elsewhere(copied, "anew"), LocalRunner())


def _of_another_unit(out: str) -> None:
    path = Path(out, RECORDS[1])
    path.write_text(path.read_text().replace('"unit": 0', '"unit": 1'))


#: What becomes of the record and the counts of a unit.
RECORD_FAULTS = {
    "record gone": lambda out, other: lose(out, RECORDS[1:]),
    "record cut": lambda out, other: Path(out, RECORDS[1]).write_text('{"unit": 0'),
    "record of another unit": lambda out, other: _of_another_unit(out),
    "record of wrong types": lambda out, other: Path(out, RECORDS[1]).write_text(
        '{"unit": 0, "n_rows": 1, "n_samples": 1, "index_sha256": 1, "counts_sha256": [], "parts": "x"}'
    ),
    "record garbage and counts of another": lambda out, other: (
        put(other, out, RECORDS[:1]),
        Path(out, RECORDS[1]).write_bytes(b"\xff\x00"),
    ),
    "both of another": lambda out, other: put(other, out, RECORDS),
    "counts empty": lambda out, other: Path(out, RECORDS[0]).write_bytes(b""),
}


@pytest.mark.parametrize("fault", RECORD_FAULTS)
@pytest.mark.parametrize("before", ["the plan", "the pool"])
def test_no_record_or_counts_of_a_unit_lead_to_another_pool(copied, made, other, fault, before):
    """A build that was cut before the plan or the pool goes on; nothing is committed that would tell."""
    out = copied.out
    lose(out, ("summary.json", "manifest.parquet", "rejects.parquet"))
    shutil.rmtree(Path(out, "manifest"))
    lose(out, ("concept_pool/embeddings.json", *(("plan/plan.json",) if before == "the plan" else ())))
    RECORD_FAULTS[fault](out, other)
    if before == "the pool":
        assert any("plan/units" in line or "plan/counts" in line for line in verify(out))
    build(copied, LocalRunner())
    for kind in ("concept_pool/*", "plan/*.parquet", "plan/*/*", "shards/*"):
        assert worlds.hashes(out, kind) == worlds.hashes(made.out, kind), kind
    assert list(verify(out)) == []


def test_counts_that_nobody_needs_are_no_fault(copied):
    lose(copied.out, RECORDS)
    assert list(verify(copied.out)) == []


@pytest.mark.parametrize("also", [(), ("fingerprint.json",)])
def test_rows_of_another_dataset_cost_no_shard(copied, also, tmp_path, capsys):
    tau = dataclasses.replace(copied, out=str(tmp_path / "tau"), align=dataclasses.replace(ALIGN, tau=0.2))
    build(tau, LocalRunner())
    before = worlds.hashes(copied.out)
    put(Path(tau.out), copied.out, ("manifest", *also))
    if also:  # nobody can know which of them are the wrong ones
        assert cli.main(["verify", copied.out, "--repair"]) == 1
        assert worlds.hashes(copied.out) == before
    with pytest.raises(DamagedDataset, match=r"manifest/.*json is another dataset's") as e:
        build(copied, LocalRunner())
    assert f"regionpairs verify {copied.out} --repair" in e.value.advice
    assert repair(copied.out) == []
    assert worlds.hashes(copied.out) == before
    assert build(copied, LocalRunner())["last_run"]["n_parts_built"] == 0
    assert list(verify(copied.out)) == []


def test_rows_that_are_lost_cost_no_shard_in_a_repair(copied):
    before = worlds.hashes(copied.out, "manifest/*")
    shards = worlds.hashes(copied.out)
    shutil.rmtree(Path(copied.out, "manifest"))
    shard_of(copied.out).write_bytes(b"cut")  # this one is damaged indeed
    assert len(repair(copied.out)) == 1
    assert len(worlds.hashes(copied.out, "manifest/*")) == len(before) - 1
    assert build(copied, LocalRunner())["last_run"]["n_parts_built"] == 1
    assert worlds.hashes(copied.out) == shards
    assert list(verify(copied.out)) == []


@pytest.mark.parametrize("finished", [True, False])
def test_no_reader_takes_a_value_from_settings_that_are_not_those_that_were_written(copied, finished, capsys):
    path = Path(copied.out, "settings.yaml")
    path.write_text(path.read_text().replace("tau: 0.1", "tau: 0.7"))
    if not finished:
        lose(copied.out, ("summary.json",))
    asked = {
        **commands(copied.out),
        "relabel": ["relabel", copied.out, "--out", f"{copied.out}-2", "--runtime", "local"],
    }
    asked["train"] = ["train", "--data.dataset", copied.out, "--run.out", f"{copied.out}-3"]
    for name, arguments in asked.items():
        assert cli.main(arguments) == 1, name
        assert ITS_MAKER.format(copied.out) in capsys.readouterr().err, name
    build(copied, LocalRunner())
    assert Dataset.open(copied.out).tau == ALIGN.tau
    assert list(verify(copied.out)) == []


def test_text_embeddings_of_another_pool_are_not_read(copied, other, capsys):
    put(other, copied.out, ("concept_pool/text_embeddings.safetensors",))
    with pytest.raises(DamagedDataset, match=r"its sha256 is not the one in embeddings\.json"):
        Dataset.open(copied.out).concepts()
    put(other, copied.out, ("concept_pool/concepts.parquet", "concept_pool/pool.json"))
    assert cli.main(["stats", copied.out]) == 1
    assert ITS_MAKER.format(copied.out) in capsys.readouterr().err
    build(copied, LocalRunner())
    assert list(verify(copied.out)) == []


def test_a_pool_without_a_single_row_is_damage_to_those_who_copy_it_too(copied, capsys):
    path = str(Path(copied.out, "concept_pool/concepts.parquet"))
    pq.write_table(pq.read_table(path).slice(0, 0), path)
    assert cli.main(["relabel", copied.out, "--out", f"{copied.out}-2", "--runtime", "local"]) == 1
    assert ITS_MAKER.format(copied.out) in capsys.readouterr().err
    build(copied, LocalRunner())
    assert list(verify(copied.out)) == []


def test_a_shard_of_the_same_images_under_other_settings_is_not_read_sample_by_sample(copied, tmp_path):
    tau = dataclasses.replace(copied, out=str(tmp_path / "tau"), align=dataclasses.replace(ALIGN, tau=0.2))
    build(tau, LocalRunner())
    rows = Dataset.open(copied.out).shards
    Shards(rows, str(tmp_path / "buffer"), 0, 4).read(0, 0)
    shutil.copyfile(shard_of(tau.out), shard_of(copied.out))
    with pytest.raises(DamagedDataset, match=r"\.tar is another"):
        Shards(rows, str(tmp_path / "buffer"), 0, 4).read(0, 0)
    assert len(repair(copied.out)) == 1
    build(copied, LocalRunner())
    Shards(rows, str(tmp_path / "buffer"), 0, 4).read(0, 0)


@pytest.mark.parametrize(
    "name", ["fingerprint.json", "settings.yaml", "concept_pool/embeddings.json", "shard"]
)
def test_a_folder_where_a_file_belongs_ends_in_a_line_that_helps(copied, name, capsys):
    path = shard_of(copied.out) if name == "shard" else Path(copied.out, name)
    key = commands(copied.out)["show"][-1]
    path.rename(f"{copied.out}.kept")
    path.mkdir()
    for arguments in (["show", copied.out, key], ["verify", copied.out]):
        assert cli.main(arguments) in (1, 2)
        assert re.search("move (it|that folder) away", capsys.readouterr().err), arguments
    path.rmdir()
    repair(copied.out) if name == "shard" else None
    build(copied, LocalRunner())
    assert list(verify(copied.out)) == []
