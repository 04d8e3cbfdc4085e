"""Peak memory of counting concepts at growing numbers of captions.

python -m benchmarks.pool_memory --captions captions.json --sizes 25000 250000 2500000

Each size runs in a process of its own. The captions are those of the file, over and over; one in ten is perturbed (a
word becomes another word of the corpus, or a made-up one in a fifth of these cases), so that the vocabulary and
the work grow as they would with a larger corpus. What is repeated word for word comes from the parser's cache, as in a
real run. The last line is JSON: for each size the peak RSS in MiB, before and after, and the names counted.
"""

from __future__ import annotations

import argparse
import json
import os
import random
import resource
import subprocess
import sys
import time
from collections.abc import Iterator
from pathlib import Path

from concept_pool.count import Counts, count_block
from concept_pool.parse import Parser
from concept_pool.settings import PoolSettings

ONE_THREAD = dict.fromkeys(("OMP_NUM_THREADS", "OPENBLAS_NUM_THREADS"), "1")


def main() -> None:
    arguments = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    arguments.add_argument("--captions", required=True, help="COCO captions JSON")
    arguments.add_argument("--sizes", type=int, nargs="+", default=[25_000, 250_000, 2_500_000])
    arguments.add_argument("--one", type=int, help=argparse.SUPPRESS)
    options = arguments.parse_args()
    if options.one:
        print(json.dumps(measure(options.captions, options.one)))
        return
    results = {}
    for size in options.sizes:
        command = [sys.executable, __file__, "--captions", options.captions, "--one", str(size)]
        output = subprocess.run(command, check=True, capture_output=True, text=True).stdout
        results[str(size)] = json.loads(output.splitlines()[-1])
        print(size, results[str(size)], file=sys.stderr, flush=True)
    print(json.dumps(results))


def measure(path: str, size: int) -> dict[str, float]:
    captions = [a["caption"] for a in json.loads(Path(path).read_text(encoding="utf-8"))["annotations"]]
    parser = Parser(PoolSettings())
    parser.parse(captions[:300])
    before = peak_mib()
    started = time.perf_counter()
    counts = Counts(max_examples=parser.settings.max_examples)
    for block in blocks(captions, size):
        counts.merge(count_block(block, parser)[0])
    return {
        "captions": counts.n_captions,
        "names": len(counts.images),
        "peak_rss_mib_before": before,
        "peak_rss_mib": peak_mib(),
        "wall_s": round(time.perf_counter() - started, 1),
    }


def blocks(captions: list[str], size: int, images: int = 1000) -> Iterator[list[list[str]]]:
    """`size` captions, five an image, in blocks of `images`."""
    rng = random.Random(0)
    words = [word for caption in captions for word in caption.split()]
    block: list[list[str]] = []
    for start in range(0, size, 5):
        block.append([perturbed(captions[i % len(captions)], words, rng) for i in range(start, start + 5)])
        if len(block) == images:
            yield block
            block = []
    if block:
        yield block


def perturbed(caption: str, words: list[str], rng: random.Random) -> str:
    if rng.random() >= 0.1:
        return caption
    own = caption.split()
    made_up = "".join(rng.choices("aeioulnrstbdkm", k=7))
    own[rng.randrange(len(own))] = made_up if rng.random() < 0.2 else rng.choice(words)
    return " ".join(own)


def peak_mib() -> float:
    return round(resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 1024, 1)


if __name__ == "__main__":
    if os.environ.get("OPENBLAS_NUM_THREADS") != "1":  # read when NumPy is loaded: start again
        os.execve(sys.executable, [sys.executable, *sys.argv], {**os.environ, **ONE_THREAD})
    main()
