"""Several datasets as one stream: an index map, and the joint pool behind it."""

from __future__ import annotations

import copy
import json
import shutil
from collections import Counter
from dataclasses import fields, replace
from itertools import islice
from pathlib import Path

import numpy as np
import pyarrow as pa
import pytest
import torch
from safetensors.numpy import load_file, save_file

from concept_pool.pool import CONCEPTS, REJECTED, ConceptPool
from jobs.arguments import parse
from tests.training.datasets import make_dataset, to_memory
from tests.training.students import tiny_student
from training.data.mixture import BLOCK, MixedOrder, open_data, shares
from training.data.order import Order, batches
from training.data.streams import Streams
from training.settings import (
    DataSettings,
    MixSettings,
    OptimizerSettings,
    RunSettings,
    TrainSettings,
    ViewSettings,
)
from training.train import train
from training.trainer import Hooks

TEXT = "concept_pool/text_embeddings.safetensors"


@pytest.fixture(scope="module")
def folder(tmp_path_factory) -> Path:
    """`small` and `large` with the same text embeddings; `other` is `large` under a pool of its own."""
    folder = tmp_path_factory.mktemp("mixture")
    make_dataset(folder / "small", shards=2, per_shard=5, seed=1)
    make_dataset(folder / "large", shards=4, per_shard=8, seed=2)
    shutil.copy(folder / "small" / TEXT, folder / "large" / TEXT)
    shutil.copytree(folder / "large", folder / "other")
    text = load_file(folder / "small" / TEXT)["text_embeddings"]
    save_pool(folder / "small", [f"thing {i}" for i in range(7)])
    save_pool(folder / "other", [*(f"thing {i}" for i in (3, 1, 0)), *(f"other {i}" for i in range(4))])
    save_file({"text_embeddings": np.concatenate([text[[3, 1, 0]], text[3:] + 1])}, folder / "other" / TEXT)
    for row in (folder / "other" / "manifest").iterdir():
        row.write_text(json.dumps({**json.loads(row.read_text()), "pool": "b" * 64}))
    return folder


def save_pool(dataset: Path, names: list[str]) -> None:
    """Writes a vocabulary of these names beside the text embeddings that are there."""
    text = (dataset / TEXT).read_bytes()
    empty = {"string": "", "bool": True, "double": 0.0, "float": 0.0}
    rows = [
        {f.name: [] if pa.types.is_list(f.type) else empty.get(str(f.type), 0) for f in CONCEPTS}
        | {"name": name, "concept_id": i, "is_class": True}
        for i, name in enumerate(names)
    ]
    ConceptPool(pa.Table.from_pylist(rows, CONCEPTS), REJECTED.empty_table()).save(
        str(dataset / "concept_pool")
    )
    (dataset / TEXT).write_bytes(text)


def settings_of(
    folder: Path, out: Path, names=("small", "large"), weights=(1.0, 3.0), **run
) -> TrainSettings:
    mix = [MixSettings(str(folder / n), w) for n, w in zip(names, weights, strict=True)]
    held_out = run.pop("held_out", 0.0)
    return TrainSettings(
        data=DataSettings(mix=mix, batch_images=4, workers=0, window_shards=2),
        view=ViewSettings(short_side=32, long_side=64, max_regions=4),
        optimizer=OptimizerSettings(lr=3e-3, warmup_steps=2),
        run=RunSettings(
            str(out),
            **{"steps": 8, "threads": 1, "device": "cpu", "log_every": 1, "log_keys": True},
            checkpoint_every=3,
            tensorboard=False,
            held_out=held_out,
            **run,
        ),
    )


def order_of(*sizes: tuple[int, ...], weights=(1.0, 3.0), seed=0) -> MixedOrder:
    return MixedOrder([Order(s, seed + i, 2) for i, s in enumerate(sizes)], weights, seed)


@pytest.mark.parametrize("weights", [(1, 3), (0.2, 0.2, 0.6), (1, 1, 1), (999, 1)])
def test_every_block_has_each_dataset_by_its_weight(weights):
    order = order_of(*([(3, 4)] * len(weights)), weights=weights)
    exact = np.array(weights) / sum(weights) * BLOCK
    for block in (0, 1, 7):
        found = Counter(order.source(block * BLOCK + i)[0] for i in range(BLOCK))
        assert all(abs(found[i] - n) < 1 for i, n in enumerate(exact))
    assert shares(weights).sum() == BLOCK


