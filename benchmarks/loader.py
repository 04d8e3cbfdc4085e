"""How much of the speed of "read the tar, decode the JPEG" the loader keeps.

The bound reads every shard with tarfile, member by member, and decodes each image into an RGB array by the decoder that
the loader has (torchvision's); it keeps nothing. The loader does the same work plus all that it exists for: shuffling,
stored targets, region draws, flips, batches of tensors. `vs_pillow_bound` has Pillow in the bound, which most loaders
use and which is slower. Padding and mirroring are left to the device that trains; `pad_and_mirror_ms_per_image` is their
cost on this CPU. Everything runs in one process on one thread, in turns, each turn over all images; the medians
count, of wall and of CPU time. `resize` adds the preset's bicubic resizing (800 / 1333 pixels) to both sides.
`two_processes_images_per_s` is what a trainer gets that leaves its loading to two processes.
"""

from __future__ import annotations

import argparse
import io
import json
import statistics
import tarfile
import tempfile
import time
from collections.abc import Callable
from pathlib import Path

import numpy as np
import torch
from PIL import Image
from torchvision.io import ImageReadMode, decode_jpeg

from benchmarks.photo_dataset import write_dataset
from pipeline.dataset import Dataset
from pipeline.dataset.random_access import Shards
from training.data.loader import Loader
from training.data.pixels import resize, target_size
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
        native = ViewSettings(short_side=0, long_side=0, pad_to=1)
        runs: dict[str, Callable[[], None]] = {
            "bound": lambda: read_and_decode(dataset, by_torchvision, native),
            "loader": epochs(dataset, native, n),
            "pillow_bound": lambda: read_and_decode(dataset, by_pillow, native),
            "bound_resize": lambda: read_and_decode(dataset, by_torchvision, preset),
            "loader_resize": epochs(dataset, preset, n),
            "pillow_bound_resize": lambda: read_and_decode(dataset, by_pillow, preset),
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
        rates = {"native": rate_of_workers(dataset, native, n), "resize": rate_of_workers(dataset, preset, n)}
        pad_ms = {"native": pad_and_mirror_ms(dataset, native), "resize": pad_and_mirror_ms(dataset, preset)}
    wall_s, cpu_s = ({name: statistics.median(s) for name, s in table.items()} for table in (wall, cpu))
    details = {f"{name}_images_per_cpu_s": round(n / s, 1) for name, s in cpu_s.items()}
    details |= {"pad_and_mirror_ms_per_image": pad_ms, "two_processes_images_per_s": rates}
    print(json.dumps({"images": n, "rounds": rounds, **details}, indent=2))
    print(
        json.dumps(
            {
                "vs_decode_bound": ratio(wall_s, "bound", "loader"),
                "vs_decode_bound_cpu_time": ratio(cpu_s, "bound", "loader"),
                "vs_decode_bound_resize": ratio(wall_s, "bound_resize", "loader_resize"),
                "vs_decode_bound_resize_cpu_time": ratio(cpu_s, "bound_resize", "loader_resize"),
                "vs_pillow_bound": ratio(wall_s, "pillow_bound", "loader"),
                "vs_pillow_bound_resize": ratio(wall_s, "pillow_bound_resize", "loader_resize"),
            }
        )
    )


def ratio(seconds: dict[str, float], bound: str, loader: str) -> float:
    return round(seconds[bound] / seconds[loader], 3)


def by_torchvision(data: bytes, view: ViewSettings) -> None:
    """The decoder (and resizing) of the loader, and nothing else."""
    encoded = torch.frombuffer(bytearray(data), dtype=torch.uint8)
    pixels = decode_jpeg(encoded, ImageReadMode.RGB).permute(1, 2, 0)
    resize(pixels, *target_size(*pixels.shape[:2], view.short_side, view.long_side))


def by_pillow(data: bytes, view: ViewSettings) -> None:
    """What most loaders do."""
    image = Image.open(io.BytesIO(data)).convert("RGB")
    size = target_size(image.height, image.width, view.short_side, view.long_side)[::-1]
    np.asarray(image if image.size == size else image.resize(size, Image.Resampling.BICUBIC))


def read_and_decode(dataset: Path, decode: Callable[[bytes, ViewSettings], None], view: ViewSettings) -> None:
    """Raw tar reads and image decoding (and resizing)."""
    for shard in Dataset.open(str(dataset)).shards:
        with tarfile.open(shard.url, "r:") as tar:
            for member in tar:
                content = tar.extractfile(member)
                data = content.read() if content else b""
                if member.name.endswith(".jpg"):
                    decode(data, view)


def loader_of(dataset: Path, view: ViewSettings, workers: int = 0) -> Loader:
    """A loader in batches of eight; without workers it is this process."""
    data = DataSettings(str(dataset), batch_images=8, workers=workers)
    opened = Dataset.open(str(dataset))
    shards = Shards(opened.shards, str(dataset / "buffer"), 2**30, data.window_shards + 2)
    return Loader(opened, shards, data, view, embeddings=False)


def rate_of_workers(dataset: Path, view: ViewSettings, n: int) -> float:
    """Images a second from two loader processes, once they run."""
    loader = loader_of(dataset, view, workers=2)
    batches = loader.steps(4 * n // 8 + 16)
    for _ in range(16):  # twice as many as may be ready, so that from here on the trainer waits
        next(batches)
    begun = time.perf_counter()
    read = sum(len(batch.keys) for (batch,) in batches)
    return round(read / (time.perf_counter() - begun), 1)


def pad_and_mirror_ms(dataset: Path, view: ViewSettings) -> float:
    """Median milliseconds an image of `Batch.images`."""
    loader = loader_of(dataset, view)
    spent = []
    for (batch,) in loader.steps(8):
        begun = time.perf_counter()
        batch.images()
        spent.append((time.perf_counter() - begun) / 8 * 1000)
    return round(statistics.median(spent), 3)


def epochs(dataset: Path, view: ViewSettings, n: int) -> Callable[[], None]:
    """A loader of this process, ready; each call reads one epoch in batches of eight."""
    loader = loader_of(dataset, view)

    def epoch() -> None:
        for _ in loader.steps(n // 8):
            pass

    return epoch


if __name__ == "__main__":
    main()
