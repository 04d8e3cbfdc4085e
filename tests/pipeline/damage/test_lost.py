"""Files of a dataset that are gone, cut or garbage: what mends them is said, and does."""

from __future__ import annotations

import dataclasses
import shutil
from functools import partial
from pathlib import Path

import numpy as np
import pytest
import yaml

import storage
from jobs import cli
from jobs.failures import failure
from pipeline.build import build
from pipeline.dataset.claim import Refused
from pipeline.dataset.damage import DamagedDataset
from pipeline.dataset.plan import DamagedPlan
from pipeline.dataset.verify import repair, verify
from pipeline.relabel import relabel
from pipeline.run_local import LocalRunner
from pipeline.runner import Incomplete
from tests.pipeline import worlds
from tests.pipeline.damage.faults import (
    ALIGN,
    ITS_MAKER,
    OF_THE_PLAN,
    REPAIR,
    commands,
    derivations,
    elsewhere,
    shard_of,
)


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


#: What is broken -> the commands that must notice, and what mends it.
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
