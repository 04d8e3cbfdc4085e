"""What one more part costs on a remote store, counted: it must not depend on how many parts there are."""

from __future__ import annotations

from collections import Counter

import pytest

import storage
from pipeline.build import build
from pipeline.dataset import blocks
from pipeline.dataset.verify import repair, verify
from pipeline.run_local import LocalRunner
from tests.pipeline import worlds
from tests.storage.flaky import Flaky

pytestmark = pytest.mark.usefixtures("color_teacher")


@pytest.fixture(autouse=True)
def flaky(monkeypatch):
    monkeypatch.setattr(storage.RETRIES, "base_s", 0.0)
    Flaky.store.clear()
    Flaky.calls.clear()
    yield
    Flaky.store.clear()


def requests(tmp_path, n_images):
    """Requests of a build in parts of 2 images, and of the same command again, by kind."""
    source = worlds.coco_folder(tmp_path / str(n_images), n_images)
    settings = worlds.settings(f"flaky://bucket/{n_images}", source, samples_per_shard=2, workers=1)
    found = []
    for _ in range(2):
        Flaky.calls.clear()
        build(settings, LocalRunner())
        found.append(Counter(Flaky.calls))
    return found


def test_one_more_part_costs_a_fixed_number_of_requests(tmp_path):
    """Per part: row, shard and index are written (`open`), looked for, and the row read; the claim is asked once."""
    (few, few_again), (more, more_again), (most, most_again) = (requests(tmp_path, n) for n in (8, 16, 24))
    for small, middle, large in ((few, more, most), (few_again, more_again, most_again)):
        first, second = sum((middle - small).values()), sum((large - middle).values())
        assert abs(second - first) <= 8, (
            middle - small,
            large - middle,
        )  # threads that meet at one unit's index
    assert (most - more)["open"] == 4 * 3
    assert (most - more)["info"] <= 4 * 4
    assert (most - more)["cat_file"] <= 4 * 3
    assert (most_again - more_again)["open"] == 0
    assert (most_again - more_again)["info"] <= 4 * 6
    assert (most_again - more_again)["cat_file"] <= 4 * 5


def test_damage_is_removed_and_built_again_to_the_same_bytes(tmp_path):
    settings = worlds.settings(tmp_path / "out", worlds.coco_folder(tmp_path / "input", 20))
    build(settings, LocalRunner())
    whole = worlds.hashes(tmp_path / "out", "**/*.*")
    first, second, *_ = sorted((tmp_path / "out" / "shards").iterdir())
    first.write_bytes(b"x" * first.stat().st_size)
    (tmp_path / "out" / "manifest" / f"{second.stem}.json").write_text("{")
    assert len(list(verify(settings.out))) >= 2
    assert repair(settings.out) == [first.stem]  # the row of the second comes back from the table
    assert not first.exists()
    assert not (tmp_path / "out" / "manifest.parquet").exists()
    assert build(settings, LocalRunner())["last_run"]["n_parts_built"] == 1
    assert list(verify(settings.out)) == []
    again = worlds.hashes(tmp_path / "out", "**/*.*")
    unlike = {name for name in whole if whole[name] != again[name]}
    assert unlike <= {"summary.json", f"{first.stem}.json", f"{second.stem}.json"}  # they hold seconds
    assert repair(settings.out) == []


def test_blocks_of_parts_give_the_same_tables_however_they_are_cut(tmp_path, monkeypatch):
    settings = worlds.settings(tmp_path / "out", worlds.coco_folder(tmp_path / "input", 20))
    build(settings, LocalRunner())
    whole = worlds.hashes(tmp_path / "out", "*.parquet")
    monkeypatch.setattr(blocks, "SIZE", 3)
    (tmp_path / "out" / "summary.json").unlink()
    assert build(settings, LocalRunner())["last_run"]["n_parts_built"] == 0
    assert worlds.hashes(tmp_path / "out", "*.parquet") == whole
    assert list(verify(settings.out)) == []
