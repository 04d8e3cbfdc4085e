"""Labels apart from pixels: shards of labels alone, joined to the images where they lie."""

from __future__ import annotations

import dataclasses
import json
import shutil
from pathlib import Path

import fsspec
import pytest

from pipeline.align import AlignSettings
from pipeline.build import build
from pipeline.dataset import Dataset
from pipeline.dataset.damage import DamagedDataset
from pipeline.dataset.layout import Layout
from pipeline.dataset.plan import Plan
from pipeline.dataset.random_access import Shards
from pipeline.dataset.shards import samples_of
from pipeline.dataset.verify import verify
from pipeline.relabel import relabel
from pipeline.remove import remove
from pipeline.run_local import LocalRunner
from pipeline.stages.chain import Job, Payload
from pipeline.stages.read_shard import ReadLabels, ReadShard
from reports import choose
from reports.facts import show
from tests.fakes import ColorTeacher
from tests.pipeline import worlds
from tests.training.students import tiny_student
from training.settings import DataSettings, OptimizerSettings, RunSettings, TrainSettings, ViewSettings
from training.train import train

ALIGN = AlignSettings(policy="blend", tau=0.1, threshold=0.2, top_k=3, region_embeddings="fp16")


@pytest.fixture(scope="module")
def story(tmp_path_factory):
    """A dataset, its relabelling with images and without: folder and settings."""
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr("pipeline.teachers.load", lambda settings: ColorTeacher())
        folder = tmp_path_factory.mktemp("labels")
        source = worlds.coco_folder(folder / "source", n=20)
        (Path(source.images) / "003.jpg").write_bytes(b"no picture")
        first = worlds.settings(folder / "first", source, align=ALIGN, reject_budget=0.5)
        build(first, LocalRunner())
        again = dataclasses.replace(ALIGN, policy="pool", threshold=0.3)
        for name, alone in (("whole", False), ("labels", True)):
            settings = dataclasses.replace(first, out=str(folder / name), align=again)
            relabel(first.out, settings, LocalRunner(), alone)
    return folder, settings


def opened(folder: Path, name: str) -> Dataset:
    return Dataset.open(str(folder / name))


def contents(dataset: Dataset):
    """What a dataset says, but for the fingerprint."""
    return [
        (
            s.key,
            s.extension,
            s.image,
            {**s.meta, "fingerprint": ""},
            {n: a.tobytes() for n, a in s.arrays.items()},
        )
        for s in dataset.samples()
    ]


def test_the_samples_are_those_of_a_whole_relabelling(story):
    folder, _ = story
    assert contents(opened(folder, "labels")) == contents(opened(folder, "whole"))
    assert list(verify(str(folder / "labels"))) == []
    sizes = {n: sum(p.stat().st_size for p in (folder / n / "shards").iterdir()) for n in ("labels", "whole")}
    images = sum(len(s.image) for s in opened(folder, "first").samples())
    assert sizes["whole"] - sizes["labels"] >= images


