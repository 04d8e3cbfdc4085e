"""What a region costs: open_clip region encoders against the ways one would do it by hand. torch and open_clip, no Ray.

For each model and number of boxes, on images of 800 px (short side) made of noise, random weights (the arithmetic is
the same), five ways in one process, interleaved (A B C D E, A B C D E, ...), medians:

  ours     the teacher as it is: uint8 images in, embeddings out
  ceiling  the same encoder on a batch that lies ready on the device: nothing but its own arithmetic
  single   one image at a time through the model's own modules (RoIAlign, layer4, the whole attention pool), as the
           released RegionCLIP extractor does; for a ViT the model's own blocks, then the same value path and pooling
  crop     every box cut out, resized to 224 px and encoded apart (timed on `--crops` boxes an image and scaled)
  align    softmax over a pool of 4764 concepts, for scale

vs_* are rates: ours / the other. `share_of_peak` is the encoder's FLOP/s over those of a 2048^3 matrix product that takes
its turn with the five.
On a GPU: `--device cuda --images 8 --precision bf16`.
"""

from __future__ import annotations

import argparse
import json
import statistics
import time
from collections.abc import Callable
from typing import Any

import numpy as np
import torch
import torch.nn.functional as F
from torch.utils.flop_counter import FlopCounterMode, sdpa_flop_count
from torchvision.ops import roi_align

from pipeline.align import Aligner, AlignSettings
from pipeline.networks.region_geometry import average_under, rois_of
from pipeline.teachers.clip import ClipTeacher
from pipeline.teachers.preprocess import resize
from pipeline.teachers.region_encoder import RegionEncoder
from pipeline.teachers.resnet_regions import ResNetRegions, positions
from pipeline.teachers.settings import TeacherSettings
from pipeline.teachers.tower import Tower
from pipeline.teachers.vit_regions import value_path

#: wall: seconds that pass. cpu: seconds that this process gets, for a CPU that others use too (one thread).
CLOCKS: dict[str, Callable[[], float]] = {"wall": time.perf_counter, "cpu": time.process_time}


def make_inputs(n_images: int, n_boxes: int) -> tuple[list[np.ndarray], list[np.ndarray]]:
    """Landscape images of one size, and boxes of all sizes (sides between 0.05 and 0.6 of the image)."""
    rng = np.random.default_rng(0)
    images = [rng.integers(0, 256, (800, 1056, 3), dtype=np.uint8) for _ in range(n_images)]
    boxes = []
    for _ in range(n_images):
        sides = rng.uniform(0.05, 0.6, (n_boxes, 2))
        corner = rng.uniform(0, 1 - sides)
        boxes.append(np.concatenate([corner, corner + sides], axis=1).astype(np.float32))
    return images, boxes


def seconds_of(
    work: Callable[[], Any], device: torch.device, clock: Callable[[], float] = time.perf_counter
) -> float:
    start = clock()
    work()
    if device.type == "cuda":
        torch.cuda.synchronize()
    return clock() - start


def by_hand(encoder: RegionEncoder, batch: torch.Tensor, boxes: torch.Tensor) -> torch.Tensor:
    """Regions of one image through the open_clip model's own modules."""
    rois = rois_of([boxes], torch.tensor([batch.shape[2:]], device=batch.device))
    visual: Any = encoder.visual
    if isinstance(encoder, ResNetRegions):
        features = visual.layer3(visual.layer2(visual.layer1(visual.stem(batch))))
        grid = visual.image_size // 16
        patches = roi_align(features, rois, grid, 1 / 16, sampling_ratio=0, aligned=True)
        return torch.cat([visual.attnpool(visual.layer4(chunk)) for chunk in patches.split(128)])
    x = visual.conv1(batch)
    height, width = x.shape[2:]
    x = torch.cat([visual.class_embedding[None, None], x.flatten(2).transpose(1, 2)], dim=1)
    x = visual.ln_pre(x + positions(visual.positional_embedding, height, width))
    for block in visual.transformer.resblocks[:-1]:
        x = block(x)
    tokens = visual.ln_post(value_path(visual.transformer.resblocks[-1], x)[:, 1:]) @ visual.proj
    features = F.normalize(tokens, dim=-1).transpose(1, 2).reshape(1, -1, height, width)
    return average_under(features, rois, encoder.stride)


def _attention_flops(q: Any, k: Any, v: Any, *_: Any, **__: Any) -> int:
    return sdpa_flop_count(q, k, v)


