"""Streams: what is fetched before the first step, and what is said where nothing is left."""

from __future__ import annotations

from collections import Counter
from dataclasses import replace
from pathlib import Path

import fsspec
import pytest
from fsspec.implementations.memory import MemoryFileSystem

import storage
from pipeline.dataset import Dataset
from pipeline.dataset.random_access import THREADS
from tests.training.datasets import make_dataset, to_memory
from tests.training.students import tiny_student
from tests.training.test_train import make_settings
from training.data.streams import Streams
from training.train import train


@pytest.fixture(scope="module")
def dataset(tmp_path_factory) -> Path:
    return make_dataset(tmp_path_factory.mktemp("dataset") / "d", shards=12, per_shard=3)


@pytest.fixture
def requests(monkeypatch) -> Counter:
    """Folder of the dataset -> reads of files in it, by whatever way."""
    seen: Counter = Counter()

    def counted(name):
        real = getattr(MemoryFileSystem, name)

        def read(self, path, *arguments, **options):
            seen[str(path).split("/")[-2] if "." in str(path) else "?"] += 1
            return real(self, path, *arguments, **options)

        monkeypatch.setattr(MemoryFileSystem, name, read)

    for name in ("cat_file", "_open"):
        counted(name)
    return seen


def test_a_split_of_a_remote_dataset_reads_indices_alone_and_each_once(dataset, tmp_path, requests):
    url = to_memory(dataset, "split")
    settings = make_settings(dataset, tmp_path, held_out=0.3, evaluate_every=4)
    settings = replace(settings, data=replace(settings.data, dataset=url, subset=0.8, cache_images=False))
    opened = Dataset.open(url)
    requests.clear()
    streams = Streams(settings, opened)
    loaders = streams.loader(), streams.loader(held=True)
    assert 0 < loaders[0].n_samples < 36
    assert 0 < loaders[1].n_samples < 36
    assert requests == {"index": 12}
    next(loaders[0].steps(1))
    assert requests["index"] == 12  # read from their copies
    assert 0 < requests["shards"] <= 4
    requests.clear()
    Streams(settings, opened)
    assert not requests


def test_a_training_opens_its_dataset_once(dataset, tmp_path, requests, monkeypatch):
    url = to_memory(dataset, "once")
    requests.clear()
    settings = make_settings(dataset, tmp_path, steps=3, held_out=0.3, evaluate_every=2)
    settings = replace(
        settings, data=replace(settings.data, dataset=url), loss=replace(settings.loss, distill="feature")
    )
    opened = []
    real = Dataset.open
    monkeypatch.setattr(
        Dataset, "open", staticmethod(lambda url, images=None: opened.append(url) or real(url, images))
    )
    train(settings, tiny_student())
    assert opened == [url]
    assert requests["manifest"] == 12
    assert requests["index"] == 12
    assert requests["shards"] <= 12


def test_indices_are_asked_for_some_at_once_and_not_all(tmp_path, monkeypatch):
    import threading

    many = make_dataset(tmp_path / "d", shards=3 * THREADS, per_shard=1)
    real, now, most, lock = storage.read_bytes, [0], [0], threading.Lock()
    together = threading.Event()

    def read(url, *arguments):
        with lock:
            now[0] += 1
            most[0] = max(most[0], now[0])
            if now[0] == THREADS:
                together.set()
        together.wait(5)
        try:
            return real(url, *arguments)
        finally:
            with lock:
                now[0] -= 1

    opened = Dataset.open(str(many))
    monkeypatch.setattr(storage, "read_bytes", read)
    Streams(make_settings(many, tmp_path, held_out=0.5), opened)
    assert most[0] == THREADS


def test_nothing_held_out_or_nothing_left_is_said_before_the_first_step(dataset, tmp_path):
    few = make_dataset(tmp_path / "few", shards=1, per_shard=3)
    with pytest.raises(ValueError, match=r"^run\.held_out: 0\.001 of 3 samples holds out none"):
        train(make_settings(few, tmp_path / "a", held_out=0.001, evaluate_every=5), tiny_student())
    with pytest.raises(ValueError, match=r"^data\.subset: of 3 samples none is left"):
        train(make_settings(few, tmp_path / "b", held_out=0.999), tiny_student())
    assert not (tmp_path / "a" / "metrics.jsonl").exists()


def test_a_remote_run_is_the_local_one(dataset, tmp_path):
    local, remote = (make_settings(dataset, tmp_path / n, steps=3) for n in ("local", "remote"))
    remote = replace(remote, data=replace(remote.data, dataset=to_memory(dataset, "run"), workers=1))
    assert train(local, tiny_student())["loss"] == train(remote, tiny_student())["loss"]
    assert fsspec.filesystem("memory").exists("/run/manifest")
