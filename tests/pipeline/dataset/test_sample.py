"""The pairs as the .json member lists them, against the slow way."""

from __future__ import annotations

import json

import numpy as np
import pytest

from pipeline.align import Alignment
from pipeline.dataset.sample import annotated_row, pair_texts, pairs_json

NAMES = [f'thing "{i}" é\\' for i in range(50)]
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


@pytest.mark.parametrize("odd", [None, np.nan, np.inf])
def test_the_pairs_are_those_of_a_loop_with_pythons_round(odd):
    arrays, alignment = made(4000)
    if odd is not None:
        arrays["objectness"][::2] = odd
    want = one_by_one(arrays, alignment, SPANS)
    assert len(want) > 2000
    assert any(row["mentions"] for row in want)
    assert pairs_json(arrays, alignment, NAMES, SPANS) == json.dumps(want, ensure_ascii=False)


def test_an_image_without_a_region_has_no_pairs():
    arrays, alignment = made(0)
    assert pairs_json(arrays, alignment, NAMES) == "[]"


def test_the_pairs_of_many_images_at_once_are_those_of_each_alone():
    images = [made(n) for n in (3, 0, 40, 1, 200)]
    images[2][0]["objectness"][:] = -2.5  # outside of the table, as raw logits are
    none = np.zeros((4, 0), np.float32)
    nothing = Alignment(
        none.astype(np.int32), none, none.sum(1), none.sum(1), np.ones(4, np.uint8), none.sum(1)
    )
    images.append((made(4)[0], nothing))  # a pool without a name
    together = [
        pairs_json(*image, NAMES, SPANS, texts=texts)
        for image, texts in zip(images, pair_texts(images), strict=True)
    ]
    assert together == [json.dumps(one_by_one(*i, SPANS), ensure_ascii=False) for i in images[:-1]] + ["[]"]
    assert pair_texts([]) == []


def test_the_pairs_as_text_give_the_same_sample_as_the_pairs_as_a_list():
    arrays, alignment = made(20)
    arrays |= {"kept": alignment.reasons, "topk_ids": alignment.topk_ids}
    pairs, meta = one_by_one(arrays, alignment, ()), {"captions": ['a "réd" ball, "pairs": []']}
    as_list = annotated_row("0" * 24, "jpg", b"", {**meta, "pairs": pairs}, arrays)
    as_text = annotated_row("0" * 24, "jpg", b"", meta, arrays, pairs_json(arrays, alignment, NAMES))
    assert as_text == as_list
    assert json.loads(as_text["meta"])["n_pairs"] == len(pairs) > 5
