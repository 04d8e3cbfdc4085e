"""The loader: order, resume, ranks, subsets, damage."""

from __future__ import annotations

import errno
import json
import os
import shutil
import time
from collections import Counter
from dataclasses import replace
from itertools import islice
from multiprocessing import Pipe
from pathlib import Path

import fsspec
import hypothesis.strategies as st
import pytest
from hypothesis import given, settings

import storage
from jobs.failures import failure
from pipeline.dataset import Dataset, Layout
from pipeline.dataset.damage import DamagedDataset
from pipeline.dataset.npz import read_npz
from pipeline.dataset.random_access import Shards
from tests.training.datasets import make_dataset, sample_row, to_memory, write_shard
from training.data.batch import Batch
from training.data.budget import BadBudget
from training.data.loader import Loader
from training.data.order import Order, batches
from training.data.split import split
from training.settings import DataSettings, ViewSettings

VIEW = ViewSettings(short_side=24, long_side=48, pad_to=1)


@pytest.fixture(scope="module")
def dataset(tmp_path_factory) -> Path:
    return make_dataset(tmp_path_factory.mktemp("dataset") / "d", shards=5, per_shard=7)


def _loader(dataset: Path | str, folder: Path, **kwargs) -> Loader:
    data = DataSettings(str(dataset), workers=0, window_shards=2, batch_images=4, bad_budget=0.5)
    fields = {k: kwargs.pop(k) for k in list(kwargs) if hasattr(data, k)}
    data = replace(data, **fields)
    opened = Dataset.open(str(dataset))
    shards = Shards(
        opened.shards, str(folder / "buffer"), int(data.buffer_gib * 2**30), data.window_shards + 2
    )
    held_out, held = kwargs.pop("held_out", 0.0), kwargs.pop("held", False)
    if data.subset < 1 or held_out:
        found = split((i.keys for i in shards.indices()), data.subset, held_out)
        kwargs["selected"] = found.held if held else found.train
    return Loader(opened, shards, data, VIEW, **kwargs)


def _keys(steps) -> list[str]:
    return [key for step in steps for batch in step for key in batch.keys]


def _fields(batch: Batch) -> tuple:
    return (batch.keys, batch.boxes.tolist(), batch.images().sum().item(), batch.captions.tolist())


@settings(max_examples=50, deadline=None)
@given(st.lists(st.integers(0, 9), min_size=1, max_size=8), st.integers(0, 99), st.integers(1, 5))
def test_every_epoch_is_a_permutation_and_keeps_to_its_window(counts, seed, window):
    if sum(counts) == 0:
        counts = [1]
    order = Order(counts, seed, window)
    everything = {(s, i) for s, n in enumerate(counts) for i in range(n)}
    n = len(everything)
    for epoch in (0, 3):
        places = [order.locate(p) for p in range(epoch * n, (epoch + 1) * n)]
        assert sorted(places) == sorted(everything)
        last_seen = {s: max(i for i, (t, _) in enumerate(places) if t == s) for s, _ in places}
        for i in range(n):  # shards that are half read: they must fit the window
            begun = {s for s, _ in places[: i + 1]}
            assert sum(1 for s in begun if last_seen[s] > i) <= window
            assert places[i][0] in order.window_shards(epoch * n + i)
            assert all(
                s in order.window_shards(epoch * n + i)
                for s, _ in islice(order.replacements(epoch * n + i, 5), 5)
            )


def test_epochs_differ_in_shards_and_samples_and_seeds_differ():
    order = Order([50] * 6, seed=1, window_shards=2)
    first, second = ([order.locate(e * 300 + p) for p in range(300)] for e in (0, 1))
    assert [s for s, _ in first] != [s for s, _ in second]
    assert [i for _, i in first] != [i for _, i in second]
    assert first != [Order([50] * 6, seed=2, window_shards=2).locate(p) for p in range(300)]


