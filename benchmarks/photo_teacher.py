"""How good the photo teacher is on real photographs: COCO's own boxes by 80 names, and the pairs it would keep.

1. Ground-truth boxes: top-1, top-5 and mean class accuracy over COCO's 80 names, for `roi` at several short sides
   and for `crop`; all boxes, and those whose shorter side is at least 64 pixels.
2. Pairs: captioned photos, a pool of their captions' concepts, 100 proposals an image. A kept pair is judged if its
   box overlaps an object by IoU >= 0.5; it is right if its label names the object of the largest overlap
   (`evaluation/coco_names.json`: synonyms and kinds). Background has no truth in COCO: those pairs are counted alone.

What was chosen with these photos in view is chosen again on one half of them in `photo_held_out.py`.

Needs ../shared/data (REGIONPAIRS_SHARED) and the extra `photos`. CPU seconds an image are of this process, one thread.
"""

from __future__ import annotations

import argparse
import dataclasses
import json
import time
from pathlib import Path
from typing import Any

import numpy as np
import torch
import torch.nn.functional as F
from torchvision.ops import box_iou

from benchmarks.shared_data import find_shared_data
from concept_pool.count import count_block
from concept_pool.embed import embed_pool
from concept_pool.parse import Parser
from concept_pool.pool import ConceptPool
from concept_pool.prompts import load_templates
from concept_pool.settings import PoolSettings
from evaluation.coco_names import ACCEPTED
from evaluation.settings import TruthSettings
from evaluation.truth import coco_truth
from pipeline import localizers, teachers
from pipeline.align import Aligner, AlignSettings, Image
from pipeline.localizers.settings import LocalizerSettings
from pipeline.teachers import Teacher
from pipeline.teachers.settings import TeacherSettings

#: As of `--config photos`.
PRESET = AlignSettings(policy="blend", tau=0.1, blend_bonus=3.0, threshold=0.7)
QUICK_TEMPLATES = ["a photo of a {}.", "a photo of the {}.", "{}.", "there is a {} in the scene."]


@dataclasses.dataclass
class Photo:
    """An image with its true boxes [n, 4] in [0, 1], their classes (index into ACCEPTED) and its captions."""

    key: str
    pixels: np.ndarray
    boxes: np.ndarray
    labels: np.ndarray
    captions: list[str]


def read_photos(root: Path, limit: int, captioned: bool) -> list[Photo]:
    """COCO photos that have boxes (at most `limit`; -1: all); crowd regions are left out. Class names are ACCEPTED's."""
    files = {name: str(root / f"{name}.json") for name in ("instances", "captions")}
    known = coco_truth(TruthSettings("coco", images=str(root / "images"), **files))
    place = np.array([list(ACCEPTED).index(name) for name in known.names])
    chosen = [image for image in known.images if image.captions or not captioned]
    return [
        Photo(image.key, image.load(), image.boxes_xyxy_norm, place[image.labels], image.captions)
        for image in (chosen if limit < 0 else chosen[:limit])
    ]


def encode(
    teacher: Teacher, photos: list[Photo], boxes: list[np.ndarray]
) -> tuple[list[torch.Tensor], float]:
    """Region embeddings, and the CPU milliseconds an image took."""
    out: list[torch.Tensor] = []
    start = time.process_time()
    for first in range(0, len(photos), 8):
        part = photos[first : first + 8]
        out += teacher.encode_regions([p.pixels for p in part], boxes[first : first + 8])
    return out, 1000 * (time.process_time() - start) / len(photos)


def accuracy(logits: torch.Tensor, labels: torch.Tensor) -> dict[str, float]:
    """Top-1, top-5 and the mean over classes of top-1, in percent."""
    rank = (logits > logits.gather(1, labels[:, None])).sum(dim=1)
    classes = [float((rank[labels == c] == 0).float().mean()) for c in labels.unique()]
    values = {
        "top1": (rank == 0).float().mean(),
        "top5": (rank < 5).float().mean(),
        "mean_class": np.mean(classes),
    }
    return {key: round(100 * float(value), 1) for key, value in values.items()}


