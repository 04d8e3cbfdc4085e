"""How many names stand in a noun phrase, how many phrases grow, and what parsing them costs (`pool.phrases`).

python -m benchmarks.phrases [--n 2000] [--show 20]

The last line is JSON. Captions are COCO val2017's, of the shared data, every k-th of them, and the labelled ones of the
tests. `seconds_over_plain` is the CPU time of parsing with phrases over that without, in turns on captions that neither
has seen.
"""

from __future__ import annotations

import argparse
import json
import statistics
import time
from pathlib import Path
from typing import Any

from benchmarks.parse_captions import read_captions
from benchmarks.shared_data import find_shared_data
from concept_pool.parse import Parsed, Parser
from concept_pool.settings import PoolSettings

LABELLED = Path(__file__).resolve().parents[1] / "tests/concept_pool/labelled_captions.tsv"
PHRASES, PLAIN = PoolSettings(phrases=True, cache_captions=0), PoolSettings(cache_captions=0)


def main() -> None:
    arguments = argparse.ArgumentParser(description=__doc__)
    arguments.add_argument("--n", type=int, default=2000, help="captions of COCO")
    arguments.add_argument(
        "--show", type=int, default=0, help="labelled captions to print with their phrases"
    )
    options = arguments.parse_args()
    parser, plain = Parser(PHRASES), Parser(PLAIN)
    lines = LABELLED.read_text(encoding="utf-8").splitlines()
    labelled = [line.split("\t")[1] for line in lines if line and not line.startswith("#")]
    found = parser.analyse(labelled)
    for caption, one in list(zip(labelled, found, strict=True))[
        :: max(1, len(labelled) // max(1, options.show))
    ]:
        if options.show:
            print(caption, "->", [text_of(caption, p) for p in parser.phrases(caption, one)])
    result: dict[str, Any] = {"labelled": figures(found)}
    if data := find_shared_data():
        captions = read_captions(str(next((data / "captions").glob("*.json"))), options.n)
        seconds: dict[str, list[float]] = {"phrases": [], "plain": []}
        parsed: list[Parsed] = []
        for start in range(0, len(captions), 250):
            for name, which in (("phrases", parser), ("plain", plain)):
                began = time.process_time()
                read = which.analyse(captions[start : start + 250])
                seconds[name].append(time.process_time() - began)
                parsed += read if name == "phrases" else []
        ratios = [a / b for a, b in zip(seconds["phrases"], seconds["plain"], strict=True)]
        result["coco"] = figures(parsed)
        result["seconds_over_plain"] = round(statistics.median(ratios), 2)
        result["ms_a_caption"] = round(1000 * sum(seconds["phrases"]) / len(captions), 2)
    print(json.dumps(result))


def text_of(caption: str, phrase: Any) -> tuple[str, str | None]:
    expression = phrase.expression
    return caption[slice(*phrase.chunk)], caption[slice(*expression)] if expression else None


def figures(captions: list[Parsed]) -> dict[str, float]:
    """Counts, and shares of all names, phrases and chunks."""
    spans = sum(len(one.spans) for one in captions)
    headed = sum(
        any(start <= p.head < end for p in one.phrases) for one in captions for _, start, end in one.spans
    )
    phrases = [p for one in captions for p in one.phrases]
    kept = [p for p in phrases if p.expression]
    return {
        "captions": len(captions),
        "names": spans,
        "names_that_head_a_chunk": round(headed / max(1, spans), 3),
        "chunks": len(phrases),
        "expressions": len(kept),
        "expressions_longer_than_their_chunk": sum(p.expression != p.chunk for p in kept),
    }


if __name__ == "__main__":
    main()
