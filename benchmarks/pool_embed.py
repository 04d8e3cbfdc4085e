"""How fast a pool is embedded: all prompts in large batches against one concept at a time (RegionCLIP's way).

python -m benchmarks.pool_embed --quick

The text tower of CLIP RN50 with random weights and, on a CPU, one of its twelve layers: ratios hardly depend on either.
The ways take turns in one process. The last line is JSON: `batched_vs_one_at_a_time`, both by open_clip's own
`encode_text`, and `trimmed_vs_full_context`, the same batched run with the teacher's, which puts prompts of similar length
together and cuts the context behind the longest (exact: the text transformer is causal and reads out at the end of text).
"""

from __future__ import annotations

import argparse
import json
import statistics
import tempfile
import time
from collections.abc import Callable
from pathlib import Path

import open_clip
import torch

from concept_pool.embed import embed_pool
from concept_pool.prompts import load_templates
from pipeline.teachers.clip import ClipTeacher
from pipeline.teachers.settings import TeacherSettings

NAMES = [
    "man",
    "woman",
    "table",
    "traffic light",
    "hot dog",
    "tennis racket",
    "kitchen counter",
    "dog",
    "apple",
    "umbrella",
    "bus",
    "giraffe",
]


def main() -> None:
    arguments = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    arguments.add_argument("--quick", action="store_true", help="fewer concepts and turns")
    arguments.add_argument("--device", default="cpu")
    arguments.add_argument("--concepts", type=int, default=0, help="concepts to embed; 0: 4 (quick) or 12")
    options = arguments.parse_args()
    if options.device == "cpu":
        torch.set_num_threads(1)
    turns = 3 if options.quick else 7
    n = options.concepts or (4 if options.quick else 12)
    names = [NAMES[i % len(NAMES)] for i in range(n)]
    print(json.dumps(measure(names, turns, options.device)))


def one_layer_teacher(device: str) -> ClipTeacher:
    """RN50's text tower with random weights (on a CPU one layer of it) beside an image tower that nobody runs."""
    config = {
        "embed_dim": 1024,
        "vision_cfg": {"image_size": 32, "layers": 1, "width": 64, "patch_size": 16},
        "text_cfg": {
            "context_length": 77,
            "vocab_size": 49408,
            "width": 512,
            "heads": 8,
            "layers": 1 if device == "cpu" else 12,
        },
    }
    with tempfile.TemporaryDirectory() as folder:
        file = Path(folder) / "text-tower.json"
        file.write_text(json.dumps(config))
        open_clip.add_model_config(file)
        return ClipTeacher(TeacherSettings(kind="open_clip", model=file.stem, device=device, image_size=32))


@torch.inference_mode()
def measure(names: list[str], turns: int, device: str) -> dict[str, float]:
    teacher = one_layer_teacher(device)

    def encode(prompts: list[str]) -> torch.Tensor:
        batches = [prompts[i : i + teacher.batch_texts] for i in range(0, len(prompts), teacher.batch_texts)]
        return torch.cat(
            [teacher.model.encode_text(teacher.tokenizer(b).to(teacher.device)).cpu() for b in batches]
        )

    templates = load_templates()
    ways: dict[str, Callable[[], object]] = {
        "batched": lambda: embed_pool(names, templates, encode),
        "one": lambda: [embed_pool([name], templates, encode) for name in names],
        "teacher": lambda: embed_pool(names, templates, teacher.encode_text),
    }
    difference = abs(
        embed_pool(names[:2], templates, encode) - embed_pool(names[:2], templates, teacher.encode_text)
    ).max()
    seconds: dict[str, list[float]] = {name: [] for name in ways}
    for _ in range(turns):
        for name, way in ways.items():
            started = time.perf_counter()
            way()
            seconds[name].append(time.perf_counter() - started)

    def ratio(slow: str, fast: str) -> float:
        return round(statistics.median(a / b for a, b in zip(seconds[slow], seconds[fast], strict=True)), 3)

    return {
        "batched_vs_one_at_a_time": ratio("one", "batched"),
        "trimmed_vs_full_context": ratio("batched", "teacher"),
        "largest_difference": float(difference),
        "concepts": len(names),
        "prompts": len(names) * len(templates),
        **{f"{name}_s": round(statistics.median(values), 3) for name, values in seconds.items()},
    }


if __name__ == "__main__":
    main()