def test_images_are_not_read_and_damaged_labels_are_told(story, tmp_path):
    folder, settings = story
    shutil.copytree(folder / "first", tmp_path / "first")
    job = Job(settings, str(folder / "labels"), {}, "", dataset=str(tmp_path / "first"))
    part = next(iter(Plan.read(Layout(str(tmp_path / "first"))).parts))
    whole, labels = (stage(job)(Payload.start(part)).to_pylist() for stage in (ReadShard, ReadLabels))
    assert labels == [{**row, "image": b""} for row in whole]
    shard = tmp_path / "first/shards" / f"{part.name}.tar"
    data = shard.read_bytes()
    at = data.index(whole[0]["image"])
    shard.write_bytes(data[: at + 20] + b"?" * 50 + data[at + 70 :])  # an image is another: nobody looks
    assert ReadLabels(job)(Payload.start(part)).to_pylist() == labels
    with pytest.raises(DamagedDataset):
        ReadShard(job)(Payload.start(part))
    for broken in (
        data.replace(b'"key": "', b'"key": "x', 1),
        data[: len(data) // 2],
        data.replace(b"{", b"["),
    ):
        shard.write_bytes(broken)
        with pytest.raises(DamagedDataset, match="damaged"):
            ReadLabels(job)(Payload.start(part))


def test_training_has_the_same_losses_and_weights_to_the_last_bit(story, tmp_path):
    folder, _ = story
    for name in ("whole", "labels"):
        settings = TrainSettings(
            data=DataSettings(str(folder / name), batch_images=4, workers=0, window_shards=2),
            view=ViewSettings(short_side=32, long_side=64, max_regions=4),
            optimizer=OptimizerSettings(lr=3e-3, warmup_steps=2),
            run=RunSettings(
                str(tmp_path / name),
                steps=6,
                threads=1,
                device="cpu",
                log_every=1,
                log_keys=True,
                tensorboard=False,
            ),
        )
        dataset = opened(folder, name)
        train(settings, tiny_student(dim=dataset.concepts().shape[1]))
    losses = [
        [
            {k: v for k, v in json.loads(line).items() if k not in ("images_per_s", "data_wait_share")}
            for line in (tmp_path / name / "metrics.jsonl").read_text().splitlines()
        ]
        for name in ("whole", "labels")
    ]
    assert losses[0] == losses[1]
    assert len(losses[0]) == 6
    for file in ("keys.jsonl", "student.safetensors"):
        assert (tmp_path / "whole" / file).read_bytes() == (tmp_path / "labels" / file).read_bytes()


def test_reports_find_the_image_of_a_sample_by_its_key(story):
    folder, _ = story
    labels, whole = opened(folder, "labels"), opened(folder, "whole")
    mine = {s.key: s.image for s in choose.read(labels, choose.spread(labels.shards, 5))}
    images = {s.key: s.image for s in whole.samples()}
    assert len(mine) == 5
    assert all(mine[key] == images[key] for key in mine)
    key = next(iter(mine))
    assert show(labels, key)["meta"]["key"] == key


def test_labels_of_labels_lead_to_the_images_and_a_whole_relabelling_takes_them(
    story, tmp_path, color_teacher
):
    folder, settings = story
    align = dataclasses.replace(settings.align, threshold=0.4)
    for name, alone in (("alone", True), ("whole", False)):
        relabel(
            str(folder / "labels"),
            dataclasses.replace(settings, out=str(tmp_path / name), align=align),
            LocalRunner(),
            alone,
        )
        assert list(verify(str(tmp_path / name))) == []
    assert opened(tmp_path, "alone").images.url == str(folder / "first")
    assert opened(tmp_path, "whole").images is None
    assert contents(opened(tmp_path, "alone")) == contents(opened(tmp_path, "whole"))


def test_images_that_moved_are_refused_in_a_line_and_found_again_where_one_says(story, tmp_path):
    folder, _ = story
    for name in ("first", "labels"):
        shutil.copytree(folder / name, tmp_path / name)
    assert contents(opened(tmp_path, "labels")) == contents(
        opened(folder, "labels")
    )  # neighbours moved together
    (tmp_path / "first").rename(tmp_path / "moved")
    with pytest.raises(
        ValueError, match=r"holds labels alone.*no finished dataset is there.*--at WHERE"
    ) as e:
        opened(tmp_path, "labels")
    assert "\n" not in str(e.value)
    assert len(list(verify(str(tmp_path / "labels")))) > 0
    found = Dataset.open(str(tmp_path / "labels"), images=str(tmp_path / "moved"))
    assert contents(found) == contents(opened(folder, "labels"))
    with pytest.raises(ValueError, match="another, or has changed"):
        Dataset.open(str(tmp_path / "labels"), images=str(folder / "whole"))
    with pytest.raises(ValueError, match="has images of its own"):
        Dataset.open(str(folder / "first"), images=str(folder / "whole"))


def test_a_remote_label_dataset_is_joined_to_remote_images(story, tmp_path):
    folder, _ = story
    memory = fsspec.filesystem("memory")
    for name in ("first", "labels"):
        for path in (folder / name).rglob("*"):
            if path.is_file():
                memory.pipe(f"/apart/{name}/{path.relative_to(folder / name)}", path.read_bytes())
    remote = Dataset.open("memory://apart/labels")
    assert contents(remote) == contents(opened(folder, "labels"))
    shards = Shards(remote.shards, str(tmp_path / "buffer"), 2**24, 4)
    shards.fetch(0)
    assert len(list((tmp_path / "buffer").glob("*.tar"))) == 2  # labels and images
    local = {s.key: s.image for s in opened(folder, "first").samples()}
    for shard, row in enumerate(remote.shards):
        for ordinal in range(row.n_samples):
            key, image, _, _ = shards.read(shard, ordinal)
            assert bytes(image) == local[key]
    shards.close()


def test_a_lost_image_is_named_by_verify_and_by_the_reader(story, tmp_path):
    folder, _ = story
    shutil.copytree(folder / "labels", tmp_path / "labels")
    shutil.copytree(folder / "first", tmp_path / "first")
    index = sorted((tmp_path / "first" / "index").iterdir())
    shutil.copy(index[0], index[1])
    faults = [line for line in verify(str(tmp_path / "labels")) if line.startswith("images:")]
    assert len(faults) == 1
    assert "lacks 6 images" in faults[0]


def test_shards_of_images_that_are_gone_or_cut_are_named_by_verify(story, tmp_path):
    folder, _ = story
    for name in ("labels", "first"):
        shutil.copytree(folder / name, tmp_path / name)
    first, second = sorted((tmp_path / "first" / "shards").iterdir())[:2]
    first.unlink()
    second.write_bytes(second.read_bytes()[:2000])
    faults = [line for line in verify(str(tmp_path / "labels")) if line.startswith("images:")]
    assert [line.split()[1] for line in faults] == [first.name, second.name]
    assert "is missing" in faults[0]
    assert "is damaged" in faults[1]


@pytest.mark.parametrize("record", ['{"location": 3}', "[]", "null", "{"])
def test_a_damaged_record_of_the_images_place_is_one_line(story, tmp_path, record):
    folder, _ = story
    shutil.copytree(folder / "labels", tmp_path / "labels")
    (tmp_path / "labels" / "images.json").write_text(record)
    with pytest.raises(ValueError, match=r"images\.json is damaged"):
        list(Dataset.open(str(tmp_path / "labels")).samples())
    assert any("is damaged" in line for line in verify(str(tmp_path / "labels")))


def test_samples_are_removed_where_their_images_are(story, tmp_path):
    from pipeline.block_list import BlockList

    folder, settings = story
    with pytest.raises(ValueError, match="labels alone: remove from"):
        remove(
            str(folder / "labels"),
            dataclasses.replace(settings, out=str(tmp_path / "less")),
            BlockList(frozenset({"x"})),
            LocalRunner(),
        )


def test_the_command_writes_down_where_the_images_lie(story, tmp_path, capsys):
    from jobs.cli import main

    folder, _ = story
    for name, new in (("first", "elsewhere/moved"), ("labels", "labels")):
        shutil.copytree(folder / name, tmp_path / new)
    assert main(["images", str(tmp_path / "labels"), "--at", str(folder / "whole")]) == 2
    assert main(["images", str(tmp_path / "labels"), "--at", str(tmp_path / "elsewhere/moved")]) == 0
    assert contents(opened(tmp_path, "labels")) == contents(opened(folder, "labels"))
    assert list(verify(str(tmp_path / "labels"))) == []
    capsys.readouterr()


def test_a_shard_of_labels_alone_is_read_without_its_images(story):
    folder, _ = story
    labels = opened(folder, "labels")
    found = [s for shard in labels.shards for s in samples_of(Path(shard.url).read_bytes())]
    assert [s.key for s in found] == [s.key for s in labels.samples()]
    assert {(s.extension, s.image) for s in found} == {("", b"")}
