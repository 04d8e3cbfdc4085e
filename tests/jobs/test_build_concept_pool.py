"""The job: one command, local or Ray, equal bytes; errors are one line."""

import json
import subprocess
import sys

import pytest

from concept_pool.pool import ConceptPool
from concept_pool.settings import PoolSettings
from jobs.build_concept_pool import ConceptPoolJob, build_concept_pool, main
from pipeline.sources import SourceSettings
from tests.concept_pool.labelled import read_labelled

FILES = ("concepts.parquet", "rejected.parquet", "pool.json", "caption_index.parquet")


@pytest.fixture
def captions(tmp_path):
    rows = [{"image_id": i // 3, "caption": row.caption} for i, row in enumerate(read_labelled())]
    (tmp_path / "captions.json").write_text(json.dumps({"annotations": rows}))
    return str(tmp_path / "captions.json")


def test_the_command(captions, tmp_path, capsys):
    out = tmp_path / "pool"
    arguments = [
        "--source.kind",
        "coco",
        "--source.captions",
        captions,
        "--out",
        str(out),
        "--pool.min_count",
        "3",
    ]
    assert main(arguments) == 0
    assert "concepts (of" in capsys.readouterr().out
    pool = ConceptPool.load(str(out))
    assert "man" in pool.names
    assert min(pool.table["n_images"].to_pylist()[: len(pool)]) >= 3
    assert sorted(path.name for path in out.iterdir()) == sorted(FILES[:3])


def test_wrong_settings_are_one_line(tmp_path, capsys):
    for arguments in (
        ["--source.kind", "cocoo"],
        ["--pool.min_count", "0"],
        ["--nonsense", "1"],
        ["--source.captions", "x"],
    ):
        with pytest.raises(SystemExit) as error:
            main(arguments)
        assert error.value.code == 2
        assert len(capsys.readouterr().err.strip().splitlines()) == 1


def test_missing_captions_are_one_line(tmp_path, capsys):
    missing = str(tmp_path / "none.json")
    assert main(["--source.kind", "coco", "--source.captions", missing, "--out", str(tmp_path / "out")]) == 2
    error = capsys.readouterr().err
    assert "none.json" in error
    assert len(error.strip().splitlines()) == 1


@pytest.mark.slow
def test_as_a_script(captions, tmp_path):
    command = [
        sys.executable,
        "jobs/build_concept_pool.py",
        "--source.kind",
        "coco",
        "--source.captions",
        captions,
        "--out",
        str(tmp_path / "p"),
    ]
    done = subprocess.run(command, capture_output=True, text=True, check=True)
    assert "concepts" in done.stdout


@pytest.mark.ray
def test_ray_and_local_give_equal_bytes(captions, tmp_path, ray_instance):
    from jobs.on_ray.merging import MERGE_WIDTH

    for i, row in enumerate(read_labelled()[: 2 * MERGE_WIDTH + 3]):  # a tree of more than one level
        (tmp_path / f"{i:02d}.txt").write_text(f"{row.caption}\na dog and a cat\n")
    source = SourceSettings("text", urls=str(tmp_path / "*.txt"))
    settings = PoolSettings(min_count=2)
    jobs = [
        ConceptPoolJob(str(tmp_path / "ray"), "ray", True, source, settings),
        ConceptPoolJob(str(tmp_path / "local"), "local", True, source, settings),
    ]
    for job in jobs:
        build_concept_pool(job)
    for name in FILES:
        assert (tmp_path / "ray" / name).read_bytes() == (tmp_path / "local" / name).read_bytes(), name
