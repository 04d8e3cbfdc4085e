"""The twelve kinds of fault at doors that no report named (docs/reliability.md lists them)."""

from __future__ import annotations

import ast
import dataclasses
import gzip
import json
import os
import time
from pathlib import Path

import pytest

import storage
from concept_pool.pool import ConceptPool
from jobs import build_concept_pool, cli, train_localizer
from pipeline.align import AlignSettings
from pipeline.build import build
from pipeline.coco import read_coco
from pipeline.dataset import claim
from pipeline.dataset.layout import FORMAT_VERSION, Layout
from pipeline.dataset.verify import verify
from pipeline.images import BadSample
from pipeline.relabel import relabel
from pipeline.run_local import LocalRunner
from pipeline.sources import load
from pipeline.sources.settings import SourceSettings
from tests import pictures
from tests.pipeline import worlds
from training.localizers.examples import CocoBoxes

ROOT = Path(__file__).resolve().parents[2]
ALIGN = AlignSettings(tau=0.1, threshold=0.2, region_embeddings="fp16")
AWKWARD = "a [b] {c}, d::e #f %20g ?h ~i ü é*"


@pytest.fixture(autouse=True)
def color_teacher(monkeypatch):
    from pipeline import teachers
    from tests.fakes import ColorTeacher

    monkeypatch.setattr(teachers, "load", lambda settings: ColorTeacher())
    monkeypatch.setattr(storage.RETRIES, "base_s", 0.0)


class Interrupted(LocalRunner):
    def run(self, stages, job, parts):
        for payload in super().run(stages, job, parts):
            yield payload
            raise KeyboardInterrupt


def two_tars(root: Path, words: tuple[str, ...] = ("red",) * 8) -> SourceSettings:
    root.mkdir(parents=True, exist_ok=True)
    for part, word in enumerate(words):
        samples = [
            (f"{i:06d}", "jpg", pictures.encode(pictures.photo(40, 30, seed=9 * part + i)), f"a {word} ball")
            for i in range(4)
        ]
        worlds.tar_file(root / f"{part}.tar", samples)
    return SourceSettings(kind="webdataset", urls=[str(root / "*.tar")])


# K1: a failure of the infrastructure is never bad data


def test_a_mount_that_is_gone_when_the_build_starts_plans_nothing(tmp_path):
    source = worlds.coco_folder(tmp_path / "input", 8)
    Path(source.images).rename(tmp_path / "elsewhere")
    with pytest.raises(FileNotFoundError, match=r"source\.images: .* is not there \(is it mounted\?\)"):
        build(worlds.settings(tmp_path / "out", source), LocalRunner())
    assert not (tmp_path / "out").exists()
    (tmp_path / "elsewhere").rename(source.images)
    assert build(worlds.settings(tmp_path / "out", source), LocalRunner())["n_samples"] == 8


def test_images_beside_a_table_that_cannot_be_read_now_are_no_rejects(tmp_path, monkeypatch):
    import pyarrow as pa
    import pyarrow.parquet as pq

    (tmp_path / "1.jpg").write_bytes(pictures.encode(pictures.photo()))
    pq.write_table(pa.table({"path": ["1.jpg"], "caption": ["a dog"]}), tmp_path / "t.parquet")
    source = load(SourceSettings(kind="parquet", urls=[str(tmp_path / "t.parquet")]))
    (row,) = [r for unit in source.units() for r in source.index(unit)]
    plain = storage.read_bytes

    def failing(url, *rest):
        if url.endswith(".jpg"):
            raise PermissionError(13, "the token expired", url)
        return plain(url, *rest)

    monkeypatch.setattr(storage, "read_bytes", failing)
    with pytest.raises(PermissionError):
        source.read(row)


