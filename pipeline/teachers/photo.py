"""The photo teacher: labels for real photographs with no model hub (extra: photos).

An image is embedded as the mixture of the embeddings of ImageNet's 1000 class names, weighted by a classifier's
probabilities (ConSE: Norouzi et al., ICLR 2014). The classifier is EfficientNet-Lite0 and the text encoder MiniLM,
both from ordinary packages. It knows what ImageNet knows: a person is known by clothes and pastimes alone.

The origin of the space is the mean of the classes: what all of them share ("a photo of ...") says nothing, and with it
left in, unsure regions drift to whatever name is the most generic.
"""

from __future__ import annotations

from typing import Any

import timm
import torch
import torch.nn.functional as F
from timm.models.efficientnet import EfficientNet

import storage
from pipeline.devices import resolve_device
from pipeline.networks.batch_norms import fold_batch_norms
from pipeline.networks.efficientnet_lite import imagenet_file, load_imagenet
from pipeline.networks.region_geometry import average_under
from pipeline.teachers.imagenet import EMBEDDINGS, load_class_embeddings
from pipeline.teachers.preprocess import Preprocess
from pipeline.teachers.region_encoder import RegionEncoder
from pipeline.teachers.sentences import SentenceEncoder, minilm_folder
from pipeline.teachers.settings import TeacherSettings
from pipeline.teachers.tower import CropTower, Hardware, SeesRegions, Tower

IMAGE_SIZE = 480
CROP_SIZE = 224
LOGIT_SCALE = 20.0


def load_classifier() -> EfficientNet:
    """EfficientNet-Lite0 with its packaged ImageNet weights, its batch norms folded away, frozen."""
    model: Any = timm.create_model("tf_efficientnet_lite0", pretrained=False)
    load_imagenet(model)
    fold_batch_norms(model)
    return model.requires_grad_(False)


class ConseRegions(RegionEncoder):
    """A convolutional classifier whose class probabilities under a box mix the embeddings of the classes' names.

    class_embeddings: float32 [1000, D], L2-normalised.
    """

    stride = 32
    multiple_of = 32
    class_embeddings: torch.Tensor

    def __init__(self, net: EfficientNet, class_embeddings: torch.Tensor):
        super().__init__()
        self.net = net
        self.dim = class_embeddings.shape[1]
        self.register_buffer("class_embeddings", class_embeddings)

    def features(self, images: torch.Tensor, sizes: torch.Tensor) -> torch.Tensor:
        return self.net.forward_features(images)

    def pool(self, features: torch.Tensor, rois: torch.Tensor) -> torch.Tensor:
        return self._mix(average_under(features, rois, self.stride))

    def encode(self, images: torch.Tensor) -> torch.Tensor:
        """Whole images [B, 3, H, W] -> [B, D]."""
        return self._mix(self.net.forward_features(images).mean(dim=(2, 3)))

    def _mix(self, pooled: torch.Tensor) -> torch.Tensor:
        probabilities = self.net.classifier(pooled).float().softmax(dim=1)
        return probabilities @ self.class_embeddings


class PhotoTeacher(SeesRegions):
    """See the module. `encode_regions` takes one pass an image at a short side of 480 px."""

    logit_scale = LOGIT_SCALE

    def __init__(self, settings: TeacherSettings):
        self.dim = SentenceEncoder.dim
        self._sentences = SentenceEncoder(resolve_device(settings.device))
        classes = load_class_embeddings()
        self._origin = classes.mean(dim=0)
        encoder = ConseRegions(load_classifier(), F.normalize(classes - self._origin, dim=1))
        half = (0.5, 0.5, 0.5)
        if settings.features == "crop":
            side = settings.image_size or CROP_SIZE
            Hardware(settings).place(encoder)
            self._regions = CropTower(
                encoder.encode, self.dim, Preprocess(side, side, side, half, half), settings
            )
        else:
            side = settings.image_size or IMAGE_SIZE
            self._regions = self.tower = Tower(
                encoder, Preprocess(side, 2 * side, encoder.multiple_of, half, half), settings
            )

    def encode_text(self, texts: list[str]) -> torch.Tensor:
        return F.normalize(self._sentences(texts), dim=1) - self._origin


def load(settings: TeacherSettings) -> PhotoTeacher:
    """The teacher with the weights of its two packages. Raises ModuleNotFoundError that names the extra."""
    return PhotoTeacher(settings)


def describe(settings: TeacherSettings) -> dict[str, Any]:
    """The sha256 of the classifier, of the text encoder and of the classes' embeddings."""
    files = {
        "classifier": imagenet_file(),
        "text": str(minilm_folder() / "model.safetensors"),
        "classes": str(EMBEDDINGS),
    }
    return {"weights_sha256": {name: storage.sha256(file) for name, file in files.items()}}
