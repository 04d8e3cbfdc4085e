"""Files of a dataset that are gone or damaged: what mends them is said, and does."""

from __future__ import annotations

import dataclasses
import json
import re
import shutil
from functools import partial
from pathlib import Path

import numpy as np
import pyarrow.parquet as pq
import pytest
import yaml

import storage
from concept_pool.count import Counts
from jobs import cli
from jobs.failures import failure
from pipeline import fingerprint, sources
from pipeline.align import AlignSettings
from pipeline.block_list import BlockList
from pipeline.build import build
from pipeline.dataset import Dataset
from pipeline.dataset.claim import Refused
from pipeline.dataset.damage import DamagedDataset
from pipeline.dataset.layout import Layout
from pipeline.dataset.plan import DamagedPlan
from pipeline.dataset.random_access import Shards
from pipeline.dataset.verify import repair, verify
from pipeline.merge import merge
from pipeline.relabel import relabel
from pipeline.remove import remove
from pipeline.run_local import LocalRunner
from pipeline.runner import Incomplete
from tests.fakes import ColorTeacher
from tests.pipeline import worlds

ALIGN = AlignSettings(policy="blend", tau=0.1, threshold=0.2, top_k=3, region_embeddings="fp16")
OF_THE_PLAN = ("plan/plan.json", "plan/units.parquet", "plan/parts.parquet", "plan/index/000000.parquet")


@pytest.fixture(scope="module", autouse=True)
def _models():
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr("pipeline.teachers.load", lambda settings: ColorTeacher())
        yield


@pytest.fixture(scope="module")
def made(tmp_path_factory):
    """A dataset's settings."""
    folder = tmp_path_factory.mktemp("made")
    settings = worlds.settings(folder / "first", worlds.coco_folder(folder / "source", n=8), align=ALIGN)
    build(settings, LocalRunner())
    return settings


@pytest.fixture
def copied(made, tmp_path):
    shutil.copytree(made.out, tmp_path / "first")
    return dataclasses.replace(made, out=str(tmp_path / "first"))


def elsewhere(settings, name: str):
    return dataclasses.replace(settings, out=str(Path(settings.out).parent / name))


def derivations(settings):
    """What makes a dataset out of another: name -> a function of no argument."""
    out, runner = settings.out, LocalRunner()
    none = BlockList(frozenset({"of-nobody"}))
    return {
        "relabelled": lambda: relabel(out, elsewhere(settings, "relabelled"), runner),
        "labels": lambda: relabel(out, elsewhere(settings, "labels"), runner, labels_only=True),
        "removed": lambda: remove(out, elsewhere(settings, "removed"), none, runner),
        "merged": lambda: merge(out, [out], elsewhere(settings, "merged"), runner),
    }


@pytest.mark.parametrize("file", OF_THE_PLAN)
@pytest.mark.parametrize("cut", [False, True])
def test_a_plan_that_is_gone_or_damaged_is_answered_with_what_mends_it(copied, file, cut, capsys):
    path = Path(copied.out, file)
    before = path.read_bytes()
    if cut:
        path.write_bytes(before[:-9])
    else:
        path.unlink()
    for name, make in derivations(copied).items():
        with pytest.raises(DamagedPlan, match=f"{'damaged' if cut else 'missing'}: {file}") as e:
            make()
        assert failure("x.py", e.value) == 1, name
        assert f"the command that made {copied.out} mends it" in capsys.readouterr().err
    build(copied, LocalRunner())  # is that command
    assert path.read_bytes() == before
    for name, make in derivations(copied).items():
        make()
        assert list(verify(str(Path(copied.out).parent / name))) == [], name


