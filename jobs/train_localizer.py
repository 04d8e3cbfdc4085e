"""Train a class-agnostic localizer on COCO-style boxes, on synthetic scenes, or on both.

python jobs/train_localizer.py --config localizer_rpn_lite --data.images IMAGES --data.instances JSON
python jobs/train_localizer.py --kind dn-detr --data.scenes 3000 --out runs/dn_detr
The result is OUT/weights.safetensors, for --localizer.checkpoint. Exit codes: 0 trained; 1 a loss that is no number; 2 a
setting is wrong.
"""

from __future__ import annotations

import sys

import storage
from jobs.arguments import parse
from jobs.failures import failure
from training.localizers.settings import LocalizerTrainingSettings, check_sources


def main(argv: list[str] | None = None) -> int:
    settings = parse(
        LocalizerTrainingSettings, argv, description=__doc__ or "", validate=lambda s: check_sources(s.data)
    )
    try:
        train(settings)
    except Exception as e:  # noqa: BLE001 - `failure` raises what it does not know
        return failure("train_localizer.py", e)
    out = storage.absolute(settings.out)
    print(f"{out}/weights.safetensors: use it with --localizer.kind {settings.kind} --localizer.checkpoint")
    return 0


def train(settings: LocalizerTrainingSettings) -> None:
    """Trains in this process, with a progress bar, or on `workers` workers of a Ray cluster."""
    if settings.workers:
        from jobs.on_ray.training import train_localizer

        train_localizer(settings)
        return
    from pipeline.devices import resolve_device
    from training.localizers.train import Worker, train_watched

    worker = Worker(device=resolve_device(settings.device, "device"))
    train_watched(settings, worker, progress=sys.stderr.isatty())


if __name__ == "__main__":
    raise SystemExit(main())
