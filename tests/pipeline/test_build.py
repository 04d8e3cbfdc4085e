from __future__ import annotations

import dataclasses
import json
import logging
import os
import resource
import signal
import subprocess
import sys
import time
from pathlib import Path

import numpy as np
import pyarrow.parquet as pq
import pytest

from concept_pool.settings import PoolSettings
from jobs.build_pairs import main
from pipeline.align import AlignSettings
from pipeline.build import Incomplete, Refused, build
from pipeline.dataset import shards
from pipeline.dataset.layout import Layout
from pipeline.dataset.npz import read_npz
from pipeline.dataset.verify import verify
from pipeline.run_local import LocalRunner
from pipeline.stages import BUILD, RELABEL
from pipeline.stages.chain import BrokenChain, check_chain
from pipeline.stages.commit import Commit
from pipeline.stages.read import Read
from tests import pictures
from tests.pipeline import worlds

pytestmark = pytest.mark.usefixtures("color_teacher")


@pytest.fixture
def source(tmp_path):
    return worlds.coco_folder(tmp_path / "input")


@pytest.mark.parity(51)
def test_a_build_is_whole_and_its_ledger_sums(tmp_path, source):
    summary = build(worlds.settings(tmp_path / "out", source), LocalRunner())
    assert list(verify(str(tmp_path / "out"))) == []
    assert (summary["n_read"], summary["n_samples"], summary["n_rejected"]) == (20, 20, 0)
    assert summary["n_regions"] == 20 * 9
    manifest = pq.read_table(tmp_path / "out" / "manifest.parquet").to_pylist()
    for row in manifest:
        assert row["keep_rate"] == row["n_pairs"] / row["n_regions"]
        assert sum(row["concept_counts"]) == row["n_pairs"]
    assert [r["n_samples"] for r in manifest] == [6, 6, 6, 2]
    assert {r["fingerprint"] for r in manifest} == {summary["fingerprint"]}


@pytest.mark.parity(41)
def test_samples_hold_the_original_bytes_and_consistent_arrays(tmp_path, source):
    build(worlds.settings(tmp_path / "out", source), LocalRunner())
    originals = {p.name: p.read_bytes() for p in Path(source.images).iterdir()}
    seen = set()
    for tar in (tmp_path / "out" / "shards").iterdir():
        for key, members in shards.read_shard(tar.read_bytes()):
            meta, arrays = json.loads(members["json"]), read_npz(members["npz"])
            assert members["jpg"] == originals[meta["source_key"]]
            assert "." not in key
            seen.add(meta["source_key"])
            total = arrays["topk_probs"].astype(float).sum(1) + arrays["residual"]
            np.testing.assert_allclose(total, 1, atol=2e-3)
            assert np.all(np.diff(arrays["objectness"]) <= 0)
            assert arrays["caption_embeddings"].shape == (2, 16)
            assert [p["region"] for p in meta["pairs"]] == list(np.flatnonzero(arrays["kept"] == 0))
            assert all(p["concept_id"] == arrays["topk_ids"][p["region"], 0] for p in meta["pairs"])
    assert seen == set(originals)


def test_the_pool_holds_the_nouns_of_the_captions(tmp_path, source):
    build(worlds.settings(tmp_path / "out", source), LocalRunner())
    names = pq.read_table(tmp_path / "out" / "concept_pool" / "concepts.parquet").column("name").to_pylist()
    assert {"ball", "boat", "kite", "table"} <= set(names)


@pytest.mark.parametrize("workers", [1, 3])
def test_bytes_do_not_depend_on_the_number_of_workers(tmp_path, source, workers):
    build(worlds.settings(tmp_path / "a", source), LocalRunner())
    build(worlds.settings(tmp_path / "b", source, workers=workers), LocalRunner())
    for pattern in (
        "shards/*.tar",
        "*.parquet",
        "concept_pool/*",
        "plan/*.parquet",
        "plan/index/*",
        "index/*",
    ):
        assert worlds.hashes(tmp_path / "a", pattern) == worlds.hashes(tmp_path / "b", pattern)