@torch.inference_mode()
def measure(model: str, n_boxes: int, arguments: argparse.Namespace) -> dict[str, Any]:
    """One row: the medians and ratios of one model at one number of boxes."""
    images, boxes = make_inputs(arguments.images, n_boxes)
    common = {
        "kind": "open_clip",
        "model": model,
        "device": arguments.device,
        "precision": arguments.precision,
    }
    common |= {"channels_last": arguments.channels_last, "batch_images": arguments.images}
    teacher = ClipTeacher(TeacherSettings(**common))
    cropper = ClipTeacher(TeacherSettings(**common, features="crop"))
    tower = teacher._regions
    assert isinstance(tower, Tower)
    hardware, encoder = tower.hardware, tower.encoder
    device = hardware.device
    ready = hardware.batch(
        [resize(i, tower.preprocess.size_of(*i.shape[:2])) for i in images], tower.preprocess
    )
    on_device = [torch.from_numpy(b).to(device) for b in boxes]
    pool = torch.randn(4764, teacher.dim)
    aligner = Aligner(pool, AlignSettings(), str(device))
    regions = [torch.randn(n_boxes, teacher.dim, device=device) for _ in images]
    square = torch.randn(2048, 2048, device=device, dtype=hardware.dtype or torch.float32)

    def ceiling() -> None:
        with hardware.autocast():
            encoder(ready, on_device).float().cpu()

    def single() -> None:
        for index in range(len(images)):
            batch = hardware.batch([resize(images[index], ready.shape[2:])], tower.preprocess)
            with hardware.autocast():
                by_hand(encoder, batch, on_device[index]).float().cpu()

    crops = min(arguments.crops, n_boxes)
    ways: dict[str, tuple[Callable[[], Any], float]] = {
        "ours": (lambda: teacher.encode_regions(images, boxes), 1.0),
        "ceiling": (ceiling, 1.0),
        "single": (single, 1.0),
        "crop": (
            lambda: cropper.encode_regions(images[:1], [boxes[0][:crops]]),
            len(images) * n_boxes / crops,
        ),
        "align": (lambda: aligner(regions, [[]] * len(images)), 1.0),
        "product": (lambda: [square @ square for _ in range(5)], 1 / 5),
    }
    times: dict[str, list[float]] = {name: [] for name in ways}
    for round_ in range(arguments.repeats + arguments.warmup):
        for name, (work, scale) in ways.items():
            spent = seconds_of(work, device, CLOCKS[arguments.clock]) * scale
            if round_ >= arguments.warmup:
                times[name].append(spent)
    median = {name: statistics.median(t) for name, t in times.items()}
    fused = torch.ops.aten._scaled_dot_product_flash_attention_for_cpu  # torch counts only CUDA's kernels
    with FlopCounterMode(display=False, custom_mapping={fused: _attention_flops}) as counter:
        ceiling()
    with hardware.autocast():
        plain, fast = by_hand(encoder, ready[:1], on_device[0]), encoder(ready[:1], on_device[:1])
    gap = float((F.normalize(plain.float(), dim=1) - F.normalize(fast.float(), dim=1)).abs().max())
    row = {"model": model, "boxes": n_boxes, "device": device.type, "precision": arguments.precision}
    row |= {
        "images": len(images),
        "size": list(ready.shape[2:]),
        "threads": torch.get_num_threads(),
        "clock": arguments.clock,
    }
    row |= {f"vs_{name}": round(median[name] / median["ours"], 3) for name in ("crop", "single", "ceiling")}
    row |= {"images_per_s": round(len(images) / median["ours"], 3)}
    row |= {"regions_per_s": round(len(images) * n_boxes / median["ours"], 1)}
    row |= {"seconds": {name: round(value, 3) for name, value in median.items()}}
    row |= {"gflop_an_image": round(counter.get_total_flops() / len(images) / 1e9)}
    peak = 2 * 2048**3 / median["product"]
    row |= {"share_of_peak": round(counter.get_total_flops() / median["ceiling"] / peak, 3)}
    row |= {"largest_gap_to_by_hand": gap}
    return row


def main() -> None:
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument(
        "--quick",
        action="store_true",
        help="one image, two rounds, 25 crops; RN50 at 100 boxes unless told otherwise: under 50 s on 2 cores",
    )
    parser.add_argument("--models", nargs="+", help="default: RN50 ViT-B-16")
    parser.add_argument("--boxes", nargs="+", type=int, help="default: 100 300")
    parser.add_argument("--images", type=int, default=2, help="images in a batch (default: %(default)s)")
    parser.add_argument(
        "--crops", type=int, default=32, help="boxes that crop mode is timed on (default: %(default)s)"
    )
    parser.add_argument(
        "--repeats", type=int, default=3, help="rounds, of which the median counts (default: %(default)s)"
    )
    parser.add_argument("--warmup", type=int, default=1, help="rounds before them (default: %(default)s)")
    parser.add_argument("--device", default="cuda" if torch.cuda.is_available() else "cpu")
    parser.add_argument("--precision", default="fp32", choices=["fp32", "bf16", "fp16"])
    parser.add_argument(
        "--clock", default="wall", choices=CLOCKS, help="cpu: on a busy machine, with OMP_NUM_THREADS=1"
    )
    parser.add_argument("--no-channels-last", dest="channels_last", action="store_false")
    arguments = parser.parse_args()
    arguments.models = arguments.models or (["RN50"] if arguments.quick else ["RN50", "ViT-B-16"])
    arguments.boxes = arguments.boxes or ([100] if arguments.quick else [100, 300])
    if arguments.quick:
        arguments.images, arguments.crops = 1, 25
        arguments.repeats, arguments.warmup = 2, 0 if arguments.device == "cpu" else 2
    rows = []
    for model in arguments.models:
        for n_boxes in arguments.boxes:
            rows.append(measure(model, n_boxes, arguments))
            print(json.dumps(rows[-1]), flush=True)
    print(json.dumps({**rows[0], "rows": rows[1:]}))


if __name__ == "__main__":
    main()
