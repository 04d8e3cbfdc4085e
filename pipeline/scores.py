"""How good is a region-text pair? Scores that know of background, and the rules that a pair must meet. Pure NumPy."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np

from pipeline.settings import SCORES, AlignSettings

#: Why a region is or is not a pair: the values of the `kept` array (docs/format.md).
KEPT, BELOW_SCORE, TOO_SMALL, AREA, ASPECT, DUPLICATE, NOTHING_NAMED, NOT_AGREED = range(8)
REASONS = ("kept", "below score", "too small", "area", "aspect", "duplicate", "nothing named", "not agreed")


@dataclass(frozen=True)
class Objectness:
    """Raw objectness -> the probability that the region lies on an object: sigmoid(scale * raw + offset).

    1 and 0 take the localizer's own word for it; `fit_objectness` finds the two for a localizer and a kind of image.
    """

    scale: float = 1.0
    offset: float = 0.0

    def logit(self, raw: np.ndarray) -> np.ndarray:
        """float32 [R] within -12 .. 12, so that no region is certain."""
        return np.clip(self.scale * np.asarray(raw, np.float32) + self.offset, -12, 12).astype(np.float32)

    def __call__(self, raw: np.ndarray) -> np.ndarray:
        """float32 [R] in (0, 1)."""
        return (1 / (1 + np.exp(-self.logit(raw)))).astype(np.float32)


def fit_objectness(raw: np.ndarray, on_object: np.ndarray, iterations: int = 50) -> Objectness:
    """Platt scaling by Newton's method: raw [R] and on_object bool [R] -> the most likely `Objectness`.

    (Platt, Probabilistic outputs for support vector machines, 1999.) Targets are his (n + 1) / (n + 2), so that classes
    which separate perfectly have a finite answer. Raises ValueError without an example of both.
    """
    raw, on_object = np.asarray(raw, np.float64), np.asarray(on_object, bool)
    positive, negative = int(on_object.sum()), int((~on_object).sum())
    if not positive or not negative:
        raise ValueError("needs regions on objects and regions on none")
    mean, spread = raw.mean(), max(raw.std(), 1e-12)
    x = np.stack([(raw - mean) / spread, np.ones_like(raw)], axis=1)
    target = np.where(on_object, (positive + 1) / (positive + 2), 1 / (negative + 2))
    beta = np.array([0.0, np.log(positive / negative)])
    for _ in range(iterations):
        p = 1 / (1 + np.exp(-np.clip(x @ beta, -30, 30)))
        hessian = (x * (p * (1 - p))[:, None]).T @ x + 1e-6 * np.eye(2)
        step = np.linalg.solve(hessian, x.T @ (p - target))
        beta = beta - np.clip(step, -2, 2)
    return Objectness(float(beta[0] / spread), float(beta[1] - beta[0] * mean / spread))


def pair_scores(
    probabilities: np.ndarray,
    objectness: np.ndarray,
    kind: str,
    calibration: Objectness,
    weight: float = 1.0,
    background: np.ndarray | None = None,
) -> np.ndarray:
    """float32 [R] in [0, 1], by which pairs are kept and ranked.

    probabilities: float [R], of each label. objectness: float [R], raw. background: float [R], the label policy's own
    probability that nothing is there; None for policies that have no such class.
    kind `probability`: RegionCLIP's rule, the probability alone. kind `objectness`: p * P(object) ** weight
    [* sqrt(1 - background)]: a softmax over names has no answer for 'nothing here', the localizer has. The square root,
    since background was fitted with the objectness as its prior and would otherwise count it twice.
    """
    p = np.asarray(probabilities, np.float32)
    if kind == "probability":
        return p
    if kind != "objectness":
        raise ValueError(f"align.score: must be one of {', '.join(SCORES)}, not '{kind}'")
    score = p * calibration(objectness) ** np.float32(weight)
    if background is not None:
        score = score * np.sqrt(np.clip(1 - np.asarray(background, np.float32), 0, 1))
    return score.astype(np.float32)


def objectness_of(settings: AlignSettings) -> Objectness:
    """The calibration that the settings name."""
    return Objectness(settings.objectness_scale, settings.objectness_offset)


def rules_of(settings: AlignSettings) -> RegionRules:
    """The region rules that the settings name."""
    return RegionRules(settings.min_side_px, settings.min_area, settings.max_area, settings.max_aspect)


@dataclass(frozen=True)
class RegionRules:
    """What a region must be to become a pair, whatever its label; the defaults let everything through.

    min_side_px: the shorter side in pixels of the upright image. min_area, max_area: share of the image. max_aspect: the
    longer side by the shorter one, in pixels; 0: any.
    """

    min_side_px: float = 0.0
    min_area: float = 0.0
    max_area: float = 1.0
    max_aspect: float = 0.0

    @property
    def any(self) -> bool:
        """Whether any region could break them."""
        return self != RegionRules()

    def reasons(self, boxes_xyxy_norm: np.ndarray, width: int, height: int) -> np.ndarray:
        """uint8 [R]: KEPT, or the first rule that the region breaks. width, height: pixels of the upright image."""
        boxes = np.asarray(boxes_xyxy_norm, np.float64).reshape(-1, 4)
        shares = boxes[:, 2:] - boxes[:, :2]
        sides = shares * [width, height]
        area, short, long = shares.prod(axis=1), sides.min(axis=1), sides.max(axis=1)
        # A box is stored as float32: what is meant to be exactly at a limit passes.
        slack = 1e-5
        found = np.full(len(boxes), KEPT, np.uint8)
        if self.max_aspect:
            found[long > self.max_aspect * short * (1 + slack)] = ASPECT
        found[(area < self.min_area * (1 - slack)) | (area > self.max_area * (1 + slack))] = AREA
        found[short < self.min_side_px * (1 - slack)] = TOO_SMALL
        return found


def keep_reasons(
    scores: np.ndarray,
    labels: np.ndarray,
    boxes_xyxy_norm: np.ndarray | None,
    threshold: float,
    by_rules: np.ndarray | None = None,
    duplicate_iou: float = 0.0,
    nothing_named: bool = False,
) -> np.ndarray:
    """uint8 [R], the `kept` array: why each region of one image is a pair (KEPT = 0) or not.

    scores: float [R]; above `threshold` (strictly) a region is kept. boxes_xyxy_norm: float32 [R, 4], read with
    `duplicate_iou` only. by_rules: `RegionRules.reasons`. duplicate_iou: of kept regions with one label that overlap by
    more than this, only the best-scored stays; 0: all stay. nothing_named: the captions name no concept, and the label
    policy needs one. The order of the reasons, where several hold: nothing named, too small, area, aspect, below score,
    duplicate.
    """
    if nothing_named:
        return np.full(len(scores), NOTHING_NAMED, np.uint8)
    below = ~(np.asarray(scores) > threshold)
    if by_rules is None:
        found = below.astype(np.uint8) * np.uint8(BELOW_SCORE)
    else:
        found = np.where((by_rules == KEPT) & below, np.uint8(BELOW_SCORE), by_rules.astype(np.uint8))
    if duplicate_iou > 0:
        assert boxes_xyxy_norm is not None
        found[duplicates(boxes_xyxy_norm, labels, scores, found == KEPT, duplicate_iou)] = DUPLICATE
    return found


def duplicates(
    boxes_xyxy_norm: np.ndarray, labels: np.ndarray, scores: np.ndarray, kept: np.ndarray, iou: float
) -> np.ndarray:
    """bool [R]: kept regions that overlap a better-scored kept region of the same label by more than `iou`.

    Greedy, as NMS is, by falling score; ties fall to the earlier region (the one with more objectness).
    """
    out = np.zeros(len(scores), bool)
    order = np.array([r for r in np.argsort(-np.asarray(scores), kind="stable") if kept[r]], int)
    overlaps = overlap(np.asarray(boxes_xyxy_norm, np.float64)[order])
    for i, region in enumerate(order):
        if not out[region]:
            later = order[i + 1 :]
            out[later[(overlaps[i, i + 1 :] > iou) & (labels[later] == labels[region])]] = True
    return out


def agreed(
    boxes_xyxy_norm: np.ndarray, labels: np.ndarray, others: np.ndarray, other_labels: np.ndarray, iou: float
) -> np.ndarray:
    """bool [R]: regions for which there is another one with the same label at an overlap of at least `iou`.

    boxes_xyxy_norm, others: float [R, 4], [Q, 4] of one image. labels, other_labels: int [R], [Q].
    """
    overlaps = overlap(np.asarray(boxes_xyxy_norm, np.float64), np.asarray(others, np.float64))
    same = np.asarray(labels, np.int64)[:, None] == np.asarray(other_labels, np.int64)[None]
    return ((overlaps >= iou) & same).any(axis=1)


def overlap(boxes: np.ndarray, others: np.ndarray | None = None) -> np.ndarray:
    """Intersection over union of boxes [R, 4] with others [Q, 4], or with each other: float64 [R, Q]; 0 for boxes without
    area."""
    others = boxes if others is None else others
    low = np.maximum(boxes[:, None, :2], others[None, :, :2])
    high = np.minimum(boxes[:, None, 2:], others[None, :, 2:])
    shared = np.clip(high - low, 0, None).prod(axis=2)
    area, other = ((b[:, 2:] - b[:, :2]).prod(axis=1) for b in (boxes, others))
    union = area[:, None] + other[None] - shared
    return np.divide(shared, union, out=np.zeros_like(shared), where=union > 0)