def test_a_finished_dataset_is_left_alone(tmp_path, source, caplog):
    settings = worlds.settings(tmp_path / "out", source)
    build(settings, LocalRunner())
    before = {p: p.stat().st_mtime_ns for p in (tmp_path / "out").rglob("*")}
    with caplog.at_level(logging.INFO, "regionpairs"):
        assert build(settings, LocalRunner())["last_run"]["n_parts_built"] == 0
    assert {p: p.stat().st_mtime_ns for p in (tmp_path / "out").rglob("*")} == before
    assert "skipped 4 of 4 parts" in caplog.text


class _Interrupted(LocalRunner):
    """A runner whose driver goes away after `n` commits."""

    def __init__(self, n: int):
        super().__init__()
        self._n = n

    def run(self, stages, job, parts):
        for i, row in enumerate(super().run(stages, job, parts)):
            if i == self._n:
                raise KeyboardInterrupt
            yield row


@pytest.mark.parity(42, 43)
@pytest.mark.parametrize("after", [0, 1, 2])
def test_an_interrupted_build_resumes_to_the_same_bytes(tmp_path, source, after, caplog):
    build(worlds.settings(tmp_path / "whole", source), LocalRunner())
    settings = worlds.settings(tmp_path / "cut", source, workers=1)
    with pytest.raises(KeyboardInterrupt):
        build(settings, _Interrupted(after))
    committed = len(list((tmp_path / "cut" / "manifest").iterdir()))
    with caplog.at_level(logging.INFO, "regionpairs"):
        summary = build(settings, LocalRunner())
    assert summary["last_run"]["n_parts_built"] == 4 - committed
    assert f"skipped {committed} of 4 parts" in caplog.text
    assert worlds.hashes(tmp_path / "cut") == worlds.hashes(tmp_path / "whole")
    assert worlds.hashes(tmp_path / "cut", "*.parquet") == worlds.hashes(tmp_path / "whole", "*.parquet")
    assert list(verify(str(tmp_path / "cut"))) == []


def _child(
    settings_of_out: str, root: Path, limit_bytes: int = 0, slow: bool = False
) -> subprocess.Popen[str]:
    """A build in a process of its own, with the colour teacher; slow: a pause a part, so that it can be killed inside."""
    program = f"""
import resource, sys, time
from pathlib import Path
from pipeline import teachers
from pipeline.stages import commit as stages
from pipeline.build import build
from pipeline.run_local import LocalRunner
from tests.fakes import ColorTeacher
from tests.pipeline import worlds
from pipeline.sources.settings import SourceSettings
teachers.load = lambda settings: ColorTeacher()
if {slow}:
    plain = stages.Commit.__call__
    stages.Commit.__call__ = lambda self, payload: (time.sleep(0.5), plain(self, payload))[1]
if {limit_bytes}:
    resource.setrlimit(resource.RLIMIT_FSIZE, ({limit_bytes}, {limit_bytes}))
root = Path({str(root)!r})
source = SourceSettings(kind="coco", images=str(root / "images"), captions=str(root / "captions.json"))
build(worlds.settings(Path({settings_of_out!r}), source, workers=1), LocalRunner())
"""
    environment = {**os.environ, "PYTHONPATH": str(Path(__file__).resolve().parents[2])}
    return subprocess.Popen(
        [sys.executable, "-c", program], env=environment, stderr=subprocess.PIPE, text=True
    )