def test_a_localizer_does_not_train_on_what_is_left_of_a_mount(tmp_path):
    coco = {"images": [{"id": i, "file_name": f"{i}.jpg"} for i in range(3)], "annotations": []}
    (tmp_path / "i.json").write_text(json.dumps(coco))
    with pytest.raises(FileNotFoundError, match="is it mounted"):
        CocoBoxes(str(tmp_path / "images"), str(tmp_path / "i.json"), 0, "train")
    (tmp_path / "images").mkdir()
    for i in range(3):
        (tmp_path / "images" / f"{i}.jpg").write_bytes(pictures.encode(pictures.photo(seed=i)))
    boxes = CocoBoxes(str(tmp_path / "images"), str(tmp_path / "i.json"), 0, "train")
    (tmp_path / "images").rename(tmp_path / "gone")
    with pytest.raises(FileNotFoundError):
        boxes[0]


# K2: identity is more than a name


def test_a_tar_that_was_replaced_by_one_of_the_same_size_is_refused_and_the_plan_stays(tmp_path):
    source = two_tars(tmp_path / "input")
    settings = worlds.settings(tmp_path / "out", source, workers=1)
    with pytest.raises(KeyboardInterrupt):
        build(settings, Interrupted())
    before = worlds.hashes(tmp_path / "out", "plan/index/*")
    keep = {p: p.read_bytes() for p in (tmp_path / "input").iterdir()}
    two_tars(tmp_path / "input", ("tan",) * 8)
    with pytest.raises(ValueError, match="is not what was planned"):
        build(settings, LocalRunner())
    assert worlds.hashes(tmp_path / "out", "plan/index/*") == before
    for path, data in keep.items():
        path.write_bytes(data)
    build(settings, LocalRunner())
    assert list(verify(str(tmp_path / "out"))) == []


def test_a_copy_of_the_input_with_other_times_goes_on(tmp_path):
    source = two_tars(tmp_path / "input")
    build(worlds.settings(tmp_path / "whole", source, workers=1), LocalRunner())
    settings = worlds.settings(tmp_path / "out", source, workers=1)
    with pytest.raises(KeyboardInterrupt):
        build(settings, Interrupted())
    for path in (tmp_path / "input").iterdir():
        os.utime(path, (1, 1))
    build(settings, LocalRunner())
    assert worlds.hashes(tmp_path / "out") == worlds.hashes(tmp_path / "whole")


def test_templates_count_by_their_content(tmp_path):
    from pipeline.build import Refused

    source = worlds.coco_folder(tmp_path / "input", 8)
    templates = tmp_path / "templates.txt"
    templates.write_text("a photo of a {}.\n")
    settings = worlds.settings(tmp_path / "out", source)
    settings = dataclasses.replace(
        settings, pool=dataclasses.replace(settings.pool, templates=str(templates))
    )
    build(settings, LocalRunner())
    templates.write_text("a drawing of {}!\n")
    with pytest.raises(Refused, match="templates"):
        build(settings, LocalRunner())


# K3, K4: names are names, folders are what the store says


def test_every_command_works_in_a_folder_of_an_awkward_name(tmp_path, capsys):
    root = tmp_path / AWKWARD
    source = worlds.coco_folder(root / "input", 8)
    settings = worlds.settings(root / "out", source, align=ALIGN, workers=1)
    build(settings, LocalRunner())
    pool = dataclasses.replace(settings.pool, path=f"{root}/out/concept_pool")
    build(dataclasses.replace(settings, out=f"{root}/again", pool=pool), LocalRunner())
    other = dataclasses.replace(
        settings, out=f"{root}/new labels", align=dataclasses.replace(ALIGN, threshold=0.4)
    )
    relabel(settings.out, other, LocalRunner())
    for argv in (
        ["verify", f"{root}/out"], ["verify", f"{root}/again"], ["verify", other.out],
        ["view", settings.out, "--n", "1", "--out", f"{root}/p::q.png"],
        ["pool", "diff", f"{root}/out/concept_pool", f"{root}/again/concept_pool"],
        ["report", settings.out, "--out", f"{root}/r.html"],
    ):  # fmt: skip
        assert cli.main(argv) == 0, capsys.readouterr()
    assert (root / "p::q.png").stat().st_size > 100
    assert worlds.hashes(root / "out") != {}


