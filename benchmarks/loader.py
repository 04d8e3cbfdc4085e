"""How much of the speed of "read the tar, decode the JPEG" the loader keeps.

The bound reads every shard with tarfile, member by member, and decodes each image; it keeps nothing. The loader does
the same work plus all that it exists for: shuffling, stored targets, region draws, flips, batches of tensors. Both run
in one process on one thread, in turns, each turn over all images; the medians count. `resize` adds the preset's
bicubic resizing (800 / 1333 pixels) to both. `fast_224` is the loader alone: JPEGs decoded at a reduced size.
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
    parser.add_argument("--workers", type=int, default=2, help="loader processes of the last figure")
    arguments = parser.parse_args()
    n, rounds = (96, 5) if arguments.quick else (287, 9)
    with tempfile.TemporaryDirectory() as folder:
        dataset = write_dataset(Path(folder) / "d", n)
        native = ViewSettings(short_side=0, long_side=0, pad_to=1)
        preset = ViewSettings()
        fast = ViewSettings(short_side=224, long_side=400, decode="fast")
        runs: dict[str, Callable[[], None]] = {
            "bound": lambda: read_and_decode(dataset, None),
            "loader": lambda: load(dataset, native, n),
            "bound_resize": lambda: read_and_decode(dataset, preset),
            "loader_resize": lambda: load(dataset, preset, n),
            "fast_224": lambda: load(dataset, fast, n),
            "workers_resize": lambda: load(dataset, preset, n, arguments.workers),
        }
        seconds: dict[str, list[float]] = {name: [] for name in runs}
        for run in runs.values():
            run()  # indices, page cache
        for _ in range(rounds):
            for name, run in runs.items():
                begun = time.perf_counter()
                run()
                seconds[name].append(time.perf_counter() - begun)
    median = {name: statistics.median(s) for name, s in seconds.items()}
    rates = {f"{name}_images_per_s": round(n / s, 1) for name, s in median.items()}
    print(json.dumps({"images": n, "rounds": rounds, **rates}, indent=2))
    print(
        json.dumps(
            {
                "vs_decode_bound": round(median["bound"] / median["loader"], 3),
                "vs_decode_bound_resize": round(median["bound_resize"] / median["loader_resize"], 3),
                "fast_224_vs_decode_bound": round(median["bound"] / median["fast_224"], 3),
                "workers_vs_one_process": round(median["loader_resize"] / median["workers_resize"], 3),
                "workers": arguments.workers,
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


def load(dataset: Path, view: ViewSettings, n: int, workers: int = 0) -> None:
    """One epoch of the loader in batches of eight."""
    data = DataSettings(str(dataset), batch_images=8, workers=workers)
    loader = Loader(read_manifest(str(dataset)), data, view, folder=str(dataset / "buffer"))
    for _ in loader.steps(n // 8):
        pass
    loader.close()


if __name__ == "__main__":
    main()
