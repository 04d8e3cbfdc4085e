"""Average recall, speed and size of every localizer: one table, and one line of JSON.

python -m benchmarks.localizers            60 held-out photographs and 200 held-out scenes, all timing images
python -m benchmarks.localizers --quick    fewer scenes and timing images, under 50 s

Recall is COCO's AR (IoU 0.5:0.95, one category, pycocotools) of the best 10, 100 and 300 boxes. The photographs are
the 60 that training held out (`training.localizers.examples.held_out`), from --images and --instances, else from
../shared/data/coco_photos beside the checkout (or in REGIONPAIRS_SHARED). Times are of one thread, whole images in
and boxes out, localizers taking turns on each image, medians; `ms_ratio` is relative to rpn-lite. `rpn` has no weights
offline: with --rpn it is timed with random ones.
"""

from __future__ import annotations

import argparse
import json
import os
import statistics
import time
from pathlib import Path
from typing import Any

import torch

import storage
from pipeline import localizers
from pipeline.localizers.settings import LocalizerSettings
from pipeline.networks.weights_files import parse, shipped
from training.localizers.average_recall import average_recall, propose_all
from training.localizers.examples import BoxSource, CocoBoxes, InMemory, SceneBoxes
from training.localizers.settings import BoxDataSettings
from world.scenes import KINDS

#: Kinds with weights in the package.
SHIPPED = ("rpn-lite", "detr", "dab-detr", "dn-detr")
ROOT = Path(__file__).resolve().parent.parent
HELD_OUT_PHOTOS = 60


def photographs(images: str | None, instances: str | None) -> InMemory | None:
    """The held-out photographs, None where there are none on this machine."""
    if images is None or instances is None:
        shared = Path(os.environ.get("REGIONPAIRS_SHARED", ROOT.parent / "shared")) / "data" / "coco_photos"
        if not shared.is_dir():
            return None
        images, instances = str(shared / "images"), str(shared / "instances.json")
    return InMemory(CocoBoxes(images, instances, HELD_OUT_PHOTOS, "held-out"))


def scenes(count: int) -> InMemory:
    """Held-out synthetic scenes: another seed than training's, and every kind."""
    data = BoxDataSettings()
    return InMemory(SceneBoxes(data.scenes_seed + 1, count, data.scenes_size, KINDS))


def size(kind: str) -> dict[str, Any]:
    """Parameters (count) and file size (MB) of shipped weights."""
    if kind not in SHIPPED:
        return {}
    data = storage.read_bytes(shipped("pipeline.localizers", kind))
    tensors, _ = parse(data, kind)
    return {"parameters": sum(t.numel() for t in tensors.values()), "file_mb": round(len(data) / 1e6, 2)}


def milliseconds(loaded: dict[str, localizers.Localizer], source: BoxSource, count: int) -> dict[str, float]:
    """Median CPU time (one thread) an image, localizers taking turns on each of `count` images."""
    times: dict[str, list[float]] = {name: [] for name in loaded}
    for index in range(-2, count):  # two rounds of warm-up
        image = source[index % len(source)].image
        for name, localizer in loaded.items():
            begun = time.process_time()
            localizer([image])
            if index >= 0:
                times[name].append(time.process_time() - begun)
    return {name: 1000 * statistics.median(values) for name, values in times.items()}


def recall(localizer: localizers.Localizer, source: BoxSource) -> dict[str, float]:
    found = average_recall([source[i] for i in range(len(source))], propose_all(localizer, source))
    return {name: round(value, 4) for name, value in found.items() if name.startswith("ar")}


def table(rows: dict[str, dict[str, Any]]) -> str:
    """The rows as a Markdown table, for docs/localizers.md."""
    columns = ["ar10", "ar100", "ar300", "scenes_ar10", "scenes_ar100", "scenes_ar300"]
    columns += ["parameters", "file_mb", "ms", "ms_ratio", "scenes_ms_ratio"]
    lines = ["| localizer | " + " | ".join(columns) + " |", "|---" * (len(columns) + 1) + "|"]
    for name, row in rows.items():
        lines.append(f"| {name} | " + " | ".join(str(row.get(c, "")) for c in columns) + " |")
    return "\n".join(lines)


def main() -> None:
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--quick", action="store_true", help="fewer scenes and timing images, under 50 s")
    parser.add_argument("--images", help="folder of photographs")
    parser.add_argument("--instances", help="COCO instances JSON of those photographs")
    parser.add_argument(
        "--nms_iou", type=float, default=LocalizerSettings.nms_iou, help="NMS threshold of rpn-lite"
    )
    parser.add_argument(
        "--image_size", type=int, default=0, help="short side for rpn-lite in pixels; 0: its own"
    )
    parser.add_argument(
        "--rpn",
        action="store_true",
        help="time torchvision's RPN too, with random weights (seconds an image)",
    )
    options = parser.parse_args()
    torch.set_num_threads(1)
    n_scenes, n_timed = (60, 8) if options.quick else (200, 40)
    photos, drawn = photographs(options.images, options.instances), scenes(n_scenes)
    loaded = {
        kind: localizers.load(
            LocalizerSettings(
                kind=kind,
                max_proposals=300,
                nms_iou=options.nms_iou,
                image_size=options.image_size if kind == "rpn-lite" else 0,
            )
        )
        for kind in ("grid", *SHIPPED)
    }
    rows: dict[str, dict[str, Any]] = {}
    for kind, localizer in loaded.items():
        rows[kind] = recall(localizer, photos) if photos is not None else {}
        rows[kind] |= {f"scenes_{name}": value for name, value in recall(localizer, drawn).items()}
        rows[kind] |= size(kind)
    if options.rpn:
        loaded["rpn"] = localizers.load(
            LocalizerSettings(kind="rpn", checkpoint="random:0", max_proposals=300)
        )
        rows["rpn"] = {"note": "random weights, timing alone"}
        n_timed = min(n_timed, 5)
    for prefix, source in (("", photos), ("scenes_", drawn)):
        if source is None or (options.rpn and prefix):
            continue
        wall = milliseconds(loaded, source, n_timed)
        for kind, row in rows.items():
            row[f"{prefix}ms"] = round(wall[kind], 3)
            row[f"{prefix}ms_ratio"] = round(wall[kind] / wall["rpn-lite"], 4)
    if photos is None:  # the keys that a reader expects, from what there is
        for row in rows.values():
            row |= {
                "measured_on": "scenes",
                **{k: row.get(f"scenes_{k}") for k in ("ar10", "ar100", "ar300", "ms_ratio")},
            }
    print(table(rows))
    print(json.dumps(rows))


if __name__ == "__main__":
    main()