def test_a_dataset_behind_a_link_and_what_systems_leave_in_it(tmp_path):
    source = worlds.coco_folder(tmp_path / "input", 8)
    (tmp_path / "disk").mkdir()
    (tmp_path / "out").symlink_to(tmp_path / "disk")
    os.symlink(tmp_path / "nowhere", Path(source.images) / "dangling.jpg")
    os.mkfifo(Path(source.images) / "pipe.jpg")
    settings = worlds.settings(tmp_path / "out", source)
    for folder in ("", "shards", "manifest", "concept_pool", "plan/index"):
        (tmp_path / "disk" / folder).mkdir(parents=True, exist_ok=True)
        (tmp_path / "disk" / folder / ".DS_Store").write_bytes(b"x")
        (tmp_path / "disk" / folder / "._a").write_bytes(b"x")
    assert build(settings, LocalRunner())["n_samples"] == 8
    assert build(settings, LocalRunner())["last_run"]["n_parts_built"] == 0
    assert list(verify(str(tmp_path / "out"))) == []


@pytest.mark.parametrize("name", [".DS_Store", "._000000-0123456789ab.json", f"{storage.TEMPORARY}1-a.json"])
def test_what_is_no_row_commits_nothing_so_other_settings_start_over(tmp_path, name):
    layout = Layout(str(tmp_path))
    claim.settle(layout, {"format_version": FORMAT_VERSION, "tau": 0.1}, ALIGN)
    (tmp_path / "manifest").mkdir()
    (tmp_path / "manifest" / name).write_bytes(b"x")
    claim.settle(layout, {"format_version": FORMAT_VERSION, "tau": 0.2}, ALIGN)
    assert json.loads((tmp_path / "fingerprint.json").read_text())["tau"] == 0.2
    (tmp_path / "manifest" / "000000-0123456789ab.json").write_bytes(b"{}")
    with pytest.raises(claim.Refused, match=r"tau: was 0\.2, is 0\.3"):
        claim.settle(layout, {"format_version": FORMAT_VERSION, "tau": 0.3}, ALIGN)


# K5: one writer, of whatever


def test_pools_and_localizers_have_one_writer_too(tmp_path, capsys):
    source = worlds.coco_folder(tmp_path / "input", 4)
    with storage.Claim.acquire(str(tmp_path / "out"), {"program": "somebody"}):
        captions = ["--source.kind=coco", f"--source.captions={source.captions}"]
        assert build_concept_pool.main([*captions, f"--out={tmp_path}/out", "--pool.min_count=1"]) == 2
        assert "somebody" in capsys.readouterr().err
        scenes = ["--kind=rpn-lite", "--backbone=random", "--data.scenes=2", "--steps=1", "--device=cpu"]
        assert train_localizer.main([*scenes, f"--out={tmp_path}/out"]) == 2
        assert "writes here since" in capsys.readouterr().err
        settings = worlds.settings(tmp_path / "first", source, align=ALIGN, workers=1)
        build(settings, LocalRunner())
        with pytest.raises(storage.Claimed, match="somebody"):
            relabel(settings.out, dataclasses.replace(settings, out=f"{tmp_path}/out"), LocalRunner())


# K6: every prefix of the writes


