"""The student: a region encoder that trains, with what of it stays frozen, and its way back into open_clip."""

from __future__ import annotations

from collections.abc import Iterable
from pathlib import Path
from typing import TYPE_CHECKING

import torch
from safetensors.torch import save_file
from torch import nn
from torch.nn.modules.batchnorm import _BatchNorm

from pipeline.networks.batch_norms import fold_frozen_norms
from pipeline.networks.weights_files import load_into
from pipeline.teachers.settings import TeacherSettings
from training.data.batch import Batch, normalised
from training.settings import StudentSettings

if TYPE_CHECKING:
    from pipeline.teachers.region_encoder import RegionEncoder


class Student(nn.Module):
    """Embeds the regions of a batch and, in the same pass, its whole images.

    encoder: normalised images [N, 3, H, W], boxes in [0, 1] of the true image, sizes [N, 2] -> [sum R_i, D].
    """

    mean: torch.Tensor
    std: torch.Tensor

    def __init__(
        self,
        encoder: RegionEncoder,
        mean: Iterable[float],
        std: Iterable[float],
        freeze: Iterable[str] = (),
        freeze_batchnorm: bool = True,
        global_box: str = "image",
        embed_images: bool = True,
    ):
        super().__init__()
        self.encoder = encoder
        self.register_buffer("mean", torch.tensor(list(mean)), persistent=False)
        self.register_buffer("std", torch.tensor(list(std)), persistent=False)
        self._frozen_batchnorms: list[nn.Module] = []
        self._global_box = global_box
        self.embed_images = embed_images
        encoder.requires_grad_(True)
        self._freeze(tuple(freeze), freeze_batchnorm)
        self._trained = [p for p in encoder.parameters() if p.requires_grad]

    def _freeze(self, prefixes: tuple[str, ...], freeze_batchnorm: bool) -> None:
        names = [name.removeprefix("visual.") for name, _ in self.encoder.named_parameters()]
        unused = [p for p in prefixes if not any(_below(n, p) for n in names)]
        if unused:
            raise ValueError(
                f"student.freeze: no parameter is named {', '.join(unused)}; there are {names[:5]}..."
            )
        for name, parameter in self.encoder.named_parameters():
            if any(_below(name.removeprefix("visual."), p) for p in prefixes):
                parameter.requires_grad_(False)
        for name, module in self.encoder.named_modules():
            frozen = any(_below(name.removeprefix("visual."), p) for p in prefixes)
            if isinstance(module, _BatchNorm) and (freeze_batchnorm or frozen):
                module.requires_grad_(False)
                self._frozen_batchnorms.append(module)
        fold_frozen_norms(self.encoder, self._frozen_batchnorms)

    def hold(self) -> None:
        """Freezes everything, until `release`."""
        self.requires_grad_(False)

    def release(self) -> None:
        """Makes trainable again what the settings do not freeze."""
        for parameter in self._trained:
            parameter.requires_grad_(True)

    def train(self, mode: bool = True) -> Student:
        super().train(mode)
        for module in self._frozen_batchnorms:
            module.eval()
        return self

    def forward(self, batch: Batch) -> tuple[torch.Tensor, torch.Tensor]:
        """Region embeddings [R, D] in the batch's order and whole-image embeddings [N, D] (parity 13),
        un-normalised.

        Whole images go through as one more box each; without `embed_images` they are left out: [0, D].
        """
        images = normalised(batch.images(), batch.sizes, self.mean, self.std)
        images = images.contiguous(memory_format=memory_format(images.device))
        boxes = batch.boxes_per_image()
        if not self.embed_images:
            regions = self._embed_some(images, boxes, batch.sizes)
            return regions, regions[:0]
        whole = self._whole_boxes(batch)
        with_whole = [torch.cat([b, w[None]]) for b, w in zip(boxes, whole, strict=True)]
        embeddings = self.encoder(images, with_whole, batch.sizes)
        is_whole = torch.zeros(len(embeddings), dtype=torch.bool, device=embeddings.device)
        is_whole[torch.tensor([len(b) for b in with_whole]).cumsum(0) - 1] = True
        return embeddings[~is_whole], embeddings[is_whole]

    def _embed_some(
        self, images: torch.Tensor, boxes: list[torch.Tensor], sizes: torch.Tensor
    ) -> torch.Tensor:
        """The encoder on boxes that may be none at all: then one box passes, for a gradient of 0 to every parameter.

        DistributedDataParallel waits for the gradient of each parameter on each rank.
        """
        if sum(len(b) for b in boxes):
            return self.encoder(images, boxes, sizes)
        whole = torch.tensor([[0.0, 0.0, 1.0, 1.0]], device=images.device)
        unseen = self.encoder(images, [whole, *boxes[1:]], sizes)
        return unseen[:0] + 0.0 * unseen.sum()

    def _whole_boxes(self, batch: Batch) -> torch.Tensor:
        """One box an image, [N, 4]: its true extent, or with RegionCLIP the padded canvas (parity 14)."""
        far = torch.ones(len(batch.sizes), 2, device=batch.sizes.device)
        if self._global_box == "canvas":
            height, width = batch.canvas
            far = torch.tensor([width, height], device=far.device) / batch.sizes.flip(1)
        return torch.cat([torch.zeros_like(far), far], dim=1)


