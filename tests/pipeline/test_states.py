"""Every state between two writes is one that the next run knows; and two writers never share a folder."""

from __future__ import annotations

import dataclasses
import json
import os
import shutil
import threading
import time
from pathlib import Path

import pytest

import storage
from pipeline.align import AlignSettings
from pipeline.build import Incomplete, Refused, build
from pipeline.dataset.verify import verify
from pipeline.relabel import relabel
from pipeline.run_local import LocalRunner
from tests.pipeline import worlds

pytestmark = pytest.mark.usefixtures("color_teacher")

ALIGN = AlignSettings(tau=0.1, threshold=0.2, region_embeddings="fp16")


class Killed(BaseException):
    """The process is gone."""


@pytest.fixture
def source(tmp_path):
    return worlds.coco_folder(tmp_path / "input", 8)


@pytest.fixture
def dies(monkeypatch):
    """`dies(n)`: from now on the n-th write or removal kills its process, which leaves half a file and its claim."""
    plain = {name: getattr(storage, name) for name in ("write_bytes", "remove")}
    release = storage.Claim.release

    def forget(self):
        from storage import claim

        self._stop.set()
        claim._HELD.discard((self._pid, self.token))

    def after(n: int) -> list[str]:
        done: list[str] = []

        def counted(name):
            def act(url, *data):
                if len(done) == n:
                    folder, _, file = url.rpartition("/")
                    Path(folder).mkdir(parents=True, exist_ok=True)
                    half = Path(folder, f"{storage.TEMPORARY}half-{file}")
                    half.write_bytes(b"half")
                    os.utime(half, (time.time() - 60,) * 2)
                    raise Killed(url)
                done.append(url)
                return plain[name](url, *data)

            return act

        for name in plain:
            monkeypatch.setattr(storage, name, counted(name))
        monkeypatch.setattr(storage.Claim, "release", forget)
        return done

    def lives() -> None:
        for name, function in plain.items():
            monkeypatch.setattr(storage, name, function)
        monkeypatch.setattr(storage.Claim, "release", release)

    return after, lives


def all_hashes(out: Path) -> dict[str, str]:
    patterns = (
        "shards/*",
        "index/*",
        "*.parquet",
        "concept_pool/*",
        "plan/*.parquet",
        "plan/plan.json",
        "plan/index/*",
    )
    return {k: v for pattern in patterns for k, v in worlds.hashes(out, pattern).items()}


def every_prefix(work, out: Path, whole: dict[str, str], dies, prepare=lambda: None) -> int:
    """Kills `work` before each of its writes in turn and runs it again; returns the number of writes."""
    after, lives = dies
    n = 0
    while True:
        shutil.rmtree(out, ignore_errors=True)
        prepare()
        done = after(n)
        try:
            work()
            return len(done)
        except Killed:
            pass
        finally:
            lives()
        work()
        assert all_hashes(out) == whole, f"killed before write {n}, of {done[-1:]}"
        assert list(verify(str(out))) == [], f"killed before write {n}"
        n += 1


def test_a_build_killed_before_any_of_its_writes_goes_on(tmp_path, source, dies):
    reference = worlds.settings(tmp_path / "whole", source, workers=1)
    build(reference, LocalRunner())
    settings = dataclasses.replace(reference, out=str(tmp_path / "out"))
    n = every_prefix(
        lambda: build(settings, LocalRunner()), tmp_path / "out", all_hashes(tmp_path / "whole"), dies
    )
    assert n > 15


def test_starting_over_killed_before_any_of_its_writes_goes_on(tmp_path, source, dies):
    reference = worlds.settings(tmp_path / "whole", source, workers=1)
    build(reference, LocalRunner())
    settings = dataclasses.replace(reference, out=str(tmp_path / "out"))
    other = dataclasses.replace(settings, pool=dataclasses.replace(settings.pool, min_count=99))

    def uncommitted() -> None:
        with pytest.raises(ValueError, match="min_count"):
            build(other, LocalRunner())

    every_prefix(
        lambda: build(settings, LocalRunner()),
        tmp_path / "out",
        all_hashes(tmp_path / "whole"),
        dies,
        uncommitted,
    )


def test_a_relabelling_killed_before_any_of_its_writes_goes_on(tmp_path, source, dies):
    first = worlds.settings(tmp_path / "first", source, workers=1, align=ALIGN)
    build(first, LocalRunner())
    wanted = dataclasses.replace(first, align=dataclasses.replace(ALIGN, threshold=0.4))
    relabel(first.out, dataclasses.replace(wanted, out=str(tmp_path / "whole")), LocalRunner())
    settings = dataclasses.replace(wanted, out=str(tmp_path / "out"))
    n = every_prefix(
        lambda: relabel(first.out, settings, LocalRunner()),
        tmp_path / "out",
        all_hashes(tmp_path / "whole"),
        dies,
    )
    assert n > 12


