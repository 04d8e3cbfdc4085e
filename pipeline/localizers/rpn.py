"""`rpn`: the region proposal network of torchvision's Faster R-CNN R50-FPN."""

from __future__ import annotations

from typing import Any

import torch
from torchvision.models import detection, get_model_weights
from torchvision.models.detection.image_list import ImageList

import storage
from pipeline.localizers.fit import Fit
from pipeline.localizers.network import Levels, NetworkLocalizer
from pipeline.localizers.settings import LocalizerSettings
from pipeline.networks.weights_files import fill, identity, parse, random_seed


class TorchvisionRpn(torch.nn.Module):
    """Backbone and RPN of a torchvision detector (its RoI heads are dropped); the input keeps that network's own
    normalisation (PARITY 9: short side 800, long side at most 1333, padded to a multiple of 32)."""

    def __init__(self, architecture: str, short_side: int):
        super().__init__()
        model = getattr(detection, architecture)(weights=None, weights_backbone=None)
        self.backbone = model.backbone
        self.rpn = model.rpn
        mean, std = model.transform.image_mean, model.transform.image_std
        short_side = short_side or 800
        self.fit = Fit(short_side, round(short_side * 1333 / 800), 32, tuple(mean), tuple(std))

    def propose(self, pixels: torch.Tensor, sizes: list[tuple[int, int]]) -> list[Levels]:
        features = list(self.backbone(pixels).values())
        objectness, deltas = self.rpn.head(features)
        images = ImageList(pixels, [(pixels.shape[2], pixels.shape[3])] * len(pixels))
        anchors = self.rpn.anchor_generator(images, features)[0]
        out: list[Levels] = [[] for _ in sizes]
        start = 0
        for logits, delta in zip(objectness, deltas, strict=True):
            # [B, A, H, W] -> anchors vary fastest at a location, as the generator lays them out.
            logits = logits.permute(0, 2, 3, 1).flatten(1)
            per_anchor = delta.unflatten(1, (-1, 4)).permute(0, 3, 4, 1, 2).flatten(1, 3)
            level_anchors = anchors[start : start + logits.shape[1]]
            start += logits.shape[1]
            for index, levels in enumerate(out):
                boxes = self.rpn.box_coder.decode_single(per_anchor[index], level_anchors)
                levels.append((boxes, logits[index]))
        return out


def published_weights(architecture: str) -> Any:
    """torchvision's own weights entry of an architecture (COCO; its file name holds its hash)."""
    return get_model_weights(architecture).DEFAULT


def load(settings: LocalizerSettings, device: str) -> NetworkLocalizer:
    """torchvision's published weights (downloaded by its hub code), or a checkpoint of the same architecture."""
    seed = random_seed(settings.checkpoint)
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(seed or 0)
        network = TorchvisionRpn(settings.architecture, settings.image_size)
    if seed is None:
        if settings.checkpoint is None:
            tensors = published_weights(settings.architecture).get_state_dict(progress=False, check_hash=True)
            name = settings.architecture
        else:
            name = settings.checkpoint
            tensors, _ = parse(storage.read_bytes(name), name)
        fill(
            network, {key: value for key, value in tensors.items() if not key.startswith("roi_heads.")}, name
        )
    network.eval().to(device)
    return NetworkLocalizer(
        network,
        device,
        pre_nms_top_n=settings.pre_nms_top_n,
        nms_iou=settings.nms_iou,
        max_proposals=settings.max_proposals,
    )


def describe(settings: LocalizerSettings) -> dict[str, Any]:
    """The settings that change the boxes, and the weights: published ones by their file's name, which holds a hash."""
    weights = (
        identity(settings.checkpoint)
        if settings.checkpoint
        else str(published_weights(settings.architecture).url).rsplit("/", 1)[-1]
    )
    return {
        "max_proposals": settings.max_proposals,
        "nms_iou": settings.nms_iou,
        "pre_nms_top_n": settings.pre_nms_top_n,
        "image_size": settings.image_size,
        "architecture": settings.architecture,
        "weights": weights,
    }
