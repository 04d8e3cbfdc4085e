"""What a student loses by learning from stored targets: the top-k bound of L_dist, and mirrored views.

Bound: for students near and far from the teacher, how far the KL over the stored top k and one rest bucket lies below
the dense KL, and the cosine of the two gradients with respect to the student's logits.
Mirrored views: the stored label belongs to the image as it was; the teacher, asked again about the mirrored image,
gives another one. How often, and how far apart (KL, cosine of embeddings)?

Regions are a grid's 50 boxes an image; concepts are the classes' names.
"""

from __future__ import annotations

import argparse
import json
from collections.abc import Iterator

import numpy as np
import torch
from torch.nn.functional import normalize

from benchmarks.shared_data import find_shared_data
from concept_pool.embed import embed_pool
from concept_pool.prompts import load_templates
from evaluation.coco_names import BASE, NOVEL
from pipeline import localizers, teachers
from pipeline.images import decode
from pipeline.localizers.settings import LocalizerSettings
from pipeline.teachers.settings import TeacherSettings
from training.losses import terms
from world import scenes


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--quick", action="store_true", help="fewer images: under 50 s on 2 cores")
    parser.add_argument(
        "--teacher", default="shapes", choices=["shapes", "photo"], help="and its own pictures"
    )
    parser.add_argument("--tau", type=float, default=0.0, help="of the teacher's softmax; 0: its own")
    parser.add_argument(
        "--keep", type=float, default=0.1, help="regions count whose best probability is above it"
    )
    arguments = parser.parse_args()
    n = {"shapes": 48, "photo": 16}[arguments.teacher] * (1 if arguments.quick else 4)
    torch.set_num_threads(1)
    teacher = teachers.load(TeacherSettings(kind=arguments.teacher))
    arguments.tau = arguments.tau or 1 / teacher.logit_scale
    names, images = pictures(arguments.teacher, n)
    concepts = torch.from_numpy(embed_pool(names, load_templates(None), teacher.encode_text))
    boxes = localizers.load(LocalizerSettings(kind="grid", max_proposals=50))([images[0]], [""])[
        0
    ].boxes_xyxy_norm
    plain = torch.cat(teacher.encode_regions(images, [boxes] * n))
    flipped_boxes = np.stack([1 - boxes[:, 2], boxes[:, 1], 1 - boxes[:, 0], boxes[:, 3]], axis=1)
    mirrored = torch.cat(
        teacher.encode_regions([np.ascontiguousarray(i[:, ::-1]) for i in images], [flipped_boxes] * n)
    )
    q = terms.concept_logits(plain, concepts, arguments.tau).softmax(dim=1)
    kept = q.max(dim=1).values > arguments.keep
    plain, mirrored, q = plain[kept], mirrored[kept], q[kept]
    bound = {
        f"student_noise_{noise}": dict(top_k_bound(plain, q, concepts, arguments.tau, noise))
        for noise in (0.1, 0.3, 1.0)
    }
    q_mirrored = terms.concept_logits(mirrored, concepts, arguments.tau).softmax(dim=1)
    kl = (torch.xlogy(q_mirrored, q_mirrored) - torch.xlogy(q_mirrored, q)).sum(dim=1)
    flip = {
        "same_label": float((q.argmax(dim=1) == q_mirrored.argmax(dim=1)).float().mean()),
        "mean_kl_nats": float(kl.mean()),
        "median_kl_nats": float(kl.median()),
        "mean_cosine": float((normalize(plain, dim=1) * normalize(mirrored, dim=1)).sum(dim=1).mean()),
        "stored_label_probability": float(q_mirrored.gather(1, q.argmax(dim=1)[:, None]).mean()),
    }
    header = {
        "teacher": arguments.teacher,
        "images": n,
        "regions": len(q),
        "concepts": len(names),
        "tau": round(arguments.tau, 4),
    }
    print(json.dumps({**header, "bound": bound, "mirrored": flip}, indent=2))
    middle = bound["student_noise_0.3"]["k16"]
    print(
        json.dumps(
            {"gap_nats_k16": middle["gap_nats"], "gradient_cosine_k16": middle["gradient_cosine"], **flip}
        )
    )


def pictures(kind: str, n: int) -> tuple[list[str], list[np.ndarray]]:
    """Class names and n uint8 images of the teacher's own world."""
    if kind == "shapes":
        return list(scenes.KINDS), [scenes.draw_scene(900, i, 160).image for i in range(n)]
    shared = find_shared_data()
    if shared is None:
        raise SystemExit("stored_targets.py: --teacher photo needs the real photographs beside the checkout")
    files = sorted((shared / "coco_photos" / "images").glob("*.jpg"))[:n]
    return sorted(BASE | NOVEL), [decode(f.read_bytes())[0] for f in files]


def top_k_bound(
    regions: torch.Tensor, q: torch.Tensor, concepts: torch.Tensor, tau: float, noise: float
) -> Iterator[tuple[str, dict[str, float]]]:
    """For k = 1, 4, 8, 16, 32: mass stored, dense KL, gap and gradient cosine, of a student with noisy embeddings."""
    generator = torch.Generator().manual_seed(0)
    unit = normalize(regions, dim=1)
    away = normalize(torch.randn(unit.shape, generator=generator), dim=1)
    logits = terms.concept_logits(unit + noise * away, concepts, tau).requires_grad_()
    dense = terms.dense_distillation(logits, q)
    (dense_gradient,) = torch.autograd.grad(dense.sum(), logits)
    for k in (1, 4, 8, 16, 32):
        if k >= q.shape[1]:
            return
        probs, ids = q.topk(k, dim=1)
        stored = probs.half().float()
        residual = (1 - probs.sum(dim=1)).clamp(min=0).half().float()
        bucket = terms.distillation(logits, ids, stored, residual)
        (gradient,) = torch.autograd.grad(bucket.sum(), logits)
        cosine = torch.nn.functional.cosine_similarity(gradient.flatten(), dense_gradient.flatten(), dim=0)
        yield (
            f"k{k}",
            {
                "mass_stored": round(float(probs.sum(dim=1).mean()), 4),
                "dense_kl_nats": round(float(dense.mean()), 4),
                "gap_nats": round(float((dense - bucket).mean()), 5),
                "gradient_cosine": round(float(cosine), 5),
            },
        )


if __name__ == "__main__":
    main()
