"""What a sample holds: its arrays and its JSON, the writing beside the reading (docs/format.md)."""

from __future__ import annotations

import json
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any

import numpy as np

from pipeline.dataset.decimals import decimals, to_json
from pipeline.dataset.layout import FORMAT_VERSION
from pipeline.dataset.npz import read_npz, write_npz

if TYPE_CHECKING:
    from pipeline.align import Alignment

#: Arrays with a row a region that every sample has.
REGION_ARRAYS = ("boxes_xyxy_norm", "objectness", "topk_ids", "topk_probs", "residual", "scores", "kept")
#: Members that are not the image.
SIDE_MEMBERS = ("json", "npz")
_quoted: Callable[[str], str] = json.encoder.encode_basestring


@dataclass(frozen=True)
class Sample:
    """One sample of a shard.

    image: the original bytes; extension: of their format. meta: the .json member. arrays: the .npz member. columns:
    namespace -> what a user attached, where it was asked for (`pipeline/dataset/columns.py`).
    """

    key: str
    extension: str
    image: bytes
    meta: dict[str, Any]
    arrays: dict[str, np.ndarray]
    columns: dict[str, Any] = field(default_factory=dict)

    @staticmethod
    def parse(key: str, members: Mapping[str, bytes]) -> Sample:
        """A sample from its members, extension -> bytes; labels alone have no image, and then it is empty.

        Raises ValueError or KeyError if they are none.
        """
        (extension,) = [name for name in members if name not in SIDE_MEMBERS] or [""]
        meta = json.loads(members["json"])
        return Sample(key, extension, members.get(extension, b""), meta, read_npz(members["npz"]))

    def region_embeddings(self) -> np.ndarray:
        """float32 [R, D], unit rows up to rounding; [R, 0] where the dataset stores none."""
        return region_embeddings(self.arrays)


def region_embeddings(arrays: Mapping[str, np.ndarray]) -> np.ndarray:
    """float32 [R, D] from `region_embeddings` (and `region_scales`, where they are int8); [R, 0] where there are none."""
    stored = arrays.get("region_embeddings")
    if stored is None:
        return np.zeros((len(arrays["boxes_xyxy_norm"]), 0), np.float32)
    embeddings = stored.astype(np.float32)
    if "region_scales" in arrays:
        embeddings *= arrays["region_scales"].astype(np.float32)[:, None]
    return embeddings


def region_embedding_arrays(regions: np.ndarray, form: str) -> dict[str, np.ndarray]:
    """Embeddings [R, D] as they are stored, unit rows: form none, fp16, or int8 with one scale a region."""
    if form == "none":
        return {}
    import torch  # here: readers need none

    unit = torch.nn.functional.normalize(torch.as_tensor(regions), dim=1).numpy()
    if form == "fp16":
        return {"region_embeddings": unit.astype(np.float16)}
    scales = np.maximum(np.abs(unit).max(axis=1), 1e-12).astype(np.float32) / 127
    return {"region_embeddings": np.rint(unit / scales[:, None]).astype(np.int8), "region_scales": scales}


def alignment_arrays(alignment: Alignment, n_concepts: int) -> dict[str, np.ndarray]:
    """An alignment as it is stored: ids as uint16 where they fit, probabilities as float16; `kept` holds the reasons.

    `background` is there where the label policy knows of one.
    """
    background = (
        {} if alignment.background is None else {"background": alignment.background.astype(np.float16)}
    )
    return {
        "topk_ids": alignment.topk_ids.astype(np.uint16 if n_concepts <= 65536 else np.uint32),
        "topk_probs": alignment.topk_probs.astype(np.float16),
        "residual": alignment.residual.astype(np.float16),
        "scores": alignment.scores.astype(np.float16),
        "kept": alignment.reasons.astype(np.uint8),
        **background,
    }


def is_pair(arrays: Mapping[str, np.ndarray]) -> np.ndarray:
    """bool [R]: the regions that are pairs. `kept` holds a reason for every region, and 0 for those (docs/format.md)."""
    return arrays["kept"] == 0


def pack_arrays(arrays: Mapping[str, np.ndarray]) -> bytes:
    """The .npz member: uncompressed, no pickle, fixed time stamps."""
    return write_npz(arrays)


@dataclass(frozen=True)
class PairTexts:
    """The numbers of one image's pairs as the .json member has them; a row a pair.

    kept: the regions. boxes: four a region, one after the other. shares: probability, score and margin. objectness.
    """

    kept: list[int]
    boxes: list[str]
    shares: tuple[list[str], list[str], list[str]]
    objectness: list[str]