def test_a_record_whose_index_or_counts_are_gone_is_no_record(copied):
    before = worlds.hashes(Path(copied.out))
    files = {name: Path(copied.out, "plan", name) for name in ("plan.json", "index/000000.parquet")}
    files["counts"] = Path(copied.out, "plan/counts/000000.parquet")
    for gone in (("plan.json", "index/000000.parquet"), ("plan.json", "counts"), tuple(files)):
        content = {name: files[name].read_bytes() for name in gone}
        for name in gone:
            files[name].unlink()
        build(copied, LocalRunner())
        assert {name: files[name].read_bytes() for name in gone} == content
    assert worlds.hashes(Path(copied.out)) == before
    assert list(verify(copied.out)) == []


def test_counts_that_are_gone_when_a_pool_is_to_be_made_are_made_anew(copied):
    for name in ("plan/counts/000000.parquet", "concept_pool/embeddings.json"):
        Path(copied.out, name).unlink()
    build(copied, LocalRunner())
    assert list(verify(copied.out)) == []


@pytest.mark.parametrize("name", ["relabelled", "labels", "removed", "merged"])
def test_the_command_that_made_a_dataset_from_another_makes_its_indices_anew(copied, name):
    make, path = derivations(copied)[name], Path(copied.out).parent / name / "plan/index/000000.parquet"
    make()
    before = path.read_bytes()
    path.unlink()
    assert make()["last_run"]["n_parts_built"] == 0
    assert path.read_bytes() == before
    path.write_bytes(b"cut")
    make()
    assert path.read_bytes() == before


def test_between_repair_and_rebuild_labels_point_to_what_completes_their_images(copied):
    """Labels alone stand on another dataset: while that is being mended nothing has moved."""
    relabel(copied.out, elsewhere(copied, "labels"), LocalRunner(), labels_only=True)
    labels = str(Path(copied.out).parent / "labels")
    next(Path(copied.out).glob("shards/*.tar")).unlink()
    again = partial(relabel, labels, elsewhere(copied, "again"), LocalRunner())
    with pytest.raises(Incomplete, match=f"verify {copied.out} --repair"):
        again()
    assert len(repair(copied.out)) == 1
    with pytest.raises(DamagedDataset, match=f"{copied.out}, which has their images, is not complete") as e:
        again()
    assert f"the command that made {copied.out}" in e.value.advice
    build(copied, LocalRunner())
    again()


@pytest.mark.parametrize("kind", ["shards/*.tar", "index/*.parquet"])
@pytest.mark.parametrize("cut", [False, True])
def test_a_shard_or_index_that_is_gone_or_damaged_ends_every_command_with_1_and_says_what_mends_it(
    copied, kind, cut, tmp_path, capsys
):
    for path in sorted(Path(copied.out).glob(kind)):
        if cut:
            path.write_bytes(path.read_bytes()[:600])
        else:
            path.unlink()
    for name, make in derivations(copied).items():
        if kind.startswith("index") and name in ("relabelled", "merged"):
            continue  # they read none
        with pytest.raises((Incomplete, DamagedDataset)) as e:
            make()
        assert "--repair" in str(e.value) + getattr(e.value, "advice", ""), name
    commands = [["view", copied.out, "--out", str(tmp_path / "x.png")]]
    if kind.startswith("shards"):
        commands.append(["export", copied.out, "--format", "coco", "--out", str(tmp_path / "coco")])
    for command in commands:
        assert cli.main(command) == 1, command
        assert f"regionpairs verify {copied.out} --repair" in capsys.readouterr().err


def commands(out: str) -> dict[str, list[str]]:
    """What reads a dataset and takes no more than it: name -> arguments of the command line."""
    key = pq.read_table(Path(out, "index", shard_of(out).with_suffix(".parquet").name))["key"][0].as_py()
    beside = str(Path(out).parent)
    return {
        "stats": ["stats", out],
        "show": ["show", out, key],
        "view": ["view", out, "--out", f"{beside}/x.png"],
        "report": ["report", out, "--out", f"{beside}/x.html"],
        "export": ["export", out, "--format", "coco", "--out", f"{beside}/x.json"],
    }


def shard_of(out: str) -> Path:
    return min(Path(out, "shards").glob("*.tar"))


