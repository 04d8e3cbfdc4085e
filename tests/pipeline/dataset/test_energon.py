"""Megatron-Energon prepares our shards without a question and reads every sample of them."""

from __future__ import annotations

import numpy as np
import pytest

from pipeline.dataset import Dataset
from tests.training.datasets import make_dataset

energon = pytest.importorskip(
    "megatron.energon",
    reason="pip install megatron-energon; no dependency of ours, since it brings s3fs and more",
)


def test_energon_prepares_and_reads_the_shards(tmp_path):
    from megatron.energon.cli.main import main

    make_dataset(tmp_path / "d", shards=3, per_shard=4)
    (tmp_path / "for_energon").mkdir()
    # its index files go beside the tars, which are hard links: the dataset's own folder stays as it is
    (tmp_path / "for_energon/shards").mkdir()
    for shard in (tmp_path / "d/shards").iterdir():
        (tmp_path / "for_energon/shards" / shard.name).hardlink_to(shard)
    asked = [
        "--non-interactive",
        "--split-ratio",
        "1,0,0",
        "--sample-type",
        "CrudeWebdataset",
        "--num-workers",
        "1",
    ]
    main(["prepare", str(tmp_path / "for_energon"), *asked, "--no-progress"], standalone_mode=False)

    class Encoder(energon.DefaultTaskEncoder):
        cookers = (energon.Cooker(energon.stateless(lambda sample: sample)),)

    dataset = energon.get_train_dataset(
        str(tmp_path / "for_energon"),
        batch_size=None,
        shuffle_buffer_size=None,
        max_samples_per_sequence=None,
        worker_config=energon.WorkerConfig(rank=0, world_size=1, num_workers=0),
        task_encoder=Encoder(),
        repeat=False,
    )
    found = {sample["json"]["key"]: sample for sample in energon.get_loader(dataset)}
    ours = list(Dataset.open(str(tmp_path / "d")).samples())
    assert set(found) == {s.key for s in ours}
    for sample in ours:
        theirs = found[sample.key]
        assert theirs["json"] == sample.meta
        channels, *_ = theirs[sample.extension].shape
        assert channels == 3
        assert set(theirs["npz"]) == set(sample.arrays)
        for name, array in sample.arrays.items():
            np.testing.assert_array_equal(theirs["npz"][name], array)
