"""The pairs as the .json member lists them, against the slow way."""

from __future__ import annotations

import json

import numpy as np

from pipeline.align import Alignment
from pipeline.dataset.sample import pair_rows

NAMES = [f"thing {i}" for i in range(50)]
SPANS = [
    {"concept_id": 7, "caption": 1, "start": 2, "end": 7},
    {"concept_id": 7, "caption": 0, "start": 0, "end": 5},
]


def made(n: int, seed: int = 0) -> tuple[dict[str, np.ndarray], Alignment]:
    """Regions whose numbers lie on, and next to, the places where a decimal is rounded."""
    rng = np.random.default_rng(seed)
    halves = (rng.integers(0, 10**5, (n, 8)) + 0.5) / rng.choice([10**4, 10**5], (n, 8))
    near = np.nextafter(halves.astype(np.float32), rng.choice([-9, 9], (n, 8)).astype(np.float32))
    numbers = np.where(rng.random((n, 8)) < 0.5, halves.astype(np.float32), near) * rng.choice(
        [-1, 1], (n, 8)
    )
    numbers = numbers.astype(np.float32)
    arrays = {"boxes_xyxy_norm": numbers[:, :4], "objectness": numbers[:, 4]}
    alignment = Alignment(
        topk_ids=rng.integers(0, 50, (n, 3)).astype(np.int32),
        topk_probs=numbers[:, 5:6].repeat(3, axis=1),
        residual=numbers[:, 7],
        scores=numbers[:, 6],
        reasons=(rng.random(n) < 0.3).astype(np.uint8),
        margin=numbers[:, 7],
    )
    return arrays, alignment


def one_by_one(arrays, alignment, spans) -> list[dict]:
    rows = []
    for region in np.flatnonzero(alignment.reasons == 0):
        concept = int(alignment.topk_ids[region, 0])
        mentions = [
            {k: s[k] for k in ("caption", "start", "end")} for s in spans if s["concept_id"] == concept
        ]
        rows.append(
            {
                "region": int(region),
                "box_xyxy_norm": [round(float(v), 5) for v in arrays["boxes_xyxy_norm"][region]],
                "concept_id": concept,
                "concept": NAMES[concept],
                "probability": round(float(alignment.topk_probs[region, 0]), 4),
                "score": round(float(alignment.scores[region]), 4),
                "margin": round(float(alignment.margin[region]), 4),
                "objectness": round(float(arrays["objectness"][region]), 4),
                "mentions": mentions,
            }
        )
    return rows


def test_the_pairs_are_those_of_a_loop_with_pythons_round():
    arrays, alignment = made(4000)
    got, want = pair_rows(arrays, alignment, NAMES, SPANS), one_by_one(arrays, alignment, SPANS)
    assert len(want) > 2000
    assert any(row["mentions"] for row in want)
    assert json.dumps(got) == json.dumps(want)


def test_an_image_without_a_region_has_no_pairs():
    arrays, alignment = made(0)
    assert pair_rows(arrays, alignment, NAMES) == []
