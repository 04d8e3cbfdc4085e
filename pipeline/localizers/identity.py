"""The identity of a localizer's weights, for the fingerprint; nothing is loaded but bytes."""

from __future__ import annotations

from pipeline.localizers.settings import LocalizerSettings
from pipeline.networks.weights_files import random_seed, read_bytes, sha256, shipped

#: Weights files of this package, by kind.
SHIPPED = {
    "rpn-lite": "rpn_lite.safetensors",
    "detr": "detr.safetensors",
    "dab-detr": "dab_detr.safetensors",
    "dn-detr": "dn_detr.safetensors",
}


def weights_identity(settings: LocalizerSettings) -> str | None:
    """sha256 of the weights file (or of the truth), `random:SEED`, the name of published weights, None for none."""
    if settings.kind == "grid":
        return None
    if settings.kind == "ground-truth":
        return sha256(read_bytes(settings.truth)) if settings.truth else "shapes"
    if random_seed(settings.checkpoint) is not None:
        return settings.checkpoint
    if settings.checkpoint is not None:
        return sha256(read_bytes(settings.checkpoint))
    if settings.kind in SHIPPED:
        return sha256(shipped(SHIPPED[settings.kind]))
    if settings.kind == "rpn":
        from pipeline.localizers.rpn import published_weights

        return str(published_weights(settings.architecture).url).rsplit("/", 1)[-1]
    raise ValueError(f"localizer.kind: '{settings.kind}' is not known")