@pytest.mark.parity(43)
@pytest.mark.slow
def test_a_killed_driver_leaves_nothing_that_a_resume_does_not_mend(tmp_path, source):
    build(worlds.settings(tmp_path / "whole", source), LocalRunner())
    child = _child(str(tmp_path / "killed"), tmp_path / "input", slow=True)
    manifest = tmp_path / "killed" / "manifest"
    deadline = time.monotonic() + 60
    while time.monotonic() < deadline and not (manifest.is_dir() and list(manifest.glob("*.json"))):
        time.sleep(0.02)
    child.send_signal(signal.SIGKILL)
    child.wait()
    assert 1 <= len(list(manifest.glob("*.json"))) < 4
    build(worlds.settings(tmp_path / "killed", source), LocalRunner())
    assert worlds.hashes(tmp_path / "killed") == worlds.hashes(tmp_path / "whole")
    assert list(verify(str(tmp_path / "killed"))) == []
    assert not list((tmp_path / "killed").rglob(".tmp-*"))


@pytest.mark.slow
def test_a_full_disk_ends_the_build_and_space_lets_it_go_on(tmp_path, source):
    build(worlds.settings(tmp_path / "whole", source), LocalRunner())
    largest = max(p.stat().st_size for p in (tmp_path / "whole" / "shards").iterdir())
    soft, _ = resource.getrlimit(resource.RLIMIT_FSIZE)
    assert soft == resource.RLIM_INFINITY
    child = _child(str(tmp_path / "full"), tmp_path / "input", limit_bytes=largest - 1)
    _, errors = child.communicate(timeout=120)
    assert child.returncode != 0
    assert "File too large" in errors
    assert len(list((tmp_path / "full" / "manifest").glob("*.json"))) < 4
    build(worlds.settings(tmp_path / "full", source), LocalRunner())
    assert worlds.hashes(tmp_path / "full") == worlds.hashes(tmp_path / "whole")


@pytest.mark.parametrize("harm", ["delete", "cut", "flip"])
def test_a_lost_or_damaged_shard_is_built_anew(tmp_path, source, harm):
    settings = worlds.settings(tmp_path / "out", source)
    build(settings, LocalRunner())
    before = worlds.hashes(tmp_path / "out")
    victim = sorted((tmp_path / "out" / "shards").iterdir())[1]
    data = victim.read_bytes()
    if harm == "delete":
        victim.unlink()
    else:
        victim.write_bytes(data[:1536] if harm == "cut" else data[:700] + bytes([data[700] ^ 1]) + data[701:])
    assert build(settings, LocalRunner())["last_run"]["n_parts_built"] == 1
    assert worlds.hashes(tmp_path / "out") == before


@pytest.mark.parity(47)
def test_the_fingerprint_names_all_that_changes_bytes(tmp_path, source):
    build(worlds.settings(tmp_path / "out", source), LocalRunner())
    document = json.loads((tmp_path / "out" / "fingerprint.json").read_text())
    assert set(document) == {
        "format_version", "settings", "input", "localizer", "teacher", "code", "libraries",
    }  # fmt: skip
    assert document["localizer"]["kind"] == "grid"
    embeddings = json.loads((tmp_path / "out" / "concept_pool" / "embeddings.json").read_text())
    assert {"pool", "templates", "sha256"} <= set(embeddings)


@pytest.mark.parity(48)
@pytest.mark.slow
def test_there_is_no_cap_on_the_number_of_shards(tmp_path):
    source = worlds.coco_folder(tmp_path / "input", 40)
    settings = worlds.settings(tmp_path / "out", source, samples_per_shard=1)
    assert build(settings, LocalRunner())["n_shards"] == 40


def test_a_changed_setting_or_input_is_refused_with_a_line_each(tmp_path, source):
    settings = worlds.settings(tmp_path / "out", source)
    build(settings, LocalRunner())
    changed = dataclasses.replace(settings, align=AlignSettings(tau=0.02, policy="pool"), samples_per_shard=5)
    with pytest.raises(Refused) as e:
        build(changed, LocalRunner())
    assert e.value.differences == [
        'settings.align.policy: was "blend", is "pool"',
        "settings.align.tau: was 0.01, is 0.02",
        "settings.samples_per_shard: was 6, is 5",
    ]
    (Path(source.images) / "003.jpg").write_bytes(b"other")
    with pytest.raises(Refused, match=r"input\.images_sizes_sha256"):
        build(settings, LocalRunner())