#: What is broken -> the commands that must notice, and what mends it.
ITS_MAKER, REPAIR = "the command that made {} mends it", "`regionpairs verify {} --repair`"
BROKEN = {
    "manifest.parquet": (("stats", "show", "view", "report", "export"), ITS_MAKER),
    "settings.yaml": (("stats", "show", "view", "report", "export"), ITS_MAKER),
    "fingerprint.json": (("stats", "show", "view", "report", "export"), ITS_MAKER),
    "concept_pool/pool.json": (("stats", "report", "export"), ITS_MAKER),
    "summary.json": (("stats", "report"), ITS_MAKER),
    "shard": (("show", "view", "report", "export"), REPAIR),
    "index": (("show", "view", "report"), REPAIR),
}


@pytest.mark.parametrize("file", BROKEN)
@pytest.mark.parametrize("how", ["gone", "garbage"])
def test_every_command_says_what_mends_a_file_that_is_gone_or_garbage(copied, file, how, capsys):
    out = copied.out
    asked = commands(out)
    path = {"shard": shard_of(out), "index": Path(out, "index", f"{shard_of(out).stem}.parquet")}.get(
        file, Path(out, file)
    )
    whole = path.read_bytes()
    if how == "gone":
        path.unlink()
    else:
        path.write_bytes(np.random.default_rng(0).bytes(len(whole)))
    names, advice = BROKEN[file]
    said = {}
    for name in names:
        code = cli.main(asked[name])
        said[name] = (code, capsys.readouterr().err)
    if how == "gone" and file in ("manifest.parquet", "summary.json"):  # of a build that has not finished
        assert [code for code, _ in said.values()] == [0] * len(names), said
    else:
        assert all(code == 1 and advice.format(out) in err for code, err in said.values()), said
    repair(out) if advice == REPAIR else None
    build(copied, LocalRunner())
    assert list(verify(out)) == []
    if file not in ("manifest.parquet", "summary.json", "settings.yaml"):
        assert path.read_bytes() == whole


def test_a_fingerprint_of_another_dataset_costs_no_shard(copied, made, tmp_path, capsys):
    other = dataclasses.replace(
        copied, out=str(tmp_path / "other"), align=dataclasses.replace(ALIGN, tau=0.2)
    )
    build(other, LocalRunner())
    record, right = Path(copied.out, "fingerprint.json"), Path(made.out, "fingerprint.json").read_bytes()
    shutil.copyfile(Path(other.out, "fingerprint.json"), record)
    before = worlds.hashes(copied.out)
    assert cli.main(["verify", copied.out, "--repair"]) == 1
    assert f"the command that made {copied.out} mends it" in capsys.readouterr().err
    assert worlds.hashes(copied.out) == before
    with pytest.raises(Refused):  # other settings do not take the folder over
        build(
            dataclasses.replace(other, out=copied.out, align=dataclasses.replace(ALIGN, tau=0.3)),
            LocalRunner(),
        )
    build(copied, LocalRunner())
    assert record.read_bytes() == right
    assert list(verify(copied.out)) == []


def test_a_manifest_of_another_dataset_is_noticed(copied, tmp_path, capsys):
    other = dataclasses.replace(
        copied, out=str(tmp_path / "other"), align=dataclasses.replace(ALIGN, tau=0.2)
    )
    build(other, LocalRunner())
    shutil.copyfile(Path(other.out, "manifest.parquet"), Path(copied.out, "manifest.parquet"))
    for name, arguments in commands(copied.out).items():
        assert cli.main(arguments) == 1, name
        assert f"the command that made {copied.out} mends it" in capsys.readouterr().err
    build(copied, LocalRunner())
    assert list(verify(copied.out)) == []


