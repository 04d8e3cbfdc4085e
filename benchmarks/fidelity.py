"""What storing costs and loses: the teacher's distribution cut to k concepts, or its embeddings in fp16 or int8.

The trainer's L_dist is the mean of KL(q || p) over all C concepts and over the kept regions; with a cut q it is taken
over k + 1 buckets, the last one the residual mass (a lower bound). `kl_bias_nats` is the mean absolute difference
between the dense loss and the one that can be computed from what is stored, over kept regions, for a student p near the
teacher: the same model on the image at 3/4 of its size, without the captions. `far_bias_nats` is the same for an
untrained student (p uniform), `all_bias_nats` for the near student over all regions. `bytes_per_region` holds all
that a region takes in the .npz: box, objectness, kept, ids, probabilities, residual (or box, objectness, kept and the
embedding).

Data: synthetic scenes with the shapes teacher and the pool of their captions (`--config demo`); captioned COCO photos
with the photo teacher and the 1000 most frequent concepts of COCO's captions (`--config photos`; needs ../shared/data,
else left out).
"""

from __future__ import annotations

import argparse
import json
from pathlib import Path
from typing import Any

import numpy as np
import torch
import torch.nn.functional as F
import yaml

from benchmarks.shared_data import find_shared_data
from concept_pool.count import count_block
from concept_pool.embed import embed_pool
from concept_pool.parse import Parser
from concept_pool.pool import ConceptPool
from concept_pool.settings import PoolSettings
from jobs.arguments import config_file
from pipeline import localizers, teachers
from pipeline.align import AlignSettings
from pipeline.dataset.sample import region_embedding_arrays, region_embeddings
from pipeline.images import decode
from pipeline.localizers.settings import LocalizerSettings
from pipeline.ranking import top_of
from pipeline.teachers.settings import TeacherSettings
from world import scenes

KS = (8, 16, 32, 64)
REGIONS = 50
#: float32 box [4], float32 objectness, uint8 kept.
BYTES_ALWAYS = 16 + 4 + 1


def concepts_of(captions: list[list[str]], most: int) -> ConceptPool:
    """The `most` frequent concepts of some images' captions."""
    settings = PoolSettings(min_count=1)
    counts, _ = count_block(captions, Parser(settings))
    pool = ConceptPool.from_counts(counts, settings)
    return ConceptPool(pool.table.filter(pool.table["is_class"]).slice(0, most), pool.rejected, pool.about)


def mentions_of(pool: ConceptPool, captions: list[list[str]]) -> list[list[int]]:
    """Ids of the pool's concepts that each image's captions name."""
    _, names = count_block(captions, Parser(PoolSettings()))
    return [pool.ids_of(found) for found in names]


def regions_of(kind: str, images: list[np.ndarray], sizes: tuple[int, int]) -> list[torch.Tensor]:
    """float32 [images * 50, D] by the teacher at its own image size and at the student's, for the same proposals."""
    localizer = localizers.load(LocalizerSettings(kind="rpn-lite", max_proposals=REGIONS))
    boxes = [localizer([image])[0].boxes_xyxy_norm for image in images]
    found = []
    for size in sizes:
        teacher = teachers.load(TeacherSettings(kind=kind, image_size=size))
        encoded = []
        for start in range(0, len(images), 8):
            encoded += teacher.encode_regions(images[start : start + 8], boxes[start : start + 8])
        found.append(torch.cat(encoded))
    assert len(found[0]) == REGIONS * len(images)
    return found


def kl(q: torch.Tensor, p: torch.Tensor) -> torch.Tensor:
    """KL(q || p) of each row, 0 log 0 = 0."""
    return (torch.xlogy(q, q) - q * p.clamp_min(1e-38).log()).sum(dim=1)


def cut_loss(q: torch.Tensor, p: torch.Tensor, k: int) -> torch.Tensor:
    """The loss that the trainer can take from what is stored: fp16 top k and fp16 residual, one bucket for the rest."""
    ids, top = top_of(q, k)
    residual = (1 - top.sum(dim=1, keepdim=True)).clamp(0, 1).half().float()
    student = p.gather(1, ids)
    rest = (1 - student.sum(dim=1, keepdim=True)).clamp(min=1e-12)
    return kl(torch.cat([top.half().float(), residual], dim=1), torch.cat([student, rest], dim=1))


def distribution(
    regions: torch.Tensor, concepts: torch.Tensor, tau: float, bonus: torch.Tensor | None = None
) -> torch.Tensor:
    logits = F.normalize(regions, dim=1) @ F.normalize(concepts, dim=1).T / tau
    return (logits if bonus is None else logits + bonus).softmax(dim=1)