def test_ranks_and_micro_batches_tile_each_step():
    for world, accumulate in ((1, 1), (2, 1), (4, 1), (2, 2), (1, 4)):
        per_rank = [list(batches(24, 3, 8, accumulate, r, world)) for r in range(world)]
        for step in range(3):
            step_positions = []
            for plan in per_rank:
                micro = plan[step * accumulate : (step + 1) * accumulate]
                assert {len(m) for m in micro} == {8 // (world * accumulate)}
                step_positions += [p for m in micro for p in m]
            assert sorted(step_positions) == list(range(24 + 8 * step, 32 + 8 * step))
    with pytest.raises(ValueError, match="do not divide"):
        list(batches(0, 1, 8, 1, 0, 3))


def test_the_global_order_is_the_same_for_any_ranks_and_workers(dataset, tmp_path):
    alone = list(_loader(dataset, tmp_path).steps(12))
    workers = list(_loader(dataset, tmp_path, workers=2).steps(12))
    assert [_fields(b) for [b] in alone] == [_fields(b) for [b] in workers]
    ranks = [list(_loader(dataset, tmp_path, rank=r, world=2).steps(12)) for r in range(2)]
    for step in range(12):
        both = [k for r in range(2) for b in ranks[r][step] for k in b.keys]
        assert both == alone[step][0].keys
        assert len(ranks[0][step][0].keys) == len(ranks[1][step][0].keys) == 2


def test_an_epoch_holds_every_sample_once(dataset, tmp_path):
    counts = Counter(_keys(_loader(dataset, tmp_path, batch_images=5).steps(14)))
    assert len(counts) == 35
    assert set(counts.values()) == {2}


@pytest.mark.parity(40)
@pytest.mark.parametrize("cut", [1, 4, 9])
def test_resume_gives_exactly_the_rest(dataset, tmp_path, cut):
    whole = [_fields(b) for [b] in _loader(dataset, tmp_path).steps(12)]
    first = _loader(dataset, tmp_path)
    steps = first.steps(12)
    for _ in range(cut):
        next(steps)
    state = json.loads(json.dumps(first.state_dict()))
    steps.close()
    second = _loader(dataset, tmp_path, workers=1)
    second.load_state_dict(state)
    assert [_fields(b) for [b] in second.steps(12 - cut)] == whole[cut:]
    third = _loader(
        dataset, tmp_path, batch_images=2, rank=0, world=2
    )  # other batch, other ranks: same stream
    third.load_state_dict(state)
    assert next(third.steps(1))[0].keys == whole[cut][0][:1]


def test_another_stream_is_not_resumed(dataset, tmp_path):
    state = _loader(dataset, tmp_path).state_dict()
    with pytest.raises(ValueError, match="n_samples was 35"):
        _loader(dataset, tmp_path, subset=0.5).load_state_dict(state)
    with pytest.raises(ValueError, match="seed was 0, is 1"):
        _loader(dataset, tmp_path, seed=1).load_state_dict(state)


def test_subsets_nest_and_held_out_samples_are_never_trained_on(dataset, tmp_path):
    def epoch(**kwargs) -> set[str]:
        loader = _loader(dataset, tmp_path, batch_images=1, **kwargs)
        return set(_keys(loader.steps(loader.n_samples)))

    whole, half, quarter = epoch(), epoch(subset=0.5), epoch(subset=0.25)
    assert quarter < half < whole
    assert 0.25 < len(half) / len(whole) < 0.75
    train, held = epoch(held_out=0.3), epoch(held_out=0.3, held=True)
    assert train | held == whole
    assert not train & held
    assert not epoch(held_out=0.3, subset=0.5) & held


def _damage(dataset: Path, tmp_path: Path, which: str) -> tuple[Path, set[str]]:
    """A copy of the dataset with damage; returns it and the keys that cannot be read."""
    copy = tmp_path / "damaged"
    shutil.copytree(dataset, copy)
    (path,) = (copy / "shards").glob("000001-*.tar")
    index = _loader(dataset, tmp_path)._shards.index(1)
    keys = [k.decode() for k in index.keys]
    data = bytearray(path.read_bytes())
    if which == "cut":
        path.write_bytes(data[: len(data) // 2])
        return copy, {k for k, o in zip(keys, index.offsets, strict=True) if o.max() > len(data) // 2}
    member = {"image": 0, "npz": 4}[which]
    start, end = index.offsets[2][member : member + 2]
    data[start + 20 : end - 20] = bytes(int(end - start) - 40)
    path.write_bytes(data)
    return copy, {keys[2]}


@pytest.mark.parametrize("which", ["image", "npz", "cut"])
def test_damaged_samples_are_skipped_counted_and_replaced_and_no_others(dataset, tmp_path, which):
    copy, lost = _damage(dataset, tmp_path, which)
    loader = _loader(copy, tmp_path / which, batch_images=5)
    steps = list(loader.steps(7))
    assert [len(b.keys) for [b] in steps] == [5] * 7
    keys = _keys(steps)
    whole = set(_keys(_loader(dataset, tmp_path, batch_images=5).steps(7)))
    assert set(keys) == whole - lost
    assert set(loader.skipped_keys) == lost
    assert sum(loader.skipped.values()) >= len(lost) > 0
    again = _loader(copy, tmp_path / which, batch_images=5, workers=2)
    assert _keys(again.steps(7)) == keys  # the replacement is part of the order
    intact = _keys(_loader(dataset, tmp_path, batch_images=5).steps(7))
    assert [k for k, i in zip(keys, intact, strict=True) if i not in lost] == [
        i for i in intact if i not in lost
    ]


def test_too_much_damage_is_an_error(dataset, tmp_path):
    copy, _ = _damage(dataset, tmp_path, "cut")
    with pytest.raises(BadBudget, match=r"data\.bad_budget 0\.05"):
        list(_loader(copy, tmp_path / "b", batch_images=5, bad_budget=0.05).steps(7))


def _exchange(copy: Path, other: Path, how: str) -> None:
    """Puts another file in the place of a shard."""
    first, second = sorted((copy / "shards").iterdir())[:2]
    if how == "swapped":
        data = first.read_bytes()
        first.write_bytes(second.read_bytes())
        second.write_bytes(data)
    elif how == "of another dataset":
        shutil.copyfile(min((other / "shards").iterdir()), first)
    else:
        first.write_bytes(first.read_bytes() + bytes(512))


@pytest.mark.parametrize("how", ["swapped", "of another dataset", "longer"])
@pytest.mark.parametrize("workers", [0, 1])
def test_another_shard_in_a_shards_place_is_no_damage_of_samples(dataset, tmp_path, how, workers, capsys):
    copy = tmp_path / "copy"
    shutil.copytree(dataset, copy)
    other = make_dataset(tmp_path / "other", shards=1, per_shard=7, seed=1)
    _exchange(copy, other, how)
    loader = _loader(copy, tmp_path, bad_budget=1.0, workers=workers)
    with pytest.raises(DamagedDataset, match=r"\.tar is another") as e:
        list(loader.steps(20))
    assert not loader.skipped
    assert failure("x.py", e.value) == 1
    said = capsys.readouterr().err
    assert f"regionpairs verify {copy} --repair" in said
    assert "Traceback" not in said  # of a loader process


@pytest.mark.parametrize(("budget", "workers"), [(0.05, 0), (1.0, 0), (1.0, 1)])
def test_too_much_damage_says_what_mends_it(dataset, tmp_path, budget, workers, capsys):
    copy = tmp_path / "copy"
    shutil.copytree(dataset, copy)
    for shard in (copy / "shards").iterdir():
        shard.write_bytes(bytes(shard.stat().st_size))
    with pytest.raises(BadBudget, match="damaged") as e:
        list(_loader(copy, tmp_path, bad_budget=budget, workers=workers).steps(20))
    assert failure("x.py", e.value) == 1
    assert f"regionpairs verify {copy} --repair" in capsys.readouterr().err


@pytest.mark.parametrize("workers", [0, 2])
def test_a_shard_that_is_not_there_ends_the_run_and_replaces_nothing(dataset, tmp_path, workers):
    copy = tmp_path / "copy"
    shutil.copytree(dataset, copy)
    next((copy / "shards").glob("000001-*")).unlink()
    loader = _loader(copy, tmp_path, bad_budget=1.0, workers=workers)
    with pytest.raises(DamagedDataset, match=r"000001-.* is gone"):
        list(loader.steps(20))
    assert not loader.skipped


def test_an_index_that_is_gone_or_damaged_is_an_error_of_one_line(dataset, tmp_path):
    copy = tmp_path / "copy"
    shutil.copytree(dataset, copy)
    index = next((copy / "index").glob("000001-*"))
    index.write_bytes(index.read_bytes()[:-1] + b"x")
    with pytest.raises(ValueError, match=r"index/000001-000000000001\.parquet is damaged"):
        _loader(copy, tmp_path, subset=0.5)
    with pytest.raises(ValueError, match="is damaged"):
        list(_loader(copy, tmp_path).steps(20))
    index.unlink()
    with pytest.raises(DamagedDataset, match=r"index/000001-000000000001\.parquet is gone"):
        _loader(copy, tmp_path, subset=0.5)


def test_a_remote_dataset_streams_through_a_bounded_buffer(dataset, tmp_path):
    url = to_memory(dataset, "remote")
    shard_bytes = max(p.stat().st_size for p in (dataset / "shards").iterdir())
    loader = _loader(url, tmp_path, buffer_gib=3.5 * shard_bytes / 2**30)
    keys = []
    for step in loader.steps(20):
        keys += _keys([step])
        assert len(list((tmp_path / "buffer").glob("*.tar"))) <= 4
    assert keys == _keys(_loader(dataset, tmp_path / "local").steps(20))


def test_a_slow_remote_dataset_and_loader_processes_come_to_an_end(dataset, tmp_path, monkeypatch):
    """A process that was forked while a thread fetched, and so held a lock, waited for that lock for ever."""
    url = to_memory(dataset, "slow")
    real = storage.read_bytes

    def slow(url, *arguments):
        time.sleep(0.1 if "shards" in url else 0)
        return real(url, *arguments)

    monkeypatch.setattr(storage, "read_bytes", slow)
    loader = _loader(url, tmp_path, workers=1, batch_images=7)
    keys = []
    for i, step in enumerate(loader.steps(10)):
        keys += _keys([step])
        if i % 2:  # an evaluation forks processes too, in the midst of it
            next(_loader(url, tmp_path, workers=1, seed=i).steps(1))
    assert keys == _keys(_loader(dataset, tmp_path, batch_images=7).steps(10))


@pytest.mark.parametrize("failures", [1, 3])
def test_a_read_that_fails_for_a_moment_replaces_nothing(dataset, tmp_path, monkeypatch, failures):
    want = _keys(_loader(dataset, tmp_path).steps(9))
    monkeypatch.setattr(storage.RETRIES, "base_s", 0.001)
    real, seen = os.preadv, Counter()

    def flaky(descriptor, buffers, offset):
        seen[offset] += 1
        if seen[offset] <= failures:
            raise OSError(errno.EIO, "Input/output error")
        return real(descriptor, buffers, offset)

    monkeypatch.setattr(os, "preadv", flaky)
    loader = _loader(dataset, tmp_path)
    assert _keys(loader.steps(9)) == want
    assert not loader.skipped


def test_a_read_that_keeps_failing_ends_the_run(dataset, tmp_path, monkeypatch):
    def fails(*_):
        raise OSError(errno.EIO, "Input/output error")

    monkeypatch.setattr(storage.RETRIES, "base_s", 0.001)
    monkeypatch.setattr(os, "preadv", fails)
    loader = _loader(dataset, tmp_path, bad_budget=1.0)
    with pytest.raises(storage.Unavailable, match=r"\.tar.*Input/output error"):
        next(loader.steps(1))
    assert not loader.skipped


def test_a_remote_shard_that_is_not_what_its_row_says_is_damaged(dataset, tmp_path):
    url = to_memory(dataset, "flipped")
    memory = fsspec.filesystem("memory")
    (name,) = memory.glob("/flipped/shards/000002-*.tar")
    memory.pipe(name, memory.cat_file(name)[:-1] + b"x")
    loader = _loader(url, tmp_path, batch_images=5)
    list(loader.steps(7))
    assert loader.skipped_keys.keys() == {k.decode() for k in loader._shards.index(2).keys}
    assert loader.skipped["damaged_shard"] >= 7


def test_the_stream_travels_to_processes_that_are_not_forked(dataset, tmp_path):
    here, there = Pipe()
    here.send(_loader(dataset, tmp_path)._stream)
    stream = there.recv()
    want = next(_loader(dataset, tmp_path).steps(1))[0]
    assert _fields(stream[[0, 1, 2, 3]]) == _fields(want)


@pytest.mark.slow
@pytest.mark.parametrize("method", ["spawn", "forkserver"])
def test_loader_processes_may_be_spawned(dataset, tmp_path, method):
    spawned = _loader(dataset, tmp_path, workers=1, start_method=method)
    assert _keys(spawned.steps(8)) == _keys(_loader(dataset, tmp_path).steps(8))


@pytest.mark.parity(44)
def test_shards_larger_than_a_batch_and_a_shard_of_one(tmp_path):
    big = make_dataset(tmp_path / "big", shards=1, per_shard=11)
    _, _, _, arrays = _loader(big, tmp_path)._shards.read(0, 0)
    write_shard(Layout(str(big)), 9, [sample_row("f" * 24, "png", b"x", read_npz(arrays))])
    loader = _loader(big, tmp_path, batch_images=4)
    keys = _keys(loader.steps(3))
    assert len(keys) == 12
    assert loader.skipped_keys == {"f" * 24: "not_an_image"}