@pytest.mark.parametrize("name", ["plan/index/000000.parquet", "plan/parts.parquet", "plan/units.parquet"])
@pytest.mark.parametrize("harm", ["gone", "changed"])
def test_a_lost_file_of_the_plan_is_made_again(tmp_path, source, name, harm):
    settings = worlds.settings(tmp_path / "out", source)
    build(settings, LocalRunner())
    before = all_hashes(tmp_path / "out")
    path = tmp_path / "out" / name
    path.unlink() if harm == "gone" else path.write_bytes(path.read_bytes()[:-9] + b"\0" * 9)
    next(iter(sorted((tmp_path / "out" / "shards").iterdir()))).unlink()
    build(settings, LocalRunner())
    assert all_hashes(tmp_path / "out") == before
    assert list(verify(str(tmp_path / "out"))) == []


@pytest.mark.parametrize(
    "change", [{"n_pairs": None}, {"concept_ids": ["a"]}, {"part": "x"}, {"shard": "../x.tar"}]
)
def test_a_manifest_row_that_is_not_whole_is_built_anew(tmp_path, source, change):
    settings = worlds.settings(tmp_path / "out", source)
    build(settings, LocalRunner())
    before = all_hashes(tmp_path / "out")
    path = sorted((tmp_path / "out" / "manifest").iterdir())[0]
    row = json.loads(path.read_text())
    path.write_text(json.dumps({k: v for k, v in (row | change).items() if v is not None}))
    assert build(settings, LocalRunner())["last_run"]["n_parts_built"] == 1
    assert all_hashes(tmp_path / "out") == before


class _Waiting(LocalRunner):
    """A runner that stops before its first part until it is told to go on."""

    def __init__(self):
        super().__init__()
        self.arrived, self.go_on = threading.Event(), threading.Event()

    def run(self, stages, job, parts):
        self.arrived.set()
        assert self.go_on.wait(30)
        yield from super().run(stages, job, parts)


@pytest.mark.parametrize("min_count", [2, 6])
def test_a_second_build_on_the_folder_is_refused_and_harms_nothing(tmp_path, source, min_count):
    settings = worlds.settings(tmp_path / "out", source)
    other = dataclasses.replace(settings, pool=dataclasses.replace(settings.pool, min_count=min_count))
    runner = _Waiting()
    first = threading.Thread(target=build, args=(settings, runner))
    first.start()
    assert runner.arrived.wait(30)
    with pytest.raises(storage.Claimed, match="writes here since"):
        build(other, LocalRunner())
    runner.go_on.set()
    first.join()
    assert list(verify(str(tmp_path / "out"))) == []


def test_a_writer_that_lost_its_claim_commits_nothing(tmp_path, source):
    settings = worlds.settings(tmp_path / "out", source)

    class Robbed(LocalRunner):
        def run(self, stages, job, parts):
            (tmp_path / "out" / ".claim.json").unlink()
            yield from super().run(stages, job, parts)

    with pytest.raises(Incomplete, match="claim was lost"):
        build(settings, Robbed())
    assert list((tmp_path / "out" / "manifest").glob("*.json")) == []


def test_starting_over_removes_only_what_this_program_writes(tmp_path, source):
    settings = worlds.settings(
        tmp_path / "out",
        source,
        pool=dataclasses.replace(worlds.settings(tmp_path, source).pool, min_count=99),
    )
    with pytest.raises(ValueError, match="min_count"):
        build(settings, LocalRunner())
    mine = [tmp_path / "out" / "notes" / "thesis.txt", tmp_path / "out" / "shards" / "mine.tar"]
    for path in mine:
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_text("mine")
    build(worlds.settings(tmp_path / "out", source), LocalRunner())
    assert all(path.read_text() == "mine" for path in mine)


def test_shards_without_a_fingerprint_are_nobodys_but_their_makers(tmp_path, source):
    settings = worlds.settings(tmp_path / "out", source)
    build(settings, LocalRunner())
    record = tmp_path / "out" / "fingerprint.json"
    whole = record.read_bytes()
    record.unlink()
    with pytest.raises(Refused, match=r"no fingerprint\.json"):
        build(dataclasses.replace(settings, samples_per_shard=3), LocalRunner())
    build(settings, LocalRunner())  # their rows say that these settings made them
    assert record.read_bytes() == whole


@pytest.mark.parametrize("folder", ["shards", "concept_pool", "manifest", "plan"])
def test_a_folder_lost_in_mid_run_does_not_end_well(tmp_path, source, folder):
    settings = worlds.settings(tmp_path / "out", source, workers=1)

    class Losing(LocalRunner):
        def run(self, stages, job, parts):
            for i, payload in enumerate(super().run(stages, job, parts)):
                if i == 1:
                    shutil.rmtree(tmp_path / "out" / folder)
                yield payload

    with pytest.raises((Incomplete, ValueError, FileNotFoundError)):
        build(settings, Losing())
    build(settings, LocalRunner())
    assert list(verify(str(tmp_path / "out"))) == []
