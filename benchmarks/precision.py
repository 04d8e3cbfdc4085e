"""What each speed setting of a teacher does to its labels, and what it gains: against the plain tower (fp32, eager).

For each model: photographs and their proposals, the plain tower and the tower with one setting changed, in turns in one
process. A row a setting:

  label_changed, keep_changed   share of the regions whose label or keep mask differs from the plain tower's
  away_from_ties                the same two together, over the regions that are not near a tie: the plain tower's label
                                leads by more than 0.05 and is further than 0.05 from the threshold (PARITY 22)
  near_a_tie                    share of the regions that are left out there
  kl_nats                       mean KL(plain || setting) over all regions
  speed                         seconds of the plain tower / of this one: images a second gained

`photo`: the shipped weights, the captions' own pool and the preset of jobs/configs/photos.yaml. Other names are open_clip
models with random weights: they know nothing and their regions lie in one narrow cone, so the concepts are 200 random
directions in which these very regions differ, and tau is a fifth of the spread of the cosines, far below any that is used.
Near-ties are everywhere, and each setting looks worse than with trained weights. Padding
is not a setting of a teacher (it never pads); for a ResNet `padded` shows what masking prevents: the batch padded to its
largest image, as RegionCLIP does, with `mask_padding` on and off.

Needs ../shared/data (REGIONPAIRS_SHARED). On a GPU: `--device cuda`.
"""

from __future__ import annotations

import argparse
import json
from collections.abc import Callable
from typing import Any

import numpy as np
import torch
import torch.nn.functional as F

from benchmarks.align import CLOCKS, seconds_of
from benchmarks.fidelity import distribution, kl
from benchmarks.photo_teacher import QUICK_TEMPLATES, Photo, pool_of, read_photos
from benchmarks.shared_data import find_shared_data
from concept_pool.embed import embed_pool
from pipeline import localizers, teachers
from pipeline.localizers.settings import LocalizerSettings
from pipeline.teachers.preprocess import resize
from pipeline.teachers.resnet_regions import ResNetRegions
from pipeline.teachers.settings import TeacherSettings
from pipeline.teachers.tower import Tower

PLAIN: dict[str, Any] = {"precision": "fp32", "channels_last": False, "compile": False}
CHANGES: dict[str, dict[str, Any]] = {
    "channels_last": {"channels_last": True},
    "bf16": {"precision": "bf16"},
    "fp16": {"precision": "fp16"},
    "compile": {"compile": True},
}
TIE = 0.05
Encode = Callable[[list[np.ndarray], list[np.ndarray]], list[torch.Tensor]]


def teacher_of(model: str, arguments: argparse.Namespace, **change: Any) -> Any:
    """A teacher; `model` is `photo` or an open_clip name."""
    kind = {"kind": "photo"} if model == "photo" else {"kind": "open_clip", "model": model}
    size = arguments.size or (480 if model == "photo" else 224)
    return teachers.load(
        TeacherSettings(**kind, image_size=size, device=arguments.device, **{**PLAIN, **change})
    )


def padded(tower: Tower, mask_padding: bool) -> Encode:
    """A ResNet's regions of a batch padded to its largest image, as RegionCLIP does it."""
    encoder = ResNetRegions(tower.encoder.visual, mask_padding=mask_padding)  # type: ignore[arg-type]

    @torch.inference_mode()
    def encode(images: list[np.ndarray], boxes: list[np.ndarray]) -> list[torch.Tensor]:
        sizes = [tower.preprocess.size_of(*image.shape[:2]) for image in images]
        canvas = torch.zeros(len(images), 3, max(h for h, _ in sizes), max(w for _, w in sizes))
        for row, image, (h, w) in zip(canvas, images, sizes, strict=True):
            row[:, :h, :w] = tower.preprocess.normalise(torch.from_numpy(resize(image, (h, w)))[None])[0]
        device = tower.hardware.device
        found = encoder(
            canvas.to(device), [torch.from_numpy(b).to(device) for b in boxes], torch.tensor(sizes)
        )
        return list(found.float().cpu().split([len(b) for b in boxes]))

    return encode


def parting_concepts(regions: torch.Tensor, n: int = 200) -> tuple[torch.Tensor, float]:
    """Random directions [n, D] in which these very regions [R, D] differ, and a tau at which they are told apart."""
    apart = F.normalize(regions, dim=1)
    mean = F.normalize(apart.mean(dim=0), dim=0)
    apart = apart - (apart @ mean)[:, None] * mean
    mixture = torch.randn(n, len(apart), generator=torch.Generator().manual_seed(0))
    concepts = F.normalize(mixture @ (apart - apart.mean(dim=0)), dim=1)
    return concepts, float((F.normalize(regions, dim=1) @ concepts.T).std()) / 5


def compare(
    plain: torch.Tensor,
    other: torch.Tensor,
    concepts: torch.Tensor,
    bonus: torch.Tensor | None,
    tau: float,
    threshold: float,
) -> dict[str, float]:
    """Labels of the same regions [R, D] by two towers."""
    p, q = (distribution(regions, concepts, tau, bonus) for regions in (plain, other))
    best = p.topk(2, dim=1).values
    tie = (best[:, 0] - best[:, 1] <= TIE) | ((best[:, 0] - threshold).abs() <= TIE)
    label = p.argmax(dim=1) != q.argmax(dim=1)
    keep = (p.amax(dim=1) > threshold) != (q.amax(dim=1) > threshold)
    shares = {"label_changed": label, "keep_changed": keep, "away_from_ties": (label | keep)[~tie]}
    row = {key: float(value.float().mean()) if len(value) else 0.0 for key, value in shares.items()}
    row |= {
        "near_a_tie": float(tie.float().mean()),
        "kept": float((p.amax(dim=1) > threshold).float().mean()),
    }
    return {key: round(value, 5) for key, value in row.items()} | {"kl_nats": float(f"{kl(p, q).mean():.2g}")}