def memory_format(device: torch.device) -> torch.memory_format:
    """The memory layout in which a student trains fastest: channels last on a GPU. On a CPU not: without AVX-512, the
    gradient of a 3 x 3 convolution's weights takes two to three times as long that way."""
    return torch.channels_last if device.type == "cuda" else torch.contiguous_format


def _below(name: str, prefix: str) -> bool:
    return name == prefix or name.startswith(prefix + ".")


def build(settings: StudentSettings) -> Student:
    """The student that the settings describe: the teacher's own weights (parity 33), or a checkpoint's."""
    encoder, mean, std = load_encoder(settings.encoder)
    if settings.checkpoint:
        load_weights(encoder, settings.checkpoint)
    return Student(
        encoder,
        mean,
        std,
        settings.freeze,
        settings.freeze_batchnorm,
        settings.global_box,
    )


def load_encoder(settings: TeacherSettings) -> tuple[RegionEncoder, tuple[float, ...], tuple[float, ...]]:
    """A region encoder in float32 on the CPU, and the mean and std of the pixels it expects.

    The text tower that comes with it is dropped here: training has no use for it.
    """
    if settings.kind == "open_clip":
        import open_clip

        from pipeline.teachers.clip import create_model
        from pipeline.teachers.open_clip_regions import region_encoder

        torch.manual_seed(
            0
        )  # random weights, if no pretrained ones are named, are the teacher's random weights
        model = create_model(settings)
        preprocessing = open_clip.get_model_preprocess_cfg(model)
        return region_encoder(model.visual).float(), preprocessing["mean"], preprocessing["std"]
    if settings.features == "crop":
        raise ValueError(
            "student.encoder.features: crop has no region encoder that could be trained; roi has"
        )
    from pipeline import teachers

    tower = getattr(teachers.load(settings), "tower", None)
    if tower is None:
        raise ValueError(
            f"student.encoder.kind: '{settings.kind}' has no region encoder that could be trained"
        )
    return tower.encoder.float().cpu(), tower.preprocess.mean, tower.preprocess.std


def save_weights(encoder: RegionEncoder, path: str | Path) -> None:
    """Writes the encoder's weights as safetensors."""
    save_file({k: v.detach().cpu().contiguous().clone() for k, v in encoder.state_dict().items()}, path)


def load_weights(encoder: RegionEncoder, path: str | Path) -> None:
    """Reads what `save_weights` wrote. Raises ValueError, naming the file, where names or shapes do not fit."""
    load_into(encoder, str(path))


def open_clip_weights(encoder: RegionEncoder, settings: TeacherSettings) -> dict[str, torch.Tensor]:
    """A whole CLIP, as `open_clip.create_model(MODEL, pretrained=FILE)` loads it: the trained image tower, and the frozen
    text tower of the model that the student started as. Raises ValueError for other kinds of encoder."""
    if settings.kind != "open_clip":
        raise ValueError(f"student.encoder.kind: '{settings.kind}' is no open_clip model")
    from pipeline.teachers.clip import create_model

    torch.manual_seed(0)
    model = create_model(settings)
    visual: nn.Module = encoder.visual  # type: ignore[assignment]
    model.visual.load_state_dict(visual.state_dict())
    return model.state_dict()
