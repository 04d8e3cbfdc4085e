"""A softmax classifier of region embeddings over C concepts and background, and its file."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from safetensors.numpy import load as load_tensors
from safetensors.numpy import save as save_tensors

from pipeline.scores import Objectness

FORMAT = "regionpairs-corpus-classifier-1"


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


def to_bytes(classifier: Classifier, metadata: dict[str, str] | None = None) -> bytes:
    """A safetensors file: `weights`, `bias`, and `numbers` (tau, objectness scale and offset)."""
    o = classifier.objectness
    tensors = {
        "weights": np.ascontiguousarray(classifier.weights, np.float32),
        "bias": np.ascontiguousarray(classifier.bias, np.float32),
        "numbers": np.array([classifier.tau, o.scale, o.offset], np.float64),
    }
    return save_tensors(tensors, {"format": FORMAT, **(metadata or {})})


def from_bytes(data: bytes) -> Classifier:
    """Raises ValueError for anything that `to_bytes` did not write."""
    try:
        tensors = load_tensors(data)
        weights, bias, numbers = (tensors[name] for name in ("weights", "bias", "numbers"))
    except Exception as e:
        raise ValueError(f"no classifier of the corpus pass: {e}") from e
    if weights.ndim != 2 or bias.shape != weights.shape[:1] or numbers.shape != (3,):
        raise ValueError(f"no classifier of the corpus pass: weights {weights.shape}, bias {bias.shape}")
    if not (np.isfinite(weights).all() and np.isfinite(bias).all() and np.isfinite(numbers).all()):
        raise ValueError("no classifier of the corpus pass: it holds NaN or infinity")
    tau, scale, offset = (float(n) for n in numbers)
    return Classifier(weights, bias, tau, Objectness(scale, offset))
