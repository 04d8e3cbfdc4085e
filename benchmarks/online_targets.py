"""What a training step has to compute when nothing is stored: RegionCLIP's way, and with our teacher.

RegionCLIP (CVPR 2022) runs three frozen networks in every pretraining step: a class-agnostic R50-FPN RPN on the batch's
images, a CLIP RN50 teacher on the images and their regions, and CLIP's text encoder on one caption an image. Here they
are open_clip's and torchvision's own modules, without gradients and with channels last, which is faster. Weights are
random: they do not change the work.
"""

from __future__ import annotations

import copy
from dataclasses import dataclass

import open_clip
import torch
import torchvision
from torch import nn
from torchvision.models.detection.image_list import ImageList
from torchvision.ops import roi_align

from pipeline.networks.batch_norms import fold_batch_norms
from pipeline.teachers.open_clip_regions import region_encoder
from training.data.batch import Batch
from training.losses.terms import concept_logits

CAPTION = "a person and a dog on a street"


@dataclass(frozen=True)
class OnlineTargets:
    """q: float32 [R, C], the teacher's distribution over all concepts; captions: float32 [N, D]."""

    q: torch.Tensor
    captions: torch.Tensor


class PlainTeacher(nn.Module):
    """CLIP RN50 on regions as RegionCLIP computes it: RoIAlign of res4 to 14 x 14, then all of layer4 and open_clip's
    whole attention pool (50 queries) on every region."""

    def __init__(self, visual: nn.Module):
        super().__init__()
        self.visual = visual

    def forward(self, images: torch.Tensor, boxes: list[torch.Tensor], sizes: torch.Tensor) -> torch.Tensor:
        """Normalised images [N, 3, H, W], boxes in [0, 1] of the true image, sizes [N, 2] -> [sum R_i, D]."""
        v = self.visual
        x = v.layer3(v.layer2(v.layer1(v.stem(images))))
        rois = [b * s for b, s in zip(boxes, sizes[:, [1, 0, 1, 0]].float(), strict=True)]
        return v.attnpool(v.layer4(roi_align(x, rois, 14, 1 / 16, sampling_ratio=0, aligned=True)))


class Online:
    """RPN, teacher and text encoder, RegionCLIP's way."""

    def __init__(self, concepts: torch.Tensor, tau: float, device: torch.device):
        self.concepts, self.tau = concepts, tau
        clip = open_clip.create_model("RN50").eval().requires_grad_(False).to(device)
        self.encode_text = clip.encode_text
        self.tokens = open_clip.get_tokenizer("RN50")([CAPTION]).to(device)
        self.teacher: nn.Module = PlainTeacher(clip.visual.to(memory_format=torch.channels_last))
        detector = torchvision.models.detection.fasterrcnn_resnet50_fpn(
            weights=None,
            weights_backbone=None,
            rpn_pre_nms_top_n_test=1000,
            rpn_post_nms_top_n_test=300,
            rpn_nms_thresh=0.5,
        )
        detector = detector.eval().requires_grad_(False).to(device, memory_format=torch.channels_last)
        self.backbone, self.rpn = detector.backbone, detector.rpn

    def with_our_teacher(self) -> Online:
        """The same with our teacher: the same function of regions in fewer operations."""
        other = copy.copy(self)
        other.teacher = region_encoder(fold_batch_norms(copy.deepcopy(self.teacher.visual)))
        return other

    @torch.no_grad()
    def __call__(self, images: torch.Tensor, batch: Batch) -> OnlineTargets:
        """Normalised images [N, 3, H, W] of a batch -> what is stored elsewhere.

        The teacher gets the batch's own boxes, as many as are drawn from 300 proposals.
        """
        self.rpn(ImageList(images, [(h, w) for h, w in batch.sizes.tolist()]), self.backbone(images))
        taught = self.teacher(images, batch.boxes_per_image(), batch.sizes)
        q = concept_logits(taught, self.concepts, self.tau).softmax(dim=1)
        return OnlineTargets(q, self.encode_text(self.tokens.expand(len(images), -1)).float())
