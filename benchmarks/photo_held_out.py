"""How much of the photo teacher's figures is selection: its preset chosen on one half of the photos, scored on the other.

tau, bonus, threshold and the weight of a person were chosen with the same photographs in view that `photo_teacher.py`
scores them on. Here they are chosen again on one half (by the hash of the file's name) and scored on the other, both ways:

1. Pairs: of all tau, bonus and threshold (for `blend` and, without a bonus, for `pool`) that keep at least a quarter of
   the half's regions, those with the most precise judged pairs.
2. People: the weight with which a person joins the classes whose pictures show one, by top-1 on the true boxes. Which
   classes those are (`people_classes.txt`) was written by meaning, with these photos in view, and is not chosen again.

Needs ../shared/data (REGIONPAIRS_SHARED) and the extra `photos`.
"""

from __future__ import annotations

import argparse
import dataclasses
import hashlib
import itertools
import json
from typing import Any

import numpy as np
import torch
import torch.nn.functional as F

from benchmarks.photo_teacher import (
    PRESET,
    QUICK_TEMPLATES,
    Encoded,
    Photo,
    encode,
    encode_proposals,
    label,
    read_photos,
)
from benchmarks.shared_data import find_shared_data
from concept_pool.embed import embed_pool
from evaluation.coco_names import ACCEPTED
from pipeline.align import AlignSettings
from pipeline.teachers.imagenet import PERSON_WEIGHT, class_embeddings
from pipeline.teachers.photo import PhotoTeacher
from pipeline.teachers.settings import TeacherSettings


def half_of(photo: Photo) -> int:
    """0 or 1, by the hash of the file's name."""
    return hashlib.sha256(photo.key.encode()).digest()[0] % 2


def held_out_pairs(data: Encoded) -> list[dict[str, Any]]:
    """Part 1: a row for each policy and each half that its settings are chosen on, scored on the other."""
    half = np.repeat([half_of(p) for p in data.photos], [len(b) for b in data.boxes])
    tried = [dataclasses.replace(PRESET, tau=tau) for tau in (0.05, 0.07, 0.1, 0.14)]
    tried = [dataclasses.replace(s, blend_bonus=b) for s in tried for b in (1.0, 2.0, 3.0, 4.0)] + [
        dataclasses.replace(s, policy="pool") for s in tried
    ]
    labelled = {settings: label(data, settings) for settings in tried}

    def score(settings: AlignSettings, threshold: float, part: int) -> tuple[float, float]:
        """Share kept and precision of the judged kept pairs, in one half."""
        probs, _, verdicts = labelled[settings]
        kept = (probs > threshold) & (half == part)
        judged = verdicts[kept & (verdicts >= 0)]
        return float(kept[half == part].mean()), float(judged.mean()) if len(judged) else 0.0

    rows = []
    thresholds = [round(0.05 * step, 2) for step in range(2, 20)]
    for policy, chosen_on in itertools.product(("blend", "pool"), (0, 1)):
        candidates = [(s, t) for s in tried if s.policy == policy for t in thresholds]
        enough = [c for c in candidates if score(*c, chosen_on)[0] >= 0.25]
        settings, threshold = max(enough, key=lambda c: score(*c, chosen_on)[1])
        kept, precision = score(settings, threshold, 1 - chosen_on)
        preset_kept, preset = score(PRESET, PRESET.threshold, 1 - chosen_on)
        row: dict[str, Any] = {"tau": settings.tau, "bonus": settings.blend_bonus, "threshold": threshold}
        row |= {"precision_where_chosen": score(settings, threshold, chosen_on)[1]}
        row |= {"precision_held_out": precision, "kept_held_out": kept}
        row |= {"preset_precision": preset, "preset_kept": preset_kept}
        row = {"policy": policy, "chosen_on_half": chosen_on} | {k: round(v, 3) for k, v in row.items()}
        rows.append(row)
        print(json.dumps(row), flush=True)
    return rows


def held_out_people(photos: list[Photo], templates: list[str]) -> list[dict[str, Any]]:
    """Part 2, the weight of a person: top-1 of all true boxes in percent, chosen on one half, scored on the other."""
    teacher = PhotoTeacher(TeacherSettings(kind="photo"))
    teacher.tower.encoder.class_embeddings = torch.eye(1000)  # regions are class probabilities
    regions, _ = encode(teacher, photos, [p.boxes for p in photos])
    probabilities = torch.cat(regions)
    labels = torch.from_numpy(np.concatenate([p.labels for p in photos]))
    half = torch.from_numpy(np.repeat([half_of(p) for p in photos], [len(p.boxes) for p in photos]))
    right = {}
    for weight in (0.0, 0.2, 0.4, PERSON_WEIGHT, 0.8):
        classes = class_embeddings(teacher._sentences, weight)
        teacher._origin = classes.mean(dim=0)
        concepts = torch.from_numpy(embed_pool(list(ACCEPTED), templates, teacher.encode_text))
        mixed = F.normalize(probabilities @ F.normalize(classes - teacher._origin, dim=1), dim=1)
        found = (mixed @ concepts.T).argmax(dim=1) == labels
        right[weight] = [100 * float(found[half == part].float().mean()) for part in (0, 1)]
    rows = []
    for chosen_on in (0, 1):
        weight = max(right, key=lambda w: right[w][chosen_on])
        row = {"chosen_on_half": chosen_on, "person_weight": weight}
        row |= {"top1_where_chosen": right[weight][chosen_on], "top1_held_out": right[weight][1 - chosen_on]}
        row |= {
            "preset_top1": right[PERSON_WEIGHT][1 - chosen_on],
            "without_people_top1": right[0.0][1 - chosen_on],
        }
        rows.append({k: round(v, 1) for k, v in row.items()})
        print(json.dumps(rows[-1]), flush=True)
    return rows


def main() -> None:
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--quick", action="store_true", help="40 photos, pairs alone: under 50 s on 2 cores")
    quick = parser.parse_args().quick
    torch.set_num_threads(1)
    data = find_shared_data()
    if data is None:
        raise SystemExit("no ../shared/data beside the checkout: set REGIONPAIRS_SHARED")
    root, limit = data / "coco_photos", 40 if quick else -1
    found = held_out_pairs(encode_proposals(read_photos(root, limit, True), QUICK_TEMPLATES, 3))
    people = [] if quick else held_out_people(read_photos(root, limit, False), QUICK_TEMPLATES)
    print(json.dumps({"pairs": found, "people": people}))


if __name__ == "__main__":
    main()
