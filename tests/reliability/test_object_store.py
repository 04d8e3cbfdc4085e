"""The whole way through an object store: build, interruption, new labels, training, verify; with faults all along."""

from __future__ import annotations

import dataclasses
from collections import Counter
from pathlib import Path
from typing import Any

import pytest
from safetensors.torch import load_file

from pipeline.align import AlignSettings
from pipeline.build import Incomplete, build
from pipeline.dataset.verify import verify
from pipeline.relabel import relabel
from pipeline.run_local import LocalRunner
from pipeline.settings import BuildSettings
from tests.pipeline import worlds
from tests.reliability.conftest import comparable, files, objects, source_at, upload
from tests.training.students import tiny_student
from training.settings import DataSettings, RunSettings, TrainSettings, ViewSettings
from training.train import train

ALIGN = AlignSettings(tau=0.1, threshold=0.2, region_embeddings="fp16")
OTHER = AlignSettings(tau=0.2, policy="pool", threshold=0.2, region_embeddings="fp16")


class Interrupted(LocalRunner):
    """A driver that goes away after its first commit."""

    def run(self, stages, job, parts):
        for payload in super().run(stages, job, parts):
            yield payload
            raise KeyboardInterrupt


def settings_of(out: str, root: str, **changes: Any) -> BuildSettings:
    made = worlds.settings(Path("/"), source_at(root), align=ALIGN, workers=1, **changes)
    return dataclasses.replace(made, out=out)


def interrupted(settings: BuildSettings) -> None:
    """A build that is cut after one part and started again until it is through."""
    with pytest.raises(KeyboardInterrupt):
        build(settings, Interrupted())
    build(settings, LocalRunner())


def trained(dataset: str, out: Path, workers: int = 0) -> dict[str, Any]:
    settings = TrainSettings(
        data=DataSettings(
            dataset, batch_images=4, workers=workers, window_shards=2, buffer_dir=f"{out}-buffer"
        ),
        view=ViewSettings(short_side=32, long_side=64, max_regions=4),
        run=RunSettings(str(out), steps=4, threads=1, device="cpu", log_keys=True, tensorboard=False),
    )
    train(settings, tiny_student(dim=16))
    return load_file(out / "student.safetensors")


@pytest.fixture
def local(tmp_path: Path, input_folder: Path, color_teacher: None) -> Path:
    """The dataset, the relabelled one and the trained student of a quiet local disk."""
    settings = settings_of(str(tmp_path / "local"), str(input_folder))
    build(settings, LocalRunner())
    relabel(
        settings.out, dataclasses.replace(settings, out=f"{tmp_path}/relabelled", align=OTHER), LocalRunner()
    )
    trained(settings.out, tmp_path / "student")
    return tmp_path


@pytest.fixture
def color_teacher(monkeypatch: pytest.MonkeyPatch) -> None:
    from pipeline import teachers
    from tests.fakes import ColorTeacher

    monkeypatch.setattr(teachers, "load", lambda settings: ColorTeacher())


def same_keys(a: Path, b: Path) -> None:
    assert (a / "keys.jsonl").read_bytes() == (b / "keys.jsonl").read_bytes()


def the_whole_way(local: Path, s3: Any, name: str, workers: int = 0) -> None:
    """Build with an interruption, relabel, train, verify, in `s3://bucket/<name>`; compared with `local`."""
    settings = settings_of(f"s3://bucket/{name}/pairs", f"s3://bucket/{name}/input")
    interrupted(settings)
    assert comparable(objects(s3, f"{name}/pairs")) == comparable(files(local / "local"))
    other = dataclasses.replace(settings, out=f"s3://bucket/{name}/relabelled", align=OTHER)
    relabel(settings.out, other, LocalRunner())
    relabelled = comparable(objects(s3, f"{name}/relabelled"))
    assert relabelled == comparable(files(local / "relabelled"))
    weights = trained(settings.out, local / f"student-{name}", workers)
    before = load_file(local / "student" / "student.safetensors")
    assert all(weights[k].equal(v) for k, v in before.items())
    same_keys(local / "student", local / f"student-{name}")
    assert list(verify(settings.out)) == []
    assert list(verify(other.out)) == []


def test_an_object_store_gives_the_bytes_of_a_local_disk(local, s3, quick):
    upload(s3, local / "input", "quiet/input")
    the_whole_way(local, s3, "quiet")


def test_a_store_that_fails_loses_and_replaces_nothing(local, s3, faulty):
    """Every fourth request fails, in seven ways."""
    upload(s3, local / "input", "ill/input")
    server = faulty(seed=1, share=0.25, stall_share=0.005)
    the_whole_way(local, s3, "ill")
    assert sum(server.injected.values()) > 40
    assert set(server.injected) >= {"500", "503", "429", "timeout_400", "cut", "drop", "lost_answer"}


@pytest.mark.long
@pytest.mark.slow
def test_five_hundred_faults_lose_and_replace_nothing(local, s3, faulty):
    injected: Counter[str] = Counter()
    seed = 0
    while sum(injected.values()) < 500:
        seed += 1
        upload(s3, local / "input", f"s{seed}/input")
        server = faulty(seed=seed, share=0.33, stall_share=0.01)
        the_whole_way(local, s3, f"s{seed}", workers=seed % 2)
        injected.update(server.injected)
    print(dict(injected))
    assert len(injected) == 8


def test_a_store_that_is_gone_commits_nothing_and_the_next_run_goes_on(local, s3, faulty, monkeypatch):
    """More failures in a row than there are attempts: the parts fail by name, nothing becomes a reject."""
    upload(s3, local / "input", "gone/input")
    settings = settings_of("s3://bucket/gone/pairs", "s3://bucket/gone/input")
    server = faulty(seed=3, share=0.0, stall_share=0.0)

    class Cut(LocalRunner):
        def run(self, stages, job, parts):
            monkeypatch.setattr(server, "fault", lambda method, path: "503" if "00000.tar" in path else "")
            yield from super().run(stages, job, parts)

    with pytest.raises(Incomplete, match=r"2 of 2 parts failed.*part./00000\.tar.*15 attempts"):
        build(settings, Cut())
    assert objects(s3, "gone/pairs", "manifest") == {}
    monkeypatch.setattr(server, "fault", lambda method, path: "")
    build(settings, LocalRunner())
    assert comparable(objects(s3, "gone/pairs")) == comparable(files(local / "local"))