def test_settings_may_change_while_nothing_is_committed(tmp_path, source):
    settings = worlds.settings(tmp_path / "out", source, pool=PoolSettings(min_count=99))
    with pytest.raises(ValueError, match=r"pool\.min_count: no concept is named by 99 images"):
        build(settings, LocalRunner())
    mended = dataclasses.replace(settings, pool=PoolSettings(min_count=2))
    assert build(mended, LocalRunner())["n_samples"] == 20
    assert list(verify(str(tmp_path / "out"))) == []


@pytest.mark.parametrize(
    ("captions", "says"),
    [("[1]", "no COCO captions JSON"), ("{", "no COCO captions JSON"), (None, "no such file")],
)
def test_an_input_that_cannot_be_used_is_one_line_and_exit_code_2(tmp_path, capsys, captions, says):
    (tmp_path / "c.json").write_text(captions) if captions else None
    argv = [
        "--runtime=local",
        f"--out={tmp_path / 'out'}",
        "--source.kind=coco",
        f"--source.images={tmp_path}",
    ]
    assert main([*argv, f"--source.captions={tmp_path / 'c.json'}"]) == 2
    error = capsys.readouterr().err
    assert says in error
    assert error.count("\n") == 1


def test_settings_that_change_no_byte_may_change(tmp_path, source):
    settings = worlds.settings(tmp_path / "out", source)
    build(settings, LocalRunner())
    assert (
        build(dataclasses.replace(settings, workers=1, reject_budget=0.5), LocalRunner())["last_run"][
            "n_parts_built"
        ]
        == 0
    )


def test_a_folder_that_is_no_dataset_is_refused(tmp_path, source):
    (tmp_path / "out").mkdir()
    (tmp_path / "out" / "thesis.txt").write_text("mine")
    with pytest.raises(Refused, match=r"1 files that are no dataset, e\.g\. thesis\.txt"):
        build(worlds.settings(tmp_path / "out", source), LocalRunner())


def test_more_rejects_than_the_budget_end_the_build(tmp_path, source):
    for name in ("004.jpg", "011.jpg", "013.jpg"):
        (Path(source.images) / name).write_bytes(b"")
    with pytest.raises(Incomplete, match=r"reject_budget 0\.1"):
        build(worlds.settings(tmp_path / "out", source), LocalRunner())
    summary = build(worlds.settings(tmp_path / "out", source, reject_budget=0.2), LocalRunner())
    assert summary["rejects_by_reason"] == {"empty_file": 3}
    assert list(verify(str(tmp_path / "out"))) == []


@pytest.mark.parity(45)
def test_awkward_inputs_are_converted_or_rejected_with_their_reason(tmp_path):
    good = pictures.encode(pictures.photo())
    source = worlds.tar_file(
        tmp_path / "web.tar",
        [
            ("a-good", "jpg", good, "a red ball"),
            ("b-truncated", "jpg", pictures.encode(pictures.photo(400, 300))[:-900], "a red ball"),
            ("c-zero", "jpg", b"", "a red ball"),
            ("d-cmyk", "jpg", pictures.encode(pictures.photo().convert("CMYK")), "a red ball"),
            ("e-deep", "png", pictures.deep_png(), "a grey ball"),
            ("f-exif", "jpg", pictures.rotated_by_exif(), "a red ball"),
            ("g-gif", "gif", pictures.animated_gif(), "a ball"),
            ("h-chinese", "jpg", pictures.encode(pictures.photo(seed=3)), "一只红色的球在桌子上"),
            ("i-silent", "jpg", pictures.encode(pictures.photo(seed=4)), "  \n"),
            ("a-good", "jpg", good, "a red ball again"),
        ],
    )
    summary = build(worlds.settings(tmp_path / "out", source, reject_budget=1.0), LocalRunner())
    rejects = pq.read_table(tmp_path / "out" / "rejects.parquet").to_pylist()
    assert {(r["source_key"].split("/")[1], r["stage"], r["reason"]) for r in rejects} == {
        ("b-truncated", "decode", "truncated"),
        ("c-zero", "decode", "empty_file"),
        ("i-silent", "read", "empty_caption"),
        ("a-good", "read", "duplicate_key"),
    }
    assert (summary["n_samples"], summary["n_rejected"]) == (6, 4)
    metas = {}
    for tar in (tmp_path / "out" / "shards").iterdir():
        for _, members in shards.read_shard(tar.read_bytes()):
            meta = json.loads(members["json"])
            metas[meta["source_key"].split("/")[1]] = meta
    assert (metas["f-exif"]["width"], metas["f-exif"]["height"]) == (32, 48)
    assert metas["h-chinese"]["captions"] == ["一只红色的球在桌子上"]
    assert list(verify(str(tmp_path / "out"))) == []


