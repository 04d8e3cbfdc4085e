"""How fast a pool is embedded: all prompts in large batches against one concept at a time (RegionCLIP's way).

python benchmarks/pool_embed.py --quick

The text tower of CLIP RN50 with random weights and, on a CPU, one of its twelve layers: ratios hardly depend on either.
The ways take turns in one process. The last line is JSON: `batched_vs_one_at_a_time`, and `trimmed_vs_full_context`, the
same batched run with an encoder that cuts the context behind the longest prompt (exact: the text transformer is causal
and reads out at the end of text).
"""

from __future__ import annotations

import argparse
import json
import statistics
import time
from collections.abc import Callable

import torch
from open_clip.tokenizer import SimpleTokenizer
from open_clip.transformer import TextTransformer

from concept_pool.embed import embed_pool
from concept_pool.prompts import load_templates

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


def measure(names: list[str], turns: int, device: str) -> dict[str, float]:
    torch.manual_seed(0)
    layers = 1 if device == "cpu" else 12
    model = TextTransformer(width=512, heads=8, layers=layers, output_dim=1024).eval().to(device)
    tokenizer = SimpleTokenizer()

    def encode(prompts: list[str]) -> torch.Tensor:
        return model(tokenizer(prompts).to(device))

    def encode_trimmed(prompts: list[str]) -> torch.Tensor:
        tokens = tokenizer(prompts)
        return encode_tokens(model, tokens[:, : int((tokens != 0).sum(1).max())].to(device))

    templates = load_templates()
    ways: dict[str, Callable[[], object]] = {
        "batched": lambda: embed_pool(names, templates, encode),
        "one": lambda: [embed_pool([name], templates, encode) for name in names],
        "trimmed": lambda: embed_pool(names, templates, encode_trimmed),
    }
    difference = abs(
        embed_pool(names[:2], templates, encode) - embed_pool(names[:2], templates, encode_trimmed)
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
        "trimmed_vs_full_context": ratio("batched", "trimmed"),
        "largest_difference": float(difference),
        "concepts": len(names),
        "prompts": len(names) * len(templates),
        **{f"{name}_s": round(statistics.median(values), 3) for name, values in seconds.items()},
    }


def encode_tokens(model: TextTransformer, tokens: torch.Tensor) -> torch.Tensor:
    """The model's forward for a context shorter than its own."""
    length = tokens.shape[1]
    x = model.token_embedding(tokens) + model.positional_embedding[:length]
    x = model.ln_final(model.transformer(x, attn_mask=model.attn_mask[:length, :length]))
    return x[torch.arange(len(x)), tokens.argmax(-1)] @ model.text_projection


if __name__ == "__main__":
    main()
