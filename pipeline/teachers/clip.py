"""Any open_clip model as a teacher."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import torch

import storage
from pipeline.devices import resolve_device
from pipeline.networks.batch_norms import fold_batch_norms
from pipeline.teachers.clip_text import text_encoder
from pipeline.teachers.open_clip_regions import region_encoder
from pipeline.teachers.preprocess import Preprocess
from pipeline.teachers.settings import TeacherSettings
from pipeline.teachers.tower import CropTower, SeesRegions, Tower

#: The short and long side in pixels of RegionCLIP's images (PARITY 39); the short side is the default.
SHORT_SIDE, LONG_OVER_SHORT = 800, 1333 / 800


def create_model(settings: TeacherSettings) -> Any:
    """The open_clip model that `settings.model` and `settings.pretrained` name, on the CPU; random weights of torch's
    generator without `pretrained`. Raises ValueError for weights that cannot be had, in a line that says what to do."""
    import open_clip

    try:
        return open_clip.create_model(settings.model, pretrained=settings.pretrained, weights_only=True)
    except RuntimeError as e:
        if "download" not in str(e):
            raise
        raise ValueError(
            f"pretrained: '{settings.pretrained}' of {settings.model} is not here and cannot be downloaded; "
            "name the file of a checkpoint, or another kind of model (photo and shapes need no download)"
        ) from e


class ClipTeacher(SeesRegions):
    """open_clip's image and text towers. Weights: a published tag, a local file, or random ones from seed 0."""

    batch_texts = 256

    def __init__(self, settings: TeacherSettings):
        import open_clip

        self.device = resolve_device(settings.device)
        with torch.random.fork_rng(devices=[]):
            torch.manual_seed(0)
            model = create_model(settings)
        self.model = model.eval().requires_grad_(False).to(self.device)
        self.tokenizer = open_clip.get_tokenizer(settings.model)
        self._encode_tokens = text_encoder(self.model)
        self.logit_scale = float(model.logit_scale.exp())
        visual = model.visual
        config = open_clip.get_model_preprocess_cfg(model)
        own = visual.image_size if isinstance(visual.image_size, int) else visual.image_size[0]
        mean, std = tuple(config["mean"]), tuple(config["std"])
        if settings.features == "crop":
            side = settings.image_size or own
            self.dim = _width(visual, side)
            self._regions = CropTower(visual, self.dim, Preprocess(side, side, side, mean, std), settings)
        else:
            encoder = region_encoder(fold_batch_norms(visual))
            short = settings.image_size or SHORT_SIDE
            longest = round(short * LONG_OVER_SHORT)
            self.dim = encoder.dim
            preprocess = Preprocess(short, longest, encoder.multiple_of, mean, std)
            self._regions = Tower(encoder, preprocess, settings)

    @torch.inference_mode()
    def encode_text(self, texts: list[str]) -> torch.Tensor:
        out = torch.zeros(len(texts), self.dim)
        # Texts of similar length share a batch, in a fixed order: see `text_encoder`.
        order = sorted(range(len(texts)), key=lambda index: (len(texts[index]), index))
        for start in range(0, len(order), self.batch_texts):
            rows = order[start : start + self.batch_texts]
            tokens = self.tokenizer([texts[row] for row in rows]).to(self.device)
            out[rows] = self._encode_tokens(tokens).float().cpu()
        return out


def load(settings: TeacherSettings) -> ClipTeacher:
    """The open_clip model that `settings.model` and `settings.pretrained` name."""
    return ClipTeacher(settings)


def describe(settings: TeacherSettings) -> dict[str, Any]:
    """The model's name and tag, and the sha256 of a checkpoint file."""
    local = settings.pretrained if settings.pretrained and Path(settings.pretrained).is_file() else None
    weights = {"pretrained": storage.sha256(local)} if local else {}
    return {"model": settings.model, "pretrained": settings.pretrained, "weights_sha256": weights}


@torch.inference_mode()
def _width(visual: torch.nn.Module, size: int) -> int:
    """The width of a tower's output."""
    return visual(torch.zeros(1, 3, size, size, device=next(visual.parameters()).device)).shape[-1]
