"""A softmax classifier of region embeddings over C concepts and background, and its file."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np

from pipeline.corpus import files
from pipeline.scores import Objectness

KIND = "corpus classifier"


@dataclass(frozen=True)
class Classifier:
    """logit of concept c for the unit embedding x: w_c . x / tau + b_c; background is row C.

    weights: float32 [C + 1, D]. bias: float32 [C + 1]. tau: the teacher's temperature. objectness: how a raw objectness
    becomes the probability that there is an object.
    """

    weights: np.ndarray
    bias: np.ndarray
    tau: float
    objectness: Objectness

    @property
    def n_concepts(self) -> int:
        return len(self.bias) - 1

    def logits(self, embeddings: np.ndarray, rows: np.ndarray | None = None) -> np.ndarray:
        """float32 [R, C + 1] of unit embeddings [R, D], or of the given rows only."""
        weights, bias = (self.weights, self.bias) if rows is None else (self.weights[rows], self.bias[rows])
        return embeddings @ weights.T / np.float32(self.tau) + bias


def from_text(text: np.ndarray, tau: float, objectness: Objectness) -> Classifier:
    """Where a fit starts: each concept at its text embedding [C, D], background at their mean."""
    unit = unit_rows(text)
    weights = np.concatenate([unit, unit.mean(axis=0, keepdims=True)])
    return Classifier(weights, np.zeros(len(weights), np.float32), tau, objectness)


def unit_rows(rows: np.ndarray) -> np.ndarray:
    """float32 rows of length 1; a row of zeros stays."""
    rows = rows.astype(np.float32)
    return rows / np.maximum(np.linalg.norm(rows, axis=1, keepdims=True), np.float32(1e-12))


def to_bytes(classifier: Classifier, made_for: str = "") -> bytes:
    """A file of tensors (pipeline/corpus/files.py): `weights`, `bias`, `numbers` (tau, objectness scale and offset)."""
    o = classifier.objectness
    tensors: dict[str, np.ndarray] = {
        "weights": classifier.weights.astype(np.float32),
        "bias": classifier.bias.astype(np.float32),
        "numbers": np.array([classifier.tau, o.scale, o.offset], np.float64),
    }
    return files.to_bytes(tensors, KIND, made_for)


def from_bytes(data: bytes, made_for: str | None = None) -> Classifier:
    """Raises ValueError for anything that `to_bytes` did not write, or wrote for something else."""
    tensors = files.from_bytes(data, KIND, made_for)
    weights, bias, numbers = (tensors[name] for name in ("weights", "bias", "numbers"))
    if not (np.isfinite(weights).all() and np.isfinite(bias).all() and np.isfinite(numbers).all()):
        raise ValueError(f"no {KIND}: it holds NaN or infinity")
    tau, scale, offset = (float(n) for n in numbers)
    return Classifier(weights, bias, tau, Objectness(scale, offset))
