"""Small datasets for tests: red, green and blue pictures with captions, labelled by a teacher that sees colour."""

from __future__ import annotations

import hashlib
import io
import json
import tarfile
from pathlib import Path
from typing import Any

from PIL import Image

from concept_pool.settings import PoolSettings
from pipeline.localizers.settings import LocalizerSettings
from pipeline.settings import BuildSettings
from pipeline.sources.settings import SourceSettings
from pipeline.teachers.settings import TeacherSettings
from tests import pictures

WORDS = ["red", "green", "blue"]
THINGS = ["ball", "boat", "kite"]


def coco_folder(root: Path, n: int = 20) -> SourceSettings:
    """`n` pictures with two captions each, as a COCO folder."""
    images = root / "images"
    images.mkdir(parents=True)
    document: dict[str, Any] = {"images": [], "annotations": []}
    for i in range(n):
        color, thing = WORDS[i % 3], THINGS[i % 3]
        picture = pictures.photo(40, 30, seed=i)
        picture.paste(Image.new("RGB", (20, 20), color), (i % 10, 5))
        (images / f"{i:03d}.jpg").write_bytes(pictures.encode(picture))
        document["images"].append({"id": i, "file_name": f"{i:03d}.jpg"})
        for caption in (f"a {color} {thing} on a table", f"the {thing} is {color}"):
            document["annotations"].append({"image_id": i, "caption": caption})
    (root / "captions.json").write_text(json.dumps(document))
    return SourceSettings(kind="coco", images=str(images), captions=str(root / "captions.json"))


def tar_file(path: Path, samples: list[tuple[str, str, bytes, str]]) -> SourceSettings:
    """A tar of (key, extension, image bytes, caption)."""
    with tarfile.open(path, "w") as f:
        for key, extension, image, caption in samples:
            for name, data in ((extension, image), ("txt", caption.encode())):
                info = tarfile.TarInfo(f"{key}.{name}")
                info.size = len(data)
                f.addfile(info, io.BytesIO(data))
    return SourceSettings(kind="webdataset", urls=[str(path)])


def settings(out: Path | str, source: SourceSettings, **changes: Any) -> BuildSettings:
    """A quick build: a grid of 9 boxes, the shapes teacher (a fake stands in for it), parts of 6."""
    values: dict[str, Any] = {
        "out": str(out),
        "runtime": "local",
        "source": source,
        "samples_per_shard": 6,
        "localizer": LocalizerSettings(kind="grid", max_proposals=9),
        "teacher": TeacherSettings(kind="shapes", batch_images=4),
        "pool": PoolSettings(min_count=2),
        "workers": 2,
    }
    return BuildSettings(**{**values, **changes})


def hashes(out: Path, pattern: str = "shards/*.tar") -> dict[str, str]:
    """Name -> sha256 of the files that match."""
    return {p.name: hashlib.sha256(p.read_bytes()).hexdigest() for p in sorted(Path(out).glob(pattern))}


def write_settings(out: Path | str, text: str) -> None:
    """Makes this the `settings.yaml` of a finished dataset, whose summary knows its sha256."""
    Path(out, "settings.yaml").write_text(text)
    summary = json.loads(Path(out, "summary.json").read_text())
    summary["sha256"]["settings.yaml"] = hashlib.sha256(text.encode()).hexdigest()
    Path(out, "summary.json").write_text(json.dumps(summary))