def test_a_part_of_rejects_alone_has_a_row_and_no_shard(tmp_path):
    samples = [
        ("a", "jpg", b"", "a red ball"),
        ("b", "jpg", pictures.encode(pictures.photo()), "two red balls"),
    ]
    source = worlds.tar_file(tmp_path / "t.tar", samples)
    settings = worlds.settings(tmp_path / "out", source, samples_per_shard=1, reject_budget=1.0)
    assert build(settings, LocalRunner())["n_shards"] == 1
    assert list(verify(str(tmp_path / "out"))) == []
    assert build(settings, LocalRunner())["last_run"]["n_parts_built"] == 0


def test_a_chain_whose_stages_do_not_fit_is_refused_before_it_starts():
    check_chain(BUILD)
    check_chain(RELABEL)
    with pytest.raises(BrokenChain, match="Commit reads extension, which Read does not write"):
        check_chain([Read, Commit])


def test_a_commit_that_loses_a_sample_writes_nothing(tmp_path):
    reject = {"part": "p", "stage": "read", "source_key": "k", "reason": "r", "detail": "", "n_samples": 1}
    with pytest.raises(shards.NotConserved, match="read 3, have 1 samples"):
        shards.commit(Layout(str(tmp_path)), "p", 3, [{"key": "k"}], [reject], {}, dict)
    assert list(tmp_path.iterdir()) == []


def test_a_dataset_may_live_in_an_object_store(tmp_path, source):
    """fsspec's memory file system stands in for s3:// and gs://: no rename, no folders, whole objects."""
    import fsspec

    build(worlds.settings(tmp_path / "local", source), LocalRunner())
    url = f"memory://bucket-{tmp_path.name}/out"
    settings = dataclasses.replace(worlds.settings(tmp_path, source), out=url)
    build(settings, LocalRunner())
    assert list(verify(url)) == []
    fs = fsspec.filesystem("memory")
    for path in (tmp_path / "local" / "shards").iterdir():
        assert fs.cat_file(f"{url}/shards/{path.name}") == path.read_bytes()
    fs.rm_file(f"{url}/shards/{path.name}")
    assert build(settings, LocalRunner())["last_run"]["n_parts_built"] == 1
    assert list(verify(url)) == []


def test_secrets_in_addresses_are_not_published(tmp_path, source):
    """Only what is secret goes: the address itself says where a dataset came from."""
    settings = worlds.settings(tmp_path / "out", source)
    settings = dataclasses.replace(
        settings,
        teacher=dataclasses.replace(settings.teacher, model="https://me:pass@host/x?X-Amz-Signature=SECRET"),
    )
    build(settings, LocalRunner())
    for path in (tmp_path / "out").rglob("*"):
        if path.is_file():
            assert b"SECRET" not in path.read_bytes(), path
            assert b"me:pass" not in path.read_bytes(), path
    assert "https://host/x" in (tmp_path / "out" / "settings.yaml").read_text()
