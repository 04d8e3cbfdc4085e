"""The device of a rank."""

from __future__ import annotations

from dataclasses import replace

import pytest
import torch

from training import devices
from training.settings import TrainSettings


def _settings(device: str) -> TrainSettings:
    return replace(TrainSettings(), run=replace(TrainSettings().run, device=device))


def test_without_a_gpu_auto_is_the_cpu_and_cuda_is_refused(monkeypatch):
    monkeypatch.setattr(torch.cuda, "is_available", lambda: False)
    assert devices.device_of(_settings("auto")) == torch.device("cpu")
    with pytest.raises(ValueError, match=r"^run\.device: cuda asked for"):
        devices.device_of(_settings("cuda"))


@pytest.mark.parametrize(
    ("ranks", "gpus", "local", "want"), [(1, 4, 3, 0), (4, 4, 3, 3), (8, 4, 3, 3), (4, 1, 3, 0)]
)
def test_each_rank_of_a_machine_has_its_own_gpu(monkeypatch, ranks, gpus, local, want):
    monkeypatch.setattr(torch.cuda, "is_available", lambda: True)
    monkeypatch.setattr(torch.cuda, "current_device", lambda: 0)
    monkeypatch.setattr(torch.cuda, "device_count", lambda: gpus)
    monkeypatch.setattr(devices, "world_size", lambda: ranks)
    monkeypatch.setattr(torch.distributed, "get_node_local_rank", lambda fallback_rank: local)
    assert devices.device_of(_settings("auto")) == torch.device("cuda", want)