def test_a_weight_that_would_never_come_is_refused():
    with pytest.raises(ValueError, match="less than 1 in 1000"):
        shares([1, 10_000])


def test_no_sample_is_lost_within_an_epoch_of_its_own_dataset():
    order = order_of((5, 3), (11, 7, 9))
    places = [(order.source(p), order.locate(p)) for p in range(4 * BLOCK)]
    for dataset, n, first in ((0, 8, 0), (1, 27, 2)):
        mine = [(own, place) for (d, own), place in places if d == dataset]
        assert [own for own, _ in mine] == list(range(len(mine)))  # its positions follow each other
        for epoch in range(len(mine) // n):
            seen = {place for _, place in mine[epoch * n : (epoch + 1) * n]}
            assert len(seen) == n
            assert all(shard >= first for shard, _ in seen)
    assert len({place for _, place in places}) == 35


def test_the_order_is_a_function_of_seed_and_position_alone():
    one, two = order_of((5, 3), (11, 7)), copy.copy(order_of((5, 3), (11, 7)))  # by __getstate__
    positions = [5, 2999, 0, 1000, 17]
    assert [one.locate(p) for p in positions] == [two.locate(p) for p in positions]
    assert [one.locate(p) for p in range(50)] != [
        order_of((5, 3), (11, 7), seed=1).locate(p) for p in range(50)
    ]


def test_ranks_share_the_stream_between_them():
    order = order_of((5, 3), (11, 7))
    whole = [order.locate(p) for step in batches(3, 5, 4, 1, 0, 1) for p in step]
    halves = [list(batches(3, 5, 4, 1, rank, 2)) for rank in (0, 1)]
    joined = [order.locate(p) for pair in zip(*halves, strict=True) for step in pair for p in step]
    assert joined == whole


def test_open_windows_hold_what_is_read_until_the_next_one():
    order = order_of((5, 3, 4), (11, 7, 9, 2, 6))
    position = 0
    for _ in range(20):
        following = order.next_window(position)
        assert following > position
        for p in range(position, following):
            assert order.locate(p)[0] in order.window_shards(p)
        position = following


def test_stand_ins_are_of_the_same_dataset():
    order = order_of((5, 3), (11, 7))
    for position in range(40):
        dataset, _ = order.source(position)
        assert all((shard >= 2) == (dataset == 1) for shard, _ in islice(order.replacements(position), 30))


def test_a_mixed_run_that_is_stopped_and_resumed_equals_the_undisturbed_one(folder, tmp_path):
    train(settings_of(folder, tmp_path / "whole"), tiny_student())
    for n in (2, 3):
        count = iter(range(n))
        stop = Hooks(stop=lambda count=count: next(count, None) is None)
        train(settings_of(folder, tmp_path / "parts"), tiny_student(), stop)
    train(settings_of(folder, tmp_path / "parts"), tiny_student())
    for name in ("keys.jsonl", "student.safetensors"):
        assert (tmp_path / "whole" / name).read_bytes() == (tmp_path / "parts" / name).read_bytes()
    with pytest.raises(ValueError, match="cannot resume: fingerprint"):
        train(settings_of(folder, tmp_path / "parts", weights=(1.0, 1.0)), tiny_student())


def test_concepts_of_different_pools_are_joined_by_name(folder, tmp_path):
    def opened(names):
        settings = settings_of(folder, tmp_path, names, [1.0] * len(names))
        return Streams(settings, open_data(settings.data)), open_data(settings.data)

    streams, data = opened(("small", "other"))
    concepts, own = data.concepts(), [d.concepts() for d in data.datasets]
    assert concepts.shape == (11, 8)
    assert torch.equal(concepts[:7], own[0])
    assert torch.equal(concepts[7:], own[1][3:])
    joint = np.array([3, 1, 0, 7, 8, 9, 10])  # thing 3, thing 1, thing 0, and what is new
    small = _labels(opened(("small",))[0].loader(), 40)
    other = {
        key: {int(joint[i]) for i in ids} for key, ids in _labels(opened(("other",))[0].loader(), 80).items()
    }
    mixed = _labels(streams.loader(), 40)
    assert len(mixed) == 42
    assert all(ids and ids <= {**small, **other}[key] for key, ids in mixed.items())


def _labels(loader, n_steps: int) -> dict[str, set[int]]:
    """Key -> the labels of all its regions that were drawn."""
    found: dict[str, set[int]] = {}
    for (batch,) in loader.steps(n_steps):
        for i, key in enumerate(batch.keys):
            rows = batch.topk_ids[batch.image_index == i]
            found.setdefault(key, set()).update(rows[:, 0].tolist())
    return found


def test_other_text_embeddings_of_one_name_are_refused(folder, tmp_path):
    shutil.copytree(folder / "large", tmp_path / "odd")
    text = load_file(folder / "small" / TEXT)["text_embeddings"]
    save_file({"text_embeddings": -text}, tmp_path / "odd" / TEXT)
    data = DataSettings(mix=[MixSettings(str(folder / "small")), MixSettings(str(tmp_path / "odd"))])
    with pytest.raises(ValueError, match="another teacher or prompts"):
        open_data(data).concepts()


def test_temperatures_that_differ_have_to_be_decided(folder, tmp_path):
    shutil.copytree(folder / "large", tmp_path / "warm")
    (tmp_path / "warm" / "settings.yaml").write_text("align:\n  tau: 0.5\n")
    data = DataSettings(mix=[MixSettings(str(folder / "small")), MixSettings(str(tmp_path / "warm"))])
    with pytest.raises(ValueError, match=r"set loss\.tau"):
        _ = open_data(data).tau


def test_held_out_samples_come_once_each_and_never_in_training(folder, tmp_path):
    settings = settings_of(folder, tmp_path, held_out=0.3, evaluate_every=4)
    streams = Streams(settings, open_data(settings.data))
    held = streams.loader(held=True)
    keys = [k for (b,) in islice(held.steps(held.n_samples // 4), 99) for k in b.keys]
    assert len(set(keys)) == len(keys) > 0
    trained = {k for (b,) in streams.loader().steps(60) for k in b.keys}
    assert not trained & set(keys)
    streams.close()


def test_a_local_and_a_remote_dataset_mix(folder, tmp_path):
    settings = settings_of(folder, tmp_path / "run")
    remote = MixSettings(to_memory(folder / "large", "mixed-large"), 3.0)
    mixed = replace(settings, data=replace(settings.data, mix=[settings.data.mix[0], remote]))
    runs = []
    for one in (settings, mixed):
        streams = Streams(one, open_data(one.data))
        runs.append([k for (b,) in streams.loader().steps(12) for k in b.keys])
        streams.close()
    assert runs[0] == runs[1]


def test_a_mix_is_the_same_stream_from_several_processes(folder, tmp_path):
    settings = settings_of(folder, tmp_path, ("small", "other"))  # two pools
    runs = []
    for workers in (0, 2):
        one = replace(settings, data=replace(settings.data, workers=workers))
        streams = Streams(one, open_data(one.data))
        steps = list(streams.loader().steps(8))
        runs.append([[getattr(b, f.name) for f in fields(b)] for (b,) in steps])
        streams.close()
    assert len(runs[0]) == 8
    for alone, shared in zip(*runs, strict=True):
        for a, b in zip(alone, shared, strict=True):
            assert torch.equal(a, b) if isinstance(a, torch.Tensor) else a == b


def test_a_mix_is_given_in_a_file_or_on_the_command_line(tmp_path):
    config = tmp_path / "c.yaml"
    config.write_text("data:\n  mix:\n  - {path: /a, weight: 3}\n  - {path: /b}\n")
    wanted = [MixSettings("/a", 3), MixSettings("/b", 1)]
    assert parse(TrainSettings, ["--config", str(config)]).data.mix == wanted
    line = '[{"path": "/a", "weight": 3}, {"path": "/b"}]'
    assert parse(TrainSettings, ["--data.mix", line]).data.mix == wanted
    with pytest.raises(ValueError, match=r"in place of data\.dataset"):
        DataSettings("/c", mix=wanted)
