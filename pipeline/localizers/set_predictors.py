"""`detr`, `dab-detr` and `dn-detr` as localizers: their networks built, their weights loaded, their identity."""

from __future__ import annotations

import dataclasses
import json
from typing import Any

import torch

import storage
from pipeline.localizers.dab_detr import DabDetr
from pipeline.localizers.detr import Detr
from pipeline.localizers.network import NetworkLocalizer
from pipeline.localizers.set_network import SetNetwork
from pipeline.localizers.set_shape import SetShape
from pipeline.localizers.settings import LocalizerSettings
from pipeline.networks.batch_norms import fold_batch_norms
from pipeline.networks.weights_files import fill, identity, parse, random_seed, shipped


def build(kind: str, shape: SetShape) -> SetNetwork:
    """A network with random weights from the global RNG. Raises ValueError for a kind that is no set predictor."""
    if kind == "detr":
        return Detr(shape)
    if kind in ("dab-detr", "dn-detr"):
        return DabDetr(shape, label_queries=kind == "dn-detr")
    raise ValueError(f"'{kind}' is no set predictor")


def load(settings: LocalizerSettings, device: str) -> NetworkLocalizer:
    """A trained set predictor: the shipped one (synthetic scenes), or `settings.checkpoint`'s.

    Raises ValueError for a file of another localizer.
    """
    seed = random_seed(settings.checkpoint)
    if seed is not None:
        with torch.random.fork_rng(devices=[]):
            torch.manual_seed(seed)
            network = build(settings.kind, SetShape())
    else:
        name = settings.checkpoint or shipped("pipeline.localizers", settings.kind)
        tensors, metadata = parse(storage.read_bytes(name), name)
        if metadata.get("localizer") != settings.kind:
            raise ValueError(f"{name}: weights of '{metadata.get('localizer')}', not of '{settings.kind}'")
        with torch.random.fork_rng(devices=[]):
            network = build(settings.kind, SetShape(**json.loads(metadata["shape"])))
        fill(network, tensors, name)
    if settings.image_size:
        network.fit = dataclasses.replace(
            network.fit, short_side=settings.image_size, long_side=2 * settings.image_size
        )
    network.eval()
    fold_batch_norms(network.backbone)
    network.to(device)
    return NetworkLocalizer(
        network,
        device,
        pre_nms_top_n=settings.max_proposals,
        nms_iou=None,
        max_proposals=settings.max_proposals,
    )


def describe(settings: LocalizerSettings) -> dict[str, Any]:
    """The settings that change the boxes, and the weights."""
    return {
        "max_proposals": settings.max_proposals,
        "image_size": settings.image_size,
        "weights": identity(settings.checkpoint or shipped("pipeline.localizers", settings.kind)),
    }
