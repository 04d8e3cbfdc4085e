"""How fast captions are parsed, as ratios: to spaCy's default pipeline, to a bare pipe of the same components, and
of two Ray workers to one.

python -m benchmarks.parse_captions --quick

The last line is JSON: `vs_default_pipeline`, `vs_bare_pipe`, `two_workers_vs_one`. One thread a process. The ways
of parsing take turns in one process (A B C A B C ...), each turn on captions that none has seen; ratios are medians.
`two_workers_vs_one` needs two idle cores; on a busy machine `..._by_cpu_time` says what two cores would give if the
work did not wait: twice the CPU seconds of one worker over those of two. Without --captions the captions are made up
from a small grammar, with the lengths of COCO's.
"""

from __future__ import annotations

import argparse
import json
import os
import random
import statistics
import sys
import time
from collections.abc import Callable
from pathlib import Path

from concept_pool.count import count_block
from concept_pool.parse import Parser
from concept_pool.settings import PoolSettings
from concept_pool.tagger import load_spacy, use_numpy_blas

ONE_THREAD = dict.fromkeys(("OMP_NUM_THREADS", "OPENBLAS_NUM_THREADS", "BLIS_NUM_THREADS"), "1")
SETTINGS = PoolSettings(cache_captions=0)


def main() -> None:
    arguments = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    arguments.add_argument("--quick", action="store_true", help="fewer captions and turns, under 50 s")
    arguments.add_argument("--captions", help="COCO captions JSON")
    arguments.add_argument("--no-ray", action="store_true", help="leave the Ray ratio out")
    arguments.add_argument(
        "--ablation", action="store_true", help="what each measure brings, and nothing else"
    )
    options = arguments.parse_args()
    turns, size = (7, 256) if options.quick else (15, 1024)
    captions = read_captions(options.captions, turns * size + 2 * 3072)
    if options.ablation:
        print(json.dumps(ablation(captions, turns, size)))
        return
    result = one_core(captions, turns, size)
    if not options.no_ray:
        result |= ray_workers(captions, turns=4 if options.quick else 9)
    print(json.dumps(result))


def read_captions(path: str | None, n: int) -> list[str]:
    """n different captions, shuffled by a fixed seed."""
    if path:
        content = json.loads(Path(path).read_text(encoding="utf-8"))
        captions = sorted({annotation["caption"] for annotation in content["annotations"]})
        random.Random(0).shuffle(captions)
        return captions[:n]
    return sorted(made_up_captions(n), key=lambda caption: random.Random(caption).random())


def made_up_captions(n: int) -> set[str]:
    """n different captions of a small grammar; about as long as COCO's (11 tokens)."""
    rng = random.Random(0)
    things = [
        "man",
        "woman",
        "dog",
        "cat",
        "horse",
        "train",
        "bus",
        "skateboard",
        "pizza",
        "table",
        "bench",
        "tree",
        "street",
        "kitchen",
        "umbrella",
        "clock",
        "laptop",
    ]
    looks = [
        "small",
        "large",
        "red",
        "old",
        "young",
        "wooden",
        "colorful",
        "parked",
        "white",
        "brown",
        "green",
        "modern",
    ]
    acts = [
        "sitting on",
        "standing near",
        "next to",
        "riding",
        "looking at",
        "holding",
        "in front of",
        "walking past",
    ]

    def thing() -> str:
        return f"{rng.choice(['a', 'the', 'two', 'some'])} {rng.choice(looks)} {rng.choice(things)}"

    found: set[str] = set()
    while len(found) < n:
        found.add(f"{thing()} {rng.choice(acts)} {thing()} with {thing()}.".capitalize())
    return found


def one_core(captions: list[str], turns: int, size: int) -> dict[str, float]:
    """Our parse against spaCy's pipes, in captions a second."""
    default, bare, numpy_pipe = load_spacy(), load_spacy(), load_spacy()
    drop = [name for name in bare.component_names if name not in ("tok2vec", "tagger")]
    use_numpy_blas([pipe for name, pipe in numpy_pipe.pipeline if name in ("tok2vec", "tagger")])
    parser = Parser(SETTINGS)
    ways: dict[str, Callable[[list[str]], object]] = {
        "ours": parser.parse,
        "default": lambda batch: list(default.pipe(batch)),
        "bare": lambda batch: list(bare.pipe(batch, disable=drop)),
        "bare_numpy_blas": lambda batch: list(numpy_pipe.pipe(batch, disable=drop)),
        "ours_counted": lambda batch: count_block([[caption] for caption in batch], parser),
    }
    rates = in_turns(ways, captions, turns, size)

    def ratio(over: str, under: str) -> float:
        return ratio_of(rates[over], rates[under])

    return {
        "vs_default_pipeline": ratio("ours", "default"),
        "vs_bare_pipe": ratio("ours", "bare"),
        "vs_bare_pipe_same_blas": ratio("ours", "bare_numpy_blas"),
        "counting_vs_parsing": ratio("ours_counted", "ours"),
        **{f"{name}_captions_per_s": round(statistics.median(values), 1) for name, values in rates.items()},
    }