def in_turns(
    plain: Encode, other: Encode, photos: list[Photo], boxes: list[np.ndarray], device: torch.device
) -> tuple[torch.Tensor, torch.Tensor, float]:
    """Regions [R, D] of both, and seconds of the plain one / of the other; batches of four, each way first in turn.

    The first batch warms up and is not timed, unless it is the only one.
    """
    clock = CLOCKS["cpu" if device.type == "cpu" else "wall"]
    found: tuple[list[torch.Tensor], list[torch.Tensor]] = ([], [])
    seconds: tuple[list[float], list[float]] = ([], [])
    for start in range(0, len(photos), 4):
        images, own = [p.pixels for p in photos[start : start + 4]], boxes[start : start + 4]
        for way in ((0, 1), (1, 0))[start // 4 % 2]:

            def work(encode: Encode = (plain, other)[way], rows: list[torch.Tensor] = found[way]) -> None:
                rows.extend(encode(images, own))  # noqa: B023 - called at once

            seconds[way].append(seconds_of(work, device, clock))
    plain_s, other_s = (sum(spent[1:] or spent) for spent in seconds)
    return torch.cat(found[0]), torch.cat(found[1]), plain_s / other_s


def measure(model: str, arguments: argparse.Namespace, photos: list[Photo]) -> list[dict[str, Any]]:
    """A row a setting."""
    localizer = localizers.load(LocalizerSettings(kind="rpn-lite", max_proposals=arguments.regions))
    boxes = [localizer([p.pixels])[0].boxes_xyxy_norm for p in photos]
    device = torch.device(arguments.device)
    plain = teacher_of(model, arguments)
    bonus = None
    if model == "photo":
        pool, mentioned = pool_of(photos, 1)
        concepts = torch.from_numpy(embed_pool(pool.names, QUICK_TEMPLATES, plain.encode_text))
        named = torch.zeros(len(photos), len(concepts))
        for row, ids in zip(named, mentioned, strict=True):
            row[ids] = 3.0
        bonus = named.repeat_interleave(torch.tensor([len(b) for b in boxes]), dim=0)
        tau, threshold = 0.1, 0.7
    else:
        regions = torch.cat(plain.encode_regions([p.pixels for p in photos], boxes))
        (concepts, tau), threshold = parting_concepts(regions), 0.1
    ways: dict[str, Callable[[], Encode]] = {
        name: lambda change=change: teacher_of(model, arguments, **change).encode_regions  # type: ignore[misc]
        for name, change in CHANGES.items()
        if name in arguments.settings
    }
    if model.startswith("RN") and "padded" in arguments.settings:
        ways |= {f"padded, mask_padding {m}": lambda m=m: padded(plain._regions, m) for m in (True, False)}  # type: ignore[misc]
    rows = []
    for name, make in ways.items():
        other = make()
        if name == "compile":
            other([p.pixels for p in photos[:4]], boxes[:4])
        regions, others, speed = in_turns(plain.encode_regions, other, photos, boxes, device)
        row: dict[str, Any] = {"model": model, "setting": name, "regions": len(regions)}
        row |= {"images": len(photos), "concepts": len(concepts), "tau": tau, "device": device.type}
        row |= compare(regions, others, concepts, bonus, tau, threshold) | {"speed": round(speed, 3)}
        rows.append(row)
        print(json.dumps(row), flush=True)
    return rows


def main() -> None:
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument(
        "--quick", action="store_true", help="photo on 4 images, no compilation: under 50 s on 2 cores"
    )
    parser.add_argument("--models", nargs="+", default=["photo", "RN50", "ViT-B-32"])
    parser.add_argument("--settings", nargs="+", default=[*CHANGES, "padded"])
    parser.add_argument("--images", type=int, default=40, help="captioned photographs (default: %(default)s)")
    parser.add_argument("--regions", type=int, default=50, help="proposals an image (default: %(default)s)")
    parser.add_argument(
        "--size", type=int, default=0, help="short side; 0: 480 for photo, 224 for other models"
    )
    parser.add_argument(
        "--one-size", action="store_true", help="photos of 640 x 480 alone: a tower is compiled once"
    )
    parser.add_argument("--device", default="cuda" if torch.cuda.is_available() else "cpu")
    arguments = parser.parse_args()
    if arguments.quick:
        arguments.models, arguments.images = ["photo"], 4
        arguments.settings = [name for name in arguments.settings if name != "compile"]
    if arguments.device == "cpu":
        torch.set_num_threads(1)
    data = find_shared_data()
    if data is None:
        raise SystemExit("no ../shared/data beside the checkout: set REGIONPAIRS_SHARED")
    photos = read_photos(data / "coco_photos", -1 if arguments.one_size else arguments.images, captioned=True)
    if arguments.one_size:
        photos = [p for p in photos if p.pixels.shape == (480, 640, 3)][: arguments.images]
    print(
        json.dumps({"rows": [row for model in arguments.models for row in measure(model, arguments, photos)]})
    )


if __name__ == "__main__":
    main()
