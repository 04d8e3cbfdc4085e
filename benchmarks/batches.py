"""Images a forward pass over images of many sizes: by size inside a part, against micro-batches in the part's order.

python -m benchmarks.batches --captions captions_val2017.json
python -m benchmarks.batches --captions captions_val2017.json --time ViT-B-32

Sizes are those that the COCO file lists, shuffled once. A row per teacher, batch and images per part: images a pass, and
the share of passes that are full, in both ways. With --time the annotator also runs over pictures of such sizes,
both ways in turns, on the CPU: CPU milliseconds per image, and what reading headers costs of them. The last line is JSON.
"""

from __future__ import annotations

import argparse
import json
import random
import statistics
import time
from pathlib import Path
from typing import Any

from benchmarks.timing import unit_rows
from concept_pool.settings import PoolSettings
from pipeline import teachers
from pipeline.dataset.concepts import Vocabulary
from pipeline.localizers.settings import LocalizerSettings
from pipeline.rejects import Rejects
from pipeline.settings import BuildSettings
from pipeline.sources.settings import SourceSettings
from pipeline.stages.annotate import Annotator
from pipeline.stages.batches import micro_batches, seen_size
from pipeline.teachers.batching import groups_by_size
from pipeline.teachers.preprocess import Preprocess
from pipeline.teachers.settings import TeacherSettings
from tests import pictures

#: Name, short and long side in pixels, multiple of.
TEACHERS = [
    ("RN50, 800 px", 800, 1333, 32),
    ("ViT-B/16, 224 px", 224, 373, 16),
    ("ViT-L/14, 336 px", 336, 560, 14),
]
BATCHES, PARTS = (8, 16, 32), (100, 1000)


def main() -> None:
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--captions", required=True, help="COCO captions JSON: its images' sizes")
    parser.add_argument("--time", help="an open_clip model to time")
    options = parser.parse_args()
    document = json.loads(Path(options.captions).read_text(encoding="utf-8"))
    sizes = [(image["height"], image["width"]) for image in document["images"]]
    random.Random(0).shuffle(sizes)
    rows = [
        count(sizes, *teacher, batch, part) for teacher in TEACHERS for batch in BATCHES for part in PARTS
    ]
    for row in rows:
        print(json.dumps(row))
    result: dict[str, Any] = {"rows": rows}
    if options.time:
        result["timed"] = measure(sizes[:64], options.time)
    print(json.dumps(result))


def count(
    sizes: list[tuple[int, int]], name: str, short: int, long: int, multiple: int, batch: int, part: int
) -> dict[str, Any]:
    """Passes over all whole parts."""
    preprocess = Preprocess(short, long, multiple, (0.0,) * 3, (1.0,) * 3)
    seen = [preprocess.size_of(*size) for size in sizes]
    passes: dict[str, list[int]] = {"in_order": [], "by_size": []}
    for start in range(0, len(seen) - part + 1, part):
        some = seen[start : start + part]
        order = [list(range(part))[i : i + batch] for i in range(0, part, batch)]
        for way, batches in (("in_order", order), ("by_size", micro_batches(some, batch))):
            for positions in batches:
                passes[way] += map(len, groups_by_size({i: some[i] for i in positions}, batch))
    found = {"teacher": name, "batch_images": batch, "images_a_part": part, "sizes": len(set(seen))}
    for way, lengths in passes.items():
        found[f"images_a_pass_{way}"] = round(sum(lengths) / len(lengths), 2)
        found[f"full_{way}"] = round(sum(n == batch for n in lengths) / len(lengths), 2)
    return found


def measure(sizes: list[tuple[int, int]], model: str) -> dict[str, Any]:
    """CPU seconds per image of the annotator, in turns."""
    settings = BuildSettings(
        source=SourceSettings(kind="shapes"),
        pool=PoolSettings(min_count=1),
        localizer=LocalizerSettings(kind="grid", max_proposals=10),
        teacher=TeacherSettings(kind="open_clip", model=model, image_size=96, batch_images=16),
    )
    teacher = teachers.load(settings.teacher)
    vocabulary = Vocabulary(["ball"], unit_rows(1, teacher.dim), "0" * 16)
    annotator = Annotator(settings, vocabulary, "0" * 16, teacher=teacher)
    same = {"source": "", "captions": ["a red ball"], "extra": "", "mentioned": [0], "spans": []}
    images = [pictures.encode(pictures.photo(w, h, seed=i)) for i, (h, w) in enumerate(sizes)]
    part = [{**same, "key": f"{i:024x}", "source_key": str(i), "image": d} for i, d in enumerate(images)]
    used: dict[str, list[float]] = {"in_order": [], "by_size": []}
    size_of = teacher.seen_size  # type: ignore[attr-defined]
    for _ in range(4):
        for way in used:
            type(teacher).seen_size = size_of if way == "by_size" else None  # type: ignore[attr-defined]
            started = time.process_time()
            assert len(annotator(part, Rejects("x"))) == len(part)
            used[way].append((time.process_time() - started) / len(part))
    started = time.process_time()
    for image in images:
        seen_size(image, size_of)
    header_s = (time.process_time() - started) / len(images)
    median = {way: round(1000 * statistics.median(times[1:]), 2) for way, times in used.items()}
    return {"model": model, "cpu_ms_per_image": median, "header_ms_per_image": round(1000 * header_s, 3)}


if __name__ == "__main__":
    main()