def ablation(captions: list[str], turns: int, size: int) -> dict[str, float]:
    """What each measure brings: captions a second over those of spaCy's default pipeline."""
    default, numpy_pipe = load_spacy(), load_spacy()
    use_numpy_blas([pipe for name, pipe in numpy_pipe.pipeline if name in ("tok2vec", "tagger")])
    slim = ["parser", "ner"]
    bare = [*slim, "attribute_ruler", "lemmatizer"]
    parser, cached = Parser(SETTINGS), Parser(PoolSettings())
    by_batch = {n: Parser(SETTINGS) for n in (32, 1024)}
    for n, other in by_batch.items():
        other.tagger._batch = n
    ways: dict[str, Callable[[list[str]], object]] = {
        "default": lambda batch: list(default.pipe(batch)),
        "without_parser_and_ner": lambda batch: list(default.pipe(batch, disable=slim)),
        "tagger_alone": lambda batch: list(default.pipe(batch, disable=bare)),
        "tagger_alone_numpy_blas": lambda batch: list(numpy_pipe.pipe(batch, disable=bare)),
        "ours": parser.parse,
        "ours_batches_of_32": by_batch[32].parse,
        "ours_batches_of_1024": by_batch[1024].parse,
        "ours_sorted_by_length": lambda batch: parser.parse(sorted(batch, key=len)),
        "ours_each_caption_twice": lambda batch: cached.parse(
            [*batch[: len(batch) // 2], *batch[: len(batch) // 2]]
        ),
    }
    rates = in_turns(ways, captions, turns, size)
    return {name: ratio_of(rates[name], rates["default"]) for name in ways}


def in_turns(
    ways: dict[str, Callable[[list[str]], object]], captions: list[str], turns: int, size: int
) -> dict[str, list[float]]:
    """Captions a second of each way, turn by turn, each turn on its own captions."""
    rates: dict[str, list[float]] = {name: [] for name in ways}
    for way in ways.values():
        way(captions[:64])
    for turn in range(turns):
        batch = captions[turn * size : (turn + 1) * size]
        for name, way in ways.items():
            started = time.perf_counter()
            way(batch)
            rates[name].append(len(batch) / (time.perf_counter() - started))
    return rates


def ratio_of(over: list[float], under: list[float]) -> float:
    return round(statistics.median(a / b for a, b in zip(over, under, strict=True)), 3)


def ray_workers(captions: list[str], turns: int) -> dict[str, float]:
    """Two warm Ray workers against one, on the same blocks, in turns."""
    import ray

    ray.init(
        address="local",
        num_cpus=2,
        include_dashboard=False,
        log_to_driver=False,
        runtime_env={"env_vars": ONE_THREAD},
    )
    worker = ray.remote(num_cpus=1)(CountingWorker)
    workers = [worker.remote() for _ in range(2)]
    blocks = [captions[start : start + 512] for start in range(0, len(captions) // 512 * 512, 512)][:6]
    ray.get([w.count.remote(block) for w in workers for block in blocks[:2]])
    seconds: dict[int, list[float]] = {1: [], 2: []}
    cpu_seconds: dict[int, list[float]] = {1: [], 2: []}
    for _ in range(turns):
        for n in (1, 2):
            started = time.perf_counter()
            cpu = ray.get([workers[i % n].count.remote(block) for i, block in enumerate(blocks)])
            cpu_seconds[n].append(sum(cpu))
            seconds[n].append(time.perf_counter() - started)
    ray.shutdown()
    ratios = [one / two for one, two in zip(seconds[1], seconds[2], strict=True)]
    return {
        "two_workers_vs_one": round(statistics.median(ratios), 3),
        "two_workers_vs_one_best": round(max(ratios), 3),
        "two_workers_vs_one_by_cpu_time": round(2 * ratio_of(cpu_seconds[1], cpu_seconds[2]), 3),
        "load_average": round(os.getloadavg()[0], 1),
    }


class CountingWorker:
    """What a worker of the job does with a block, with spaCy loaded."""

    def __init__(self) -> None:
        self.parser = Parser(SETTINGS)

    def count(self, captions: list[str]) -> float:
        """CPU seconds of counting a block as a table."""
        started = time.process_time()
        count_block([[caption] for caption in captions], self.parser)[0].to_table()
        return time.process_time() - started


if __name__ == "__main__":
    if os.environ.get("OPENBLAS_NUM_THREADS") != "1":  # read when NumPy is loaded: start again
        os.execve(sys.executable, [sys.executable, *sys.argv], {**os.environ, **ONE_THREAD})
    main()