def ground_truth(
    photos: list[Photo], templates: list[str], variants: list[tuple[str, int]]
) -> list[dict[str, Any]]:
    """Part 1: a row a variant (features, short side)."""
    labels = torch.from_numpy(np.concatenate([p.labels for p in photos]))
    sides = torch.from_numpy(
        np.concatenate(
            [((p.boxes[:, 2:] - p.boxes[:, :2]) * p.pixels.shape[1::-1]).min(axis=1) for p in photos]
        )
    )
    rows, concepts = [], None
    for features, size in variants:
        teacher = teachers.load(TeacherSettings(kind="photo", features=features, image_size=size))
        if concepts is None:
            concepts = torch.from_numpy(embed_pool(list(ACCEPTED), templates, teacher.encode_text))
        regions, ms = encode(teacher, photos, [p.boxes for p in photos])
        logits = F.normalize(torch.cat(regions), dim=1) @ F.normalize(concepts, dim=1).T
        large = sides >= 64
        row = {"features": features, "short_side": size, "cpu_ms_an_image": round(ms), "boxes": len(labels)}
        row |= accuracy(logits, labels) | {"large_boxes": int(large.sum())}
        row |= {f"large_{key}": value for key, value in accuracy(logits[large], labels[large]).items()}
        rows.append(row)
        print(json.dumps(row), flush=True)
    return rows


def pool_of(photos: list[Photo], min_count: int) -> tuple[ConceptPool, list[list[int]]]:
    """The concepts of the photos' captions, and the ids that each photo's captions name."""
    settings = PoolSettings(min_count=min_count)
    counts, mentions = count_block([p.captions for p in photos], Parser(settings))
    pool = ConceptPool.from_counts(counts, settings)
    return pool, [pool.ids_of(names) for names in mentions]


def judge(photo: Photo, boxes: np.ndarray, labels: list[str], accepted: list[set[str]]) -> np.ndarray:
    """int [R]: 1 the label names the object under the box, 0 it does not, -1 no object there (IoU < 0.5)."""
    overlap = box_iou(torch.from_numpy(boxes), torch.from_numpy(photo.boxes)).numpy()
    verdict = [int(labels[r] in accepted[photo.labels[overlap[r].argmax()]]) for r in range(len(boxes))]
    return np.where(overlap.max(axis=1) >= 0.5, verdict, -1)


def row_of(
    settings: AlignSettings, kept: np.ndarray, verdicts: np.ndarray, threshold: float
) -> dict[str, Any]:
    judged = kept & (verdicts >= 0)
    row = {"policy": settings.policy, "tau": settings.tau, "bonus": settings.blend_bonus}
    row |= {"pair_nms_iou": settings.pair_nms_iou, "threshold": round(threshold, 3)}
    row |= {"kept": round(float(kept.mean()), 3), "judged": int(judged.sum())}
    return row | {"precision": round(100 * float(verdicts[judged].mean()), 1) if judged.any() else None}


@dataclasses.dataclass
class Encoded:
    """Captioned photos with the embeddings of their proposals and of their captions' concepts."""

    photos: list[Photo]
    boxes: list[np.ndarray]
    regions: list[torch.Tensor]
    mentioned: list[list[int]]
    names: list[str]
    concepts: torch.Tensor


def encode_proposals(photos: list[Photo], templates: list[str], min_count: int) -> Encoded:
    pool, mentioned = pool_of(photos, min_count)
    localizer = localizers.load(LocalizerSettings(kind="rpn-lite", max_proposals=100))
    boxes = [localizer([p.pixels])[0].boxes_xyxy_norm for p in photos]
    teacher = teachers.load(TeacherSettings(kind="photo"))
    regions, _ = encode(teacher, photos, boxes)
    concepts = torch.from_numpy(embed_pool(pool.names, templates, teacher.encode_text))
    return Encoded(photos, boxes, regions, mentioned, pool.names, concepts)


