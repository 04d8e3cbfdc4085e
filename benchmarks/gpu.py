"""Everything that only a GPU can tell, in one command of at most 8 minutes.

    python benchmarks/gpu.py                       # on a GPU
    python benchmarks/gpu.py --device cpu --quick  # the same way through the program, no meaning as figures

Prints a JSON line per step and, last, one with everything. Correctness comes first: if it fails, no figure is printed.
With --quick every row runs its own model on fewer pixels and boxes than its name says: `px` and `boxes` say on how many.

- `correct`: the towers on the device against the same on the CPU, in fp32 without TF32, and an image alone against the same
  image in a batch: cosine of every region, the mean of all taken off since random weights put all into one cone; worst.
- `threads`: share of samples with the same bytes from parts side by side as from parts one after the other.
- a row per model, image size and number of boxes: `images_per_s` of the whole annotator (JPEG bytes in, packed samples
  out, as many parts at a time as the local runner sends); `of_forward`: that over the images/s of the bare encoder on
  tensors that lie on the device (goal 0.9); `of_peak`: the encoder's operations per second over those of a large matrix
  product of the same type on this card; `decode_threads_needed`: CPU seconds of decoding an image times the encoder's
  images/s.
- `processes`: images/s of four annotators, each a process with a quarter of the machine's decode threads, that share the
  card (on Ray: `gpus_per_worker: 0.25`), and that over the bare encoder's. One process has one interpreter lock.
- `roi_over_crop`: images/s of one pass per image over one pass per region, 100 boxes (goal 4).
- `agreement`: share of regions whose label among 200 concepts is that of fp32, for fp16 and bf16. Weights are random
  unless --pretrained names some, so near-ties are everywhere; benchmarks/precision.py asks the shipped teacher.
- `train_step`: benchmarks/train_step.py on this device.

What does not fit into --budget-s seconds is left out and named in `left_out`.
"""

from __future__ import annotations

import argparse
import json
import math
import time
from collections.abc import Callable
from functools import partial
from typing import Any

from benchmarks.gpu_bench import Bench, row_name
from benchmarks.gpu_correct import agreement, correct, side_by_side
from benchmarks.gpu_processes import sharing

#: (model, short side in pixels, boxes), and both of --quick.
CASES = [
    ("RN50", 800, 100, 64, 2), ("RN50", 800, 300, 64, 4), ("ViT-B-16", 224, 100, 64, 4),
    ("ViT-L-14", 224, 100, 56, 4), ("ViT-L-14", 336, 100, 84, 4),
]  # fmt: skip
QUICK_BATCH = 2


def main() -> None:
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--device", default="cuda")
    parser.add_argument("--quick", action="store_true", help="tiny sizes: shows that everything runs")
    parser.add_argument("--precision", default="fp16", help="of the rows of models (default: %(default)s)")
    parser.add_argument("--pretrained", help="open_clip tag or checkpoint of RN50 (default: random weights)")
    parser.add_argument("--batch", type=int, default=16, help="teacher.batch_images (default: %(default)s)")
    parser.add_argument("--only", nargs="+", help="steps whose names hold one of these words")
    parser.add_argument("--budget-s", type=float, help="(default: 460; --quick: as long as it takes)")
    options = parser.parse_args()
    options.batch = min(options.batch, QUICK_BATCH) if options.quick else options.batch
    options.budget_s = options.budget_s or (math.inf if options.quick else 460.0)
    bench = Bench(options)
    steps: list[tuple[str, Callable[[], Any]]] = [
        ("correct", lambda: correct(bench)),
        ("threads", lambda: side_by_side(bench)),
        ("peak", bench.peak),
    ]
    for model, side, boxes, *quick in CASES:
        size = quick if options.quick else (side, boxes)
        steps.append((row_name(model, side, boxes), partial(bench.row, model, *size)))
    steps += [
        ("processes", lambda: sharing(options, [c[:3] for c in CASES if c[2] == 100][:2], bench.forward_s)),
        ("roi_over_crop", bench.roi_over_crop),
        ("agreement", lambda: agreement(bench)),
        ("train_step", bench.train_step),
    ]
    if options.only:
        steps = [
            (name, step)
            for name, step in steps
            if name == "peak" or any(word in name for word in options.only)
        ]
    result: dict[str, Any] = {
        "card": bench.card, "precision": bench.precision, "quick": options.quick, "left_out": [],
    }  # fmt: skip
    for name, step in steps:
        if bench.left_s < 30:
            result["left_out"].append(name)
            continue
        started = time.perf_counter()
        result[name] = step()
        print(json.dumps({name: result[name], "s": round(time.perf_counter() - started, 1)}), flush=True)
    print(json.dumps(result))


if __name__ == "__main__":
    main()
