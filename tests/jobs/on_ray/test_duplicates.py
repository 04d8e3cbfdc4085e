"""Duplicates that are looked for by tasks on Ray: the same from one worker and from two."""

from __future__ import annotations

import dataclasses
import io

import pytest

import storage
from pipeline import sources
from pipeline.dataset.layout import Layout
from pipeline.duplicates import find
from pipeline.duplicates.settings import DuplicateSettings
from pipeline.planning import make_plan
from pipeline.run_local import LocalRunner
from pipeline.sources.settings import SourceSettings
from tests import pictures
from tests.pipeline import worlds

pytest.importorskip("imagehash", reason="pip install 'regionpairs[duplicates]'")


class Idle:
    """What takes a CPU away."""

    def is_there(self) -> bool:
        return True


def planned(settings, out, runner) -> None:
    make_plan(
        dataclasses.replace(settings, out=str(out)),
        sources.load(settings.source),
        Layout(str(out)),
        runner.map,
    )


@pytest.mark.ray
@pytest.mark.slow
def test_ray_finds_the_duplicates_of_the_plain_runner(tmp_path, ray_instance, monkeypatch):
    """Four tars; a copy in each of the first one's pictures. One worker: the other CPU is taken."""
    from jobs.on_ray.build import RayRunner

    monkeypatch.setattr(find, "HASHES_A_TASK", 4)  # several shares
    urls = []
    for tar in range(4):
        samples = []
        for i in range(4):
            file = io.BytesIO()
            seed = i if tar in (1, 3) and i < 2 else 10 * tar + i
            pictures.photo(160, 120, seed=seed).save(file, "JPEG", quality=90 - tar)
            samples.append((f"{tar}{i}", "jpg", file.getvalue(), f"a red ball {i}"))
        urls += worlds.tar_file(tmp_path / f"{tar}.tar", samples).url_list()
    settings = worlds.settings(
        tmp_path, SourceSettings(kind="webdataset", urls=urls), duplicates=DuplicateSettings(images="near")
    )
    planned(settings, tmp_path / "plain", LocalRunner())
    planned(settings, tmp_path / "two", RayRunner())
    held = ray_instance.remote(num_cpus=1)(Idle).remote()
    ray_instance.get(held.is_there.remote())
    try:
        planned(settings, tmp_path / "one", RayRunner())
    finally:
        ray_instance.kill(held)
    assert len(storage.read_table(Layout(str(tmp_path / "plain")).duplicates)) >= 4
    for name in ("one", "two"):
        for pattern in ("duplicates.parquet", "plan/parts.parquet", "plan/index/*", "plan/hashes/*"):
            found = worlds.hashes(tmp_path / name, pattern)
            assert found == worlds.hashes(tmp_path / "plain", pattern)
            assert found, pattern
