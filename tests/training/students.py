"""A region encoder small enough for tests, with the forward pass of `pipeline.teachers.region_encoder.RegionEncoder`."""

from __future__ import annotations

import torch
from torch import nn
from torchvision.ops import roi_align

from training.student import Student


class TinyEncoder(nn.Module):
    """Two convolutions with a BatchNorm, and the mean under each box."""

    stride = 4

    def __init__(self, dim: int = 8, seed: int = 0):
        super().__init__()
        torch.manual_seed(seed)
        self.dim = dim
        self.stem = nn.Conv2d(3, 8, 3, stride=2, padding=1)
        self.bn = nn.BatchNorm2d(8)
        self.body = nn.Conv2d(8, 16, 3, stride=2, padding=1)
        self.head = nn.Linear(16, dim)

    def forward(self, images, boxes_xyxy_norm, sizes):
        features = torch.relu(self.body(torch.relu(self.bn(self.stem(images)))))
        scale = sizes[:, [1, 0, 1, 0]].float()
        boxes = [b * s for b, s in zip(boxes_xyxy_norm, scale, strict=True)]
        return self.head(roi_align(features, boxes, 1, 1 / self.stride, aligned=True)[:, :, 0, 0])


def tiny_student(dim: int = 8, seed: int = 0, **kwargs) -> Student:
    return Student(TinyEncoder(dim, seed), (0.5, 0.5, 0.5), (0.25, 0.25, 0.25), **kwargs)
