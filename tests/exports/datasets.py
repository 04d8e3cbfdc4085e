"""One small dataset for the tests of exports: 14 pictures, one of them turned by EXIF, one without a pair."""

from __future__ import annotations

from pathlib import Path

from pipeline.align import AlignSettings
from pipeline.build import build
from pipeline.dataset import Dataset
from pipeline.run_local import LocalRunner
from tests import pictures
from tests.pipeline import worlds


def build_one(root: Path) -> Dataset:
    source = worlds.coco_folder(root / "source", n=14)
    (Path(source.images or "") / "004.jpg").write_bytes(pictures.rotated_by_exif())
    (Path(source.images or "") / "005.jpg").write_bytes(b"no picture")
    align = AlignSettings(policy="caption", tau=0.1, threshold=0.2, top_k=3)
    settings = worlds.settings(root / "dataset", source, align=align, reject_budget=0.5)
    build(settings, LocalRunner())
    return Dataset.open(settings.out)
