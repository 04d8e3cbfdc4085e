"""Settings of the teacher room."""

from __future__ import annotations

from dataclasses import dataclass


@dataclass(frozen=True)
class TeacherSettings:
    """The model that matches regions to concepts.

    Attributes:
        kind: photo (EfficientNet-Lite0 + MiniLM, offline) | shapes (embedded, for synthetic scenes) | open_clip
        model: open_clip model name, e.g. RN50 or ViT-B-16 (kind: open_clip)
        pretrained: open_clip pretrained tag or checkpoint path; none: random weights from seed 0 (kind: open_clip)
        device: torch device of localizer and teacher: cpu | cuda | cuda:0 | auto
        features: roi (one encoder pass an image) | crop (one pass a region; slow, the reference)
        image_size: short side in pixels of the image the teacher sees; 0: the teacher's own default
        precision: fp32 | bf16 | fp16
        batch_images: images in one encoder pass
        channels_last: lay tensors out channels last (faster for convolutions on CPUs and GPUs)
        compile: run the encoder through torch.compile (a minute at the start)
        resize_threads: threads that resize the next images while the encoder runs; 0: none
    """

    kind: str = "shapes"
    model: str = "RN50"
    pretrained: str | None = None
    device: str = "cpu"
    features: str = "roi"
    image_size: int = 0
    precision: str = "fp32"
    batch_images: int = 8
    channels_last: bool = True
    compile: bool = False
    resize_threads: int = 1
