"""How much of the speed of "read the tar, decode the JPEG" the loader keeps.

The bound reads every shard with tarfile, member by member, and decodes each image; it keeps nothing. The
loader does the same work plus all that it exists for: shuffling, stored targets, region draws, flips, batches
of tensors. Both run in one process on one thread, in turns, each turn over all images; the medians count, of
wall and of CPU time. `resize` adds the preset's bicubic resizing (800 / 1333 pixels) to both. `fast_224` is
the loader alone: JPEGs decoded at a reduced size.
"""

from __future__ import annotations

import argparse
import json
import statistics
import tarfile
import tempfile
import time
from collections.abc import Callable
from pathlib import Path

import torch
from PIL import Image

from benchmarks.photo_dataset import write_dataset
from pipeline.images import decode
from training.loader import Loader
from training.manifest import read_manifest
from training.samples import target_size
from training.settings import DataSettings, ViewSettings


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--quick", action="store_true", help="fewer images: under 50 s on 2 cores")
    parser.add_argument("--rounds", type=int, default=0, help="turns, of which the median counts")
    arguments = parser.parse_args()
    n, rounds = (64, arguments.rounds or 5) if arguments.quick else (288, arguments.rounds or 7)
    torch.set_num_threads(1)
    with tempfile.TemporaryDirectory() as folder:
        dataset = write_dataset(Path(folder) / "d", n)
        preset = ViewSettings()
        runs: dict[str, Callable[[], None]] = {
            "bound": lambda: read_and_decode(dataset, None),
            "loader": epochs(dataset, ViewSettings(short_side=0, long_side=0, pad_to=1), n),
            "bound_resize": lambda: read_and_decode(dataset, preset),
            "loader_resize": epochs(dataset, preset, n),
            "fast_224": epochs(dataset, ViewSettings(short_side=224, long_side=400, decode="fast"), n),
        }
        wall: dict[str, list[float]] = {name: [] for name in runs}
        cpu: dict[str, list[float]] = {name: [] for name in runs}
        for run in runs.values():
            run()  # indices, page cache
        for _ in range(rounds):
            for name, run in runs.items():
                begun, used = time.perf_counter(), time.process_time()
                run()
                wall[name].append(time.perf_counter() - begun)
                cpu[name].append(time.process_time() - used)
    wall_s, cpu_s = ({name: statistics.median(s) for name, s in table.items()} for table in (wall, cpu))
    rates = {f"{name}_images_per_cpu_s": round(n / s, 1) for name, s in cpu_s.items()}
    print(json.dumps({"images": n, "rounds": rounds, **rates}, indent=2))
    print(
        json.dumps(
            {
                "vs_decode_bound": round(wall_s["bound"] / wall_s["loader"], 3),
                "vs_decode_bound_cpu_time": round(cpu_s["bound"] / cpu_s["loader"], 3),
                "vs_decode_bound_resize": round(wall_s["bound_resize"] / wall_s["loader_resize"], 3),
                "vs_decode_bound_resize_cpu_time": round(cpu_s["bound_resize"] / cpu_s["loader_resize"], 3),
                "fast_224_vs_decode_bound_cpu_time": round(cpu_s["bound"] / cpu_s["fast_224"], 3),
            }
        )
    )


def read_and_decode(dataset: Path, view: ViewSettings | None) -> None:
    """Raw tar reads and image decoding (and resizing): what no loader can be faster than."""
    for shard in sorted((dataset / "shards").iterdir()):
        with tarfile.open(shard, "r:") as tar:
            for member in tar:
                content = tar.extractfile(member)
                data = content.read() if content else b""
                if not member.name.endswith(".jpg"):
                    continue
                pixels, _ = decode(data)
                if view is not None:
                    height, width = target_size(
                        pixels.shape[0], pixels.shape[1], view.short_side, view.long_side
                    )
                    Image.fromarray(pixels).resize((width, height), Image.Resampling.BICUBIC)


def epochs(dataset: Path, view: ViewSettings, n: int) -> Callable[[], None]:
    """A loader of this process, ready; each call reads one epoch in batches of eight."""
    data = DataSettings(str(dataset), batch_images=8, workers=0)
    loader = Loader(read_manifest(str(dataset)), data, view, folder=str(dataset / "buffer"), embeddings=False)

    def epoch() -> None:
        for _ in loader.steps(n // 8):
            pass

    return epoch


if __name__ == "__main__":
    main()