def test_a_pool_killed_between_its_files_is_no_pool_and_the_next_save_is_whole(tmp_path, monkeypatch):
    source = worlds.coco_folder(tmp_path / "input", 8)
    build(worlds.settings(tmp_path / "out", source), LocalRunner())
    pool = ConceptPool.load(str(tmp_path / "out" / "concept_pool"))
    smaller = dataclasses.replace(worlds.settings(tmp_path, source).pool, min_count=4)
    build(dataclasses.replace(worlds.settings(tmp_path / "o2", source), pool=smaller), LocalRunner())
    other = ConceptPool.load(str(tmp_path / "o2" / "concept_pool"))
    plain = storage.write_bytes
    for n in range(3):
        target = str(tmp_path / f"p{n}")
        other.save(target)
        done = []

        def dying(url, data, n=n, done=done):
            if len(done) == n:
                raise KeyboardInterrupt
            done.append(url)
            plain(url, data)

        monkeypatch.setattr(storage, "write_bytes", dying)
        with pytest.raises(KeyboardInterrupt):
            pool.save(target)
        monkeypatch.setattr(storage, "write_bytes", plain)
        with pytest.raises((FileNotFoundError, ValueError)):
            ConceptPool.load(target)
        pool.save(target)
        assert ConceptPool.load(target).hash == pool.hash


# K8: one decoder


def test_images_are_opened_in_one_room_alone():
    """A second decoder is a second opinion on which way is up. `jpeg_gpu.py` leaves what is turned to the first one."""
    rooms = ("pipeline", "training", "evaluation", "reports", "jobs", "regionpairs", "exports")
    found = set()
    for path in (p for room in rooms for p in (ROOT / room).rglob("*.py")):
        for node in ast.walk(ast.parse(path.read_text(encoding="utf-8"))):
            name = (
                node.attr
                if isinstance(node, ast.Attribute)
                else node.id
                if isinstance(node, ast.Name)
                else ""
            )
            if name in ("exif_transpose", "decode_jpeg", "decode_image") or (
                name == "open"
                and isinstance(node, ast.Attribute)
                and getattr(node.value, "id", "") == "Image"
            ):
                found.add(str(path.relative_to(ROOT)))
    decoders = {
        "pipeline/images.py",
        "pipeline/jpeg_gpu.py",
        "pipeline/orientation.py",
        "training/data/pixels.py",
    }
    assert found <= decoders, found


# K11, K12: addresses and sizes that are not to be trusted


@pytest.mark.parametrize("location", ["../secret.tar", "a/../../secret.tar"])
def test_a_plan_of_foreign_hands_reads_nothing_above_the_input(tmp_path, location):
    source = two_tars(tmp_path / "input")
    worlds.tar_file(tmp_path / "secret.tar", [("a", "jpg", b"secret" * 100, "x")])
    row = {"location": location, "offset": 512, "n_bytes": 6, "row": -1, "source_key": "k"}
    with pytest.raises((ValueError, BadSample)):
        load(source).read(row)


def test_secrets_of_settings_are_in_no_file(tmp_path):
    values = {"a": ["https://u:SECRET@h/x?X-Amz-Signature=SECRET"], "b": {"c": "s3://b/k"}, "d": 1, "e": None}
    assert storage.redacted_values(values) == {
        "a": ["https://h/x"],
        "b": {"c": "s3://b/k"},
        "d": 1,
        "e": None,
    }


def test_a_compressed_bomb_of_captions_ends_at_a_limit(tmp_path):
    path = tmp_path / "c.json.gz"
    with gzip.open(path, "wb", compresslevel=1) as file:
        for _ in range(140):
            file.write(b" " * (1 << 20))
        file.write(b'{"images": []}')
    started = time.monotonic()
    with pytest.raises(ValueError, match=r"c\.json\.gz is no COCO JSON: it unpacks to more than 64 times"):
        read_coco(str(path))
    assert time.monotonic() - started < 30


def test_a_configuration_that_holds_itself_a_billion_times_is_a_line(tmp_path, capsys):
    lines = ["a0: &a0 [x, x, x, x, x, x, x, x, x]"]
    lines += [f"a{i}: &a{i} [{', '.join([f'*a{i - 1}'] * 9)}]" for i in range(1, 5)]
    path = tmp_path / "bomb.yaml"
    path.write_text("\n".join(lines))
    with pytest.raises(SystemExit):
        build_concept_pool.main(["--config", str(path), f"--out={tmp_path}/o"])
    assert len(capsys.readouterr().err) < 4000