def test_a_dataset_that_misses_a_part_ends_a_derivation_with_1(copied, capsys):
    min(Path(copied.out, "manifest").glob("*.json")).unlink()
    for name, make in derivations(copied).items():
        with pytest.raises(DamagedDataset, match="not complete: 1 of ") as e:
            make()
        assert failure("x.py", e.value) == 1, name
    build(copied, LocalRunner())
    for make in derivations(copied).values():
        make()


def test_labels_lose_nothing_to_a_repair_while_their_images_are_away(copied, tmp_path, monkeypatch):
    derivations(copied)["labels"]()
    labels = str(tmp_path / "labels")
    before = worlds.hashes(tmp_path / "labels", "shards/*")
    assert before
    index = next(Path(copied.out, "index").iterdir())
    index.rename(tmp_path / "away")
    assert any(line.startswith("images: ") for line in verify(labels))
    assert repair(labels) == []
    Path(copied.out).rename(tmp_path / "moved")
    assert any(line.startswith("images: ") for line in verify(labels))
    assert repair(labels) == []
    assert worlds.hashes(tmp_path / "labels", "shards/*") == before


@pytest.mark.parametrize("also", [(), ("fingerprint.json",), ("summary.json",)])
def test_a_finished_dataset_without_its_rows_is_not_taken_over(copied, also):
    shutil.rmtree(Path(copied.out, "manifest"))
    for name in also:
        Path(copied.out, name).unlink()
    before = worlds.hashes(copied.out, "shards/*")
    other = dataclasses.replace(copied, align=dataclasses.replace(ALIGN, tau=0.3))
    with pytest.raises(Refused):
        build(other, LocalRunner())
    assert worlds.hashes(copied.out, "shards/*") == before
    build(copied, LocalRunner())
    assert worlds.hashes(copied.out, "shards/*") == before
    assert list(verify(copied.out)) == []


@pytest.mark.parametrize("finished", [True, False])
def test_settings_that_lost_their_end_are_written_anew(copied, finished):
    path = Path(copied.out, "settings.yaml")
    whole = path.read_text()
    path.write_text(whole[: whole.index("align:")])
    assert yaml.safe_load(path.read_text())
    if not finished:
        Path(copied.out, "summary.json").unlink()
    build(copied, LocalRunner())
    assert yaml.safe_load(path.read_text())["align"]["tau"] == ALIGN.tau
    assert list(verify(copied.out)) == []


def test_a_network_that_fails_is_no_damage(copied, monkeypatch):
    def unavailable(url, *arguments, **options):
        raise storage.Unavailable("503 Slow Down")

    for place in ("pipeline.dataset.concepts.ConceptPool.load", "storage.open_parquet"):
        with monkeypatch.context() as patch:
            patch.setattr(place, unavailable)
            with pytest.raises(storage.Unavailable):
                list(verify(copied.out))


@pytest.fixture(scope="module")
def other(made, tmp_path_factory):
    """A dataset of another input, hence another pool; its folder."""
    folder = tmp_path_factory.mktemp("other")
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(worlds, "THINGS", ["cup", "dog", "tree"])
        source = worlds.coco_folder(folder / "source", n=8)
    align = dataclasses.replace(ALIGN, tau=0.2)
    build(dataclasses.replace(made, source=source, out=str(folder / "other"), align=align), LocalRunner())
    return folder / "other"


def put(other: Path, out: str, names: tuple[str, ...]) -> None:
    """Files or folders of another dataset in the place of a dataset's own."""
    for name in names:
        if Path(other, name).is_dir():
            shutil.rmtree(Path(out, name))
            shutil.copytree(other / name, Path(out, name))
        else:
            shutil.copyfile(other / name, Path(out, name))


def contents(out: str) -> dict[str, bytes]:
    return {str(p): p.read_bytes() for p in Path(out).rglob("*") if p.is_file() and ".claim" not in p.name}


def lose(out: str, names: tuple[str, ...]) -> None:
    for name in names:
        Path(out, name).unlink()


RECORDS = ("plan/counts/000000.parquet", "plan/units/000000.json")
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