def measure(
    name: str,
    regions: list[torch.Tensor],
    concepts: torch.Tensor,
    mentioned: list[list[int]],
    settings: AlignSettings,
) -> list[dict[str, Any]]:
    """A row for every way to store."""
    named = torch.zeros(len(mentioned), len(concepts))
    for row, ids in zip(named, mentioned, strict=True):
        row[ids] = settings.blend_bonus
    bonus = named.repeat_interleave(REGIONS, dim=0)
    q = distribution(regions[0], concepts, settings.tau, bonus)
    near = distribution(regions[1], concepts, settings.tau)
    far = torch.full_like(q, 1 / q.shape[1])
    kept = q.amax(dim=1) > settings.threshold
    head = {"data": name, "concepts": len(concepts), "tau": settings.tau, "threshold": settings.threshold}
    head |= {"regions": len(q), "kept": int(kept.sum()), "dim": regions[0].shape[1]}
    head |= {"kl_to_student_nats": round(float(kl(q, near)[kept].mean()), 3)}
    rows = []

    def add(
        stored: str, n_bytes: int, losses: list[torch.Tensor], same: torch.Tensor, mass: torch.Tensor
    ) -> None:
        row = head | {
            "stored": stored,
            "bytes_per_region": n_bytes,
            "mass": round(float(mass[kept].mean()), 4),
        }
        gaps = [(kl(q, p) - loss).abs() for p, loss in zip((near, far), losses, strict=True)]
        row |= {"kl_bias_nats": round(float(gaps[0][kept].mean()), 5)}
        row |= {"far_bias_nats": round(float(gaps[1][kept].mean()), 5)}
        row |= {"all_bias_nats": round(float(gaps[0].mean()), 5)}
        row |= {"label_changed": round(1 - float(same.float().mean()), 5)}
        rows.append(row)
        print(json.dumps(row), flush=True)

    for k in (k for k in KS if k <= len(concepts)):
        mass = top_of(q, k)[1].sum(dim=1)
        add(
            f"top {k}",
            BYTES_ALWAYS + 4 * k + 2,
            [cut_loss(q, p, k) for p in (near, far)],
            torch.ones(len(q)),
            mass,
        )
    for form in ("fp16", "int8"):
        arrays = region_embedding_arrays(regions[0].numpy(), form)
        stored = distribution(torch.from_numpy(region_embeddings(arrays)), concepts, settings.tau, bonus)
        n_bytes = BYTES_ALWAYS + sum(a[0].nbytes for a in arrays.values())
        same = stored.argmax(dim=1) == q.argmax(dim=1)
        add(form, n_bytes, [kl(stored, p) for p in (near, far)], same, torch.ones(len(q)))
    return rows


Corpus = tuple[list[np.ndarray], list[list[str]], list[list[str]]]


def draw(n: int) -> Corpus:
    """Images, their captions, and the captions that the pool is made of."""
    images = [decode(scenes.encode_jpeg(scenes.draw_scene(1, i).image))[0] for i in range(n)]
    captions = [scenes.captions(1, i) for i in range(600)]
    return images, captions[:n], captions


def photos(root: Path, n: int, n_captions: int) -> Corpus:
    """Captioned photographs, their captions, and the captions that the pool is made of."""
    own, pool = (
        captions_by_image(root / "coco_photos" / "captions.json"),
        captions_by_image(root / "captions" / "coco_captions_val2017.json", n_captions),
    )
    names = {
        i["id"]: i["file_name"]
        for i in json.loads((root / "coco_photos" / "instances.json").read_text())["images"]
    }
    chosen = [i for i in sorted(own) if i in names][:n]
    images = [decode((root / "coco_photos" / "images" / names[i]).read_bytes())[0] for i in chosen]
    return images, [own[i] for i in chosen], list(pool.values())


def captions_by_image(file: Path, limit: int = -1) -> dict[int, list[str]]:
    captions: dict[int, list[str]] = {}
    for row in json.loads(file.read_text())["annotations"][: None if limit < 0 else limit]:
        captions.setdefault(row["image_id"], []).append(row["caption"])
    return captions


def preset(name: str) -> AlignSettings:
    """How `--config NAME` aligns."""
    document = yaml.safe_load(Path(config_file(name)).read_text())
    return AlignSettings(**document["align"])


def main() -> None:
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--quick", action="store_true", help="24 images of each kind: under 50 s on 2 cores")
    arguments = parser.parse_args()
    torch.set_num_threads(1)
    quick = arguments.quick
    work = [("shapes", *draw(24 if quick else 200), (96, 72), preset("demo"))]
    if (root := find_shared_data()) is not None:
        work.append(
            (
                "photo",
                *photos(root, 24 if quick else 120, 3000 if quick else 30000),
                (480, 352),
                preset("photos"),
            )
        )
    rows = []
    for kind, images, own, corpus, sizes, settings in work:
        pool = concepts_of(corpus, 1000)
        encode_text = teachers.load(TeacherSettings(kind=kind)).encode_text
        concepts = torch.from_numpy(embed_pool(pool.names, ["a photo of a {}."], encode_text))
        rows += measure(kind, regions_of(kind, images, sizes), concepts, mentions_of(pool, own), settings)
    keys = ("bytes_per_region", "kl_bias_nats", "far_bias_nats", "all_bias_nats", "label_changed")
    print(json.dumps({f"{row['data']} {row['stored']}": {key: row[key] for key in keys} for row in rows}))


if __name__ == "__main__":
    main()