def label(data: Encoded, settings: AlignSettings) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """Of every region: its label's probability, whether it is kept, and `judge`'s verdict."""
    accepted = [set(names) for names in ACCEPTED.values()]
    found = Aligner(data.concepts, settings)(
        data.regions, [Image(m, b) for m, b in zip(data.mentioned, data.boxes, strict=True)]
    )
    labels = [[data.names[i] for i in a.topk_ids[:, 0]] for a in found]
    work = zip(data.photos, data.boxes, labels, strict=True)
    verdicts = np.concatenate([judge(p, b, names, accepted) for p, b, names in work])
    return (
        np.concatenate([a.topk_probs[:, 0] for a in found]),
        np.concatenate([a.kept for a in found]),
        verdicts,
    )


def pairs(data: Encoded, grid: list[AlignSettings]) -> list[dict[str, Any]]:
    """Part 2. For every policy: precision at the thresholds that keep 10, 25, 40 and 100 % of all regions (so that
    policies are compared at equal yield), and at its own threshold."""
    rows = []
    for settings in grid:
        probs, kept, verdicts = label(data, settings)
        head = {"concepts": len(data.names), "regions": len(probs)}
        for share in (0.1, 0.25, 0.4, 1.0):
            threshold = float(np.quantile(probs, 1 - share)) if share < 1 else -1.0
            rows.append(head | row_of(settings, probs > threshold, verdicts, threshold))
        rows.append(head | row_of(settings, kept, verdicts, settings.threshold) | {"own_threshold": True})
        print("\n".join(json.dumps(row) for row in rows[-5:]), flush=True)
    return rows


def alignment_grid(quick: bool) -> list[AlignSettings]:
    """The preset first, then its neighbours."""
    change = [{"policy": "pool"}, {"policy": "caption"}]
    if not quick:
        change += [{"blend_bonus": 2.0}, {"blend_bonus": 4.0}, {"tau": 0.05}, {"pair_nms_iou": 0.5}]
        change += [{"tau": 0.14}, {"policy": "pool", "tau": 0.05}, {"policy": "pool", "tau": 0.14}]
    return [PRESET, *(dataclasses.replace(PRESET, **c) for c in change)]


def main() -> None:
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument(
        "--quick", action="store_true", help="40 images, fewer variants: under 50 s on 2 cores"
    )
    parser.add_argument(
        "--min-count", type=int, default=3, help="images that must name a concept (default: %(default)s)"
    )
    parser.add_argument("--part", choices=["both", "truth", "pairs"], default="both")
    parser.add_argument(
        "--variants",
        nargs="+",
        help="features:size of part 1 (default: roi:384 roi:480 roi:640 crop:224; with --quick: roi:480)",
    )
    arguments = parser.parse_args()
    torch.set_num_threads(1)
    data = find_shared_data()
    if data is None:
        raise SystemExit("no ../shared/data beside the checkout: set REGIONPAIRS_SHARED")
    root, quick = data / "coco_photos", arguments.quick
    templates = QUICK_TEMPLATES if quick else load_templates(None)
    named = arguments.variants or (["roi:480"] if quick else ["roi:384", "roi:480", "roi:640", "crop:224"])
    variants = [(name, int(size)) for name, _, size in (v.partition(":") for v in named)]
    truth, aligned = [], []
    if arguments.part != "pairs":
        truth = ground_truth(read_photos(root, 30 if quick else -1, False), templates, variants)
    if arguments.part != "truth":
        photos = read_photos(root, 40 if quick else -1, True)
        data = encode_proposals(photos, templates, arguments.min_count)
        aligned = pairs(data, alignment_grid(quick))
    print(json.dumps({"ground_truth": truth, "pairs": aligned}))


if __name__ == "__main__":
    main()
