"""Every kind of damage that ordinary readers do not notice, and some they do."""

from __future__ import annotations

import io
import json
import os
import shutil
import subprocess
import sys
import tarfile

import pytest

from jobs import cli
from pipeline.build import build
from pipeline.dataset.verify import verify
from pipeline.run_local import LocalRunner
from tests.pipeline import worlds

pytestmark = pytest.mark.usefixtures("color_teacher")


@pytest.fixture(scope="module")
def whole(tmp_path_factory):
    from pipeline import teachers
    from tests.fakes import ColorTeacher

    root = tmp_path_factory.mktemp("verify")
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(teachers, "load", lambda settings: ColorTeacher())
        build(worlds.settings(root / "out", worlds.coco_folder(root / "input", 12)), LocalRunner())
    return root / "out"


@pytest.fixture
def dataset(whole, tmp_path):
    shutil.copytree(whole, tmp_path / "out")
    return tmp_path / "out"


def shard(dataset):
    return sorted((dataset / "shards").iterdir())[0]


def faults(dataset):
    return list(verify(str(dataset)))


def members(path):
    with tarfile.open(path) as tar:
        return [(m.name, tar.extractfile(m).read(), m.offset) for m in tar]


def test_a_whole_dataset_has_no_faults(dataset):
    assert faults(dataset) == []


def cut_at_a_member_boundary(path):
    path.write_bytes(path.read_bytes()[: members(path)[3][2]])


def cut_inside_a_sample(path):
    path.write_bytes(path.read_bytes()[: members(path)[1][2]])


def flipped_header_byte(path):
    data = bytearray(path.read_bytes())
    data[members(path)[3][2] + 3] ^= 1
    path.write_bytes(data)


def flipped_payload_byte(path):
    data = bytearray(path.read_bytes())
    data[members(path)[0][2] + 600] ^= 1
    path.write_bytes(data)


def emptied(path):
    path.write_bytes(b"")


@pytest.mark.parametrize(
    "harm",
    [cut_at_a_member_boundary, cut_inside_a_sample, flipped_header_byte, flipped_payload_byte, emptied],
)
def test_damage_is_named_with_its_shard(dataset, harm):
    harm(shard(dataset))
    found = faults(dataset)
    assert len(found) == 1
    assert found[0].startswith(f"damaged: shards/{shard(dataset).name}: ")


def test_a_missing_shard_and_a_foreign_file_are_named(dataset):
    name = shard(dataset).name
    shard(dataset).rename(dataset / "shards" / "999999-ffffffffffff.tar")
    assert faults(dataset) == ["foreign: shards/999999-ffffffffffff.tar", f"missing: shards/{name}"]


def test_a_leftover_of_a_dead_writer_is_foreign(dataset):
    (dataset / "shards" / ".tmp-123-x.tar").write_bytes(b"half")
    assert faults(dataset) == ["foreign: shards/.tmp-123-x.tar"]


def test_a_lost_manifest_row_is_missing(dataset):
    row = sorted((dataset / "manifest").iterdir())[0]
    row.unlink()
    found = faults(dataset)
    assert f"missing: part {row.stem} has no manifest row that is whole" in found
    assert "damaged: manifest.parquet does not say what the manifest rows say" in found


def test_a_row_whose_sums_are_wrong_is_damaged(dataset):
    path = sorted((dataset / "manifest").iterdir())[0]
    row = json.loads(path.read_text())
    row["n_samples"] -= 1
    path.write_text(json.dumps(row))
    assert any("does not add up" in f for f in faults(dataset))


def test_a_forged_row_does_not_hide_what_is_in_the_shard(dataset):
    """A shard rewritten together with its row's hash still has to hold the samples that the row counts."""
    import hashlib

    path = shard(dataset)
    buffer = io.BytesIO()
    with tarfile.open(fileobj=buffer, mode="w") as tar:
        for name, data, _ in members(path)[3:]:
            info = tarfile.TarInfo(name)
            info.size = len(data)
            tar.addfile(info, io.BytesIO(data))
    path.write_bytes(buffer.getvalue())
    row_path = dataset / "manifest" / f"{path.stem}.json"
    row = json.loads(row_path.read_text())
    row.update(n_bytes=len(buffer.getvalue()), sha256=hashlib.sha256(buffer.getvalue()).hexdigest())
    row_path.write_text(json.dumps(row))
    assert any("5 samples" in f and "the manifest differs" in f for f in faults(dataset))


@pytest.mark.parametrize(
    "name",
    [
        "concept_pool/concepts.parquet",
        "concept_pool/text_embeddings.safetensors",
        "plan/parts.parquet",
        "plan/units.parquet",
        "plan/index/000000.parquet",
    ],
)
@pytest.mark.parametrize("place", [0.1, 0.5, 0.9])
def test_one_changed_byte_in_pool_or_plan_is_damage(dataset, name, place):
    path = dataset / name
    data = bytearray(path.read_bytes())
    data[int(len(data) * place)] ^= 255
    path.write_bytes(data)
    assert [f.split(":")[:2] for f in faults(dataset)] == [["damaged", f" {name}"]]


@pytest.mark.parametrize(
    "name", ["settings.yaml", "fingerprint.json", "summary.json", "manifest.parquet", "index"]
)
def test_what_readers_trust_is_looked_at(dataset, name):
    path = dataset / name if name != "index" else sorted((dataset / "index").iterdir())[0]
    data = bytearray(path.read_bytes())
    said = {"settings.yaml": b"threshold", "summary.json": b"n_samples"}.get(
        name
    )  # a run's seconds are nobody's word
    place = data.index(said) if said else len(data) // 2
    data[place] ^= 1
    path.write_bytes(data)
    assert faults(dataset)
    path.unlink()
    assert any(f.startswith("missing") for f in faults(dataset))


def test_another_format_version_is_one_clear_line(dataset):
    document = json.loads((dataset / "fingerprint.json").read_text())
    (dataset / "fingerprint.json").write_text(json.dumps(document | {"format_version": 1}))
    assert len(faults(dataset)) == 1
    assert "has format version 1; this program reads version 2" in faults(dataset)[0]


def test_an_address_in_a_foreign_row_is_not_followed(dataset):
    path = sorted((dataset / "manifest").iterdir())[0]
    path.write_text(json.dumps(json.loads(path.read_text()) | {"shard": "../../secret.tar"}))
    assert f"missing: part {path.stem} has no manifest row that is whole" in faults(dataset)


def test_a_folder_that_is_no_dataset_says_so(tmp_path):
    assert "is no dataset" in faults(tmp_path)[0]


def test_the_command_ends_with_1_if_anything_is_wrong(dataset, capsys):
    assert cli.main(["verify", str(dataset)]) == 0
    assert "whole" in capsys.readouterr().out
    shard(dataset).unlink()
    assert cli.main(["verify", str(dataset)]) == 1
    assert "missing: shards/" in capsys.readouterr().out


def test_a_reader_that_has_seen_enough_gets_no_traceback(dataset):
    reader, writer = os.pipe()
    os.close(reader)
    command = [sys.executable, "-m", "jobs.cli", "verify", str(dataset)]
    with os.fdopen(writer, "w") as nobody:
        done = subprocess.run(command, stdout=nobody, stderr=subprocess.PIPE, text=True, check=False)
    assert done.returncode == 141
    assert [
        line for line in done.stderr.splitlines() if " verify " not in line
    ] == []  # progress, on a slow machine