def pair_texts(images: Sequence[tuple[Mapping[str, np.ndarray], Alignment]]) -> list[PairTexts]:
    """Those of each image, by its arrays and its alignment: numbers of many images are rounded at once."""
    kept = [np.flatnonzero(alignment.kept) for _, alignment in images]

    def together(values: Iterable[np.ndarray], digits: int) -> list[str]:
        return decimals(np.concatenate([v[k].ravel() for v, k in zip(values, kept, strict=True)]), digits)

    if not images:
        return []
    boxes = together((arrays["boxes_xyxy_norm"] for arrays, _ in images), 5)
    objectness = together((arrays["objectness"] for arrays, _ in images), 4)
    probability, score, margin = (
        together((values(alignment) for _, alignment in images), 4)
        for values in (lambda a: a.topk_probs[:, :1], lambda a: a.scores, lambda a: a.margin)
    )
    ends = np.cumsum([len(k) for k in kept]).tolist()
    return [
        PairTexts(
            regions.tolist(),
            boxes[4 * start : 4 * end],
            (probability[start:end], score[start:end], margin[start:end]),
            objectness[start:end],
        )
        for regions, start, end in zip(kept, [0, *ends[:-1]], ends, strict=True)
    ]


def pairs_json(
    arrays: Mapping[str, np.ndarray],
    alignment: Alignment,
    names: Sequence[str],
    spans: Iterable[Mapping[str, int]] = (),
    phrases: Iterable[Mapping[str, Any]] | None = None,
    texts: PairTexts | None = None,
) -> str:
    """The kept regions for human eyes, as the .json member lists them (docs/format.md), a JSON list.

    spans: where the captions name concepts, phrases: in which noun phrases; as `records.SAMPLES` has them. Pairs have
    `phrases` only where these are not None. texts: this image's of `pair_texts`, where there are some already.
    """
    if texts is None:
        (texts,) = pair_texts([(arrays, alignment)])
    if not texts.kept:
        return "[]"
    mentions: dict[int, list[str]] = {}
    for span in spans:
        place = f'{{"caption": {span["caption"]}, "start": {span["start"]}, "end": {span["end"]}}}'
        mentions.setdefault(span["concept_id"], []).append(place)
    said = {concept: f"[{', '.join(places)}]" for concept, places in mentions.items()}
    told = _phrases_of(phrases)
    corners = iter(texts.boxes)
    pairs = [
        f'{{"region": {region}, "box_xyxy_norm": [{left}, {top}, {right}, {bottom}], "concept_id": {concept}, '
        f'"concept": {_quoted(names[concept])}, "probability": {probability}, "score": {score}, "margin": {margin}, '
        f'"objectness": {objectness}, "mentions": {said.get(concept, "[]")}{told(concept)}}}'
        for region, left, top, right, bottom, concept, probability, score, margin, objectness in zip(
            texts.kept,
            *(corners,) * 4,
            alignment.topk_ids[texts.kept, 0].tolist(),
            *texts.shares,
            texts.objectness,
            strict=True,
        )
    ]
    return f"[{', '.join(pairs)}]"


def _phrases_of(phrases: Iterable[Mapping[str, Any]] | None) -> Callable[[int], str]:
    """The end of a concept's pair: its `phrases`, or nothing where those are not asked for."""
    if phrases is None:
        return lambda concept: ""
    found: dict[int, list[dict[str, Any]]] = {}
    for phrase in phrases:
        places = {k: v for k, v in phrase.items() if k != "concept_id" and v != []}
        found.setdefault(phrase["concept_id"], []).append(places)
    texts = {concept: to_json(places) for concept, places in found.items()}
    return lambda concept: f', "phrases": {texts.get(concept, "[]")}'


def stored_row(sample: Sample, members: Mapping[str, bytes]) -> dict[str, Any]:
    """A row of `records.ANNOTATED` of a sample that is there, its members byte for byte."""
    kept = np.flatnonzero(is_pair(sample.arrays))
    return {
        "key": sample.key,
        "extension": sample.extension,
        "image": sample.image,
        "meta": members["json"].decode(),
        "arrays": members["npz"],
        "n_regions": len(sample.arrays["kept"]),
        "n_pairs": len(kept),
        "pair_concept_ids": sample.arrays["topk_ids"][kept, 0].astype(int).tolist() if len(kept) else [],
    }


def annotated_row(
    key: str,
    extension: str,
    image: bytes,
    meta: Mapping[str, Any],
    arrays: Mapping[str, np.ndarray],
    pairs: str | None = None,
) -> dict[str, Any]:
    """A row of `records.ANNOTATED`; the counts in it and in its meta are those of the arrays.

    pairs: `pairs_json`, where `meta` has none.
    """
    kept = np.flatnonzero(is_pair(arrays))
    n_regions, n_pairs = len(arrays["kept"]), len(kept)
    end = {"format_version": FORMAT_VERSION, "key": key, "n_regions": n_regions, "n_pairs": n_pairs}
    document = to_json({**meta, **end}) if pairs is None else _joined(to_json(meta), pairs, to_json(end))
    return {
        "key": key,
        "extension": extension,
        "image": image,
        "meta": document,
        "arrays": pack_arrays(arrays),
        "n_regions": n_regions,
        "n_pairs": n_pairs,
        "pair_concept_ids": arrays["topk_ids"][kept, 0].tolist() if n_pairs else [],
    }


def _joined(head: str, pairs: str, end: str) -> str:
    """The JSON object of `head`, then of `pairs`, then of `end`."""
    return f'{head[:-1]}, "pairs": {pairs}, {end[1:]}'
