"""How error falls with the amount of data: a power law fitted with its uncertainty, and where it stops to hold."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
from scipy.optimize import least_squares

#: A prediction may lie at most so many times beyond the largest size measured.
FARTHEST = 4.0


@dataclass(frozen=True)
class PowerLaw:
    """error(n) = a * n^-b + c, with a >= 0, 0 <= b <= 3 and 0 <= c <= the smallest error seen."""

    a: float
    b: float
    c: float

    def __call__(self, n: np.ndarray | float) -> np.ndarray:
        return self.a * np.asarray(n, np.float64) ** -self.b + self.c


@dataclass(frozen=True)
class Fit:
    """A fit with percentile bootstrap intervals (95 %) over the runs.

    law; b_interval, c_interval: (low, high). sizes: distinct sizes, rising. bootstrap: the resampled laws. r2: of the
    size means. supported: "" or why nothing should be extrapolated from it.
    """

    law: PowerLaw
    b_interval: tuple[float, float]
    c_interval: tuple[float, float]
    sizes: np.ndarray
    bootstrap: list[PowerLaw]
    r2: float
    supported: str

    def predict(self, n: float) -> tuple[float, float, float]:
        """(error, low, high) at n samples. Raises ValueError where the data supports no such statement."""
        largest = float(self.sizes[-1])
        if n > largest and self.supported:
            raise ValueError(f"no extrapolation: {self.supported}")
        if n > FARTHEST * largest:
            raise ValueError(
                f"no extrapolation: {n:g} is more than {FARTHEST:g} times the largest size, {largest:g}"
            )
        values = [float(law(n)) for law in self.bootstrap]
        low, high = np.percentile(values, [2.5, 97.5])
        return float(self.law(n)), float(low), float(high)


def fit(sizes: Sequence[float], errors: Sequence[float], n_bootstrap: int = 400, seed: int = 0) -> Fit:
    """Least squares over all runs; runs are resampled within their size. Raises ValueError for fewer than 4 sizes.

    sizes: samples of each run; errors: its error in [0, 1], seeds of one size repeated.
    """
    n, y = np.asarray(sizes, np.float64), np.asarray(errors, np.float64)
    distinct = np.unique(n)
    if len(distinct) < 4:
        raise ValueError(f"a power law with an offset needs at least 4 sizes, not {len(distinct)}")
    law = _fit(n, y)
    rng = np.random.default_rng(seed)
    groups = [np.flatnonzero(n == size) for size in distinct]
    laws = []
    for _ in range(n_bootstrap):
        rows = np.concatenate([rng.choice(group, len(group)) for group in groups])
        laws.append(_fit(n[rows], y[rows], law))
    means = np.array([y[group].mean() for group in groups])
    spread = ((means - means.mean()) ** 2).sum()
    r2 = float(1 - ((means - law(distinct)) ** 2).sum() / spread) if spread > 0 else 0.0
    b_interval = _interval([x.b for x in laws])
    c_interval = _interval([x.c for x in laws])
    supported = _doubts(distinct, groups, y, law, b_interval, r2)
    return Fit(law, b_interval, c_interval, distinct, laws, r2, supported)


def _fit(n: np.ndarray, y: np.ndarray, start: PowerLaw | None = None) -> PowerLaw:
    """Fitted in units of the smallest size, so that a is an error and all three parameters are of one order."""
    unit = n.min()
    x = n / unit
    least = max(float(y.min()), 1e-6)
    starts = [
        (max(y.max() - 0.5 * least, 1e-4), 0.5, 0.5 * least),
        (max(y.max() - 0.9 * least, 1e-4), 1.0, 0.9 * least),
    ]
    if start is not None:
        starts = [(max(start.a * unit**-start.b, 1e-6), start.b, min(start.c, least))]
    best = min(
        (
            least_squares(
                lambda p: p[0] * x ** -p[1] + p[2] - y,
                np.clip(s, [0, 0, 0], [2, 3, least]),
                bounds=([0, 0, 0], [2, 3, least + 1e-9]),
            )
            for s in starts
        ),
        key=lambda result: result.cost,
    )
    a, b, c = (float(v) for v in best.x)
    return PowerLaw(a * float(unit) ** b, b, c)


def _doubts(
    sizes: np.ndarray,
    groups: list[np.ndarray],
    y: np.ndarray,
    law: PowerLaw,
    b_interval: tuple[float, float],
    r2: float,
) -> str:
    if sizes[-1] / sizes[0] < 16:
        return f"sizes span a factor of {sizes[-1] / sizes[0]:.1f}, less than 16"
    if min(len(group) for group in groups) < 2:
        return "a size was measured once, so nothing is known of its spread"
    fall = y[groups[0]].mean() - y[groups[-1]].mean()
    noise = np.sqrt(np.mean([y[group].var(ddof=1) for group in groups]))
    if fall < 2 * noise:
        return f"error falls by {fall:.3f}, less than twice the spread between seeds ({noise:.3f})"
    if b_interval[0] <= 0.01:
        return "the interval of b reaches 0: no trend is certain"
    if r2 < 0.8:
        return f"the law explains {r2:.0%} of the differences between sizes"
    if b_interval[1] - b_interval[0] > 1:
        return f"b is only known to lie in {b_interval[0]:.2f} .. {b_interval[1]:.2f}"
    if len(sizes) > 4:
        smaller = np.concatenate(groups[:-1])
        n = np.repeat(sizes[:-1], [len(group) for group in groups[:-1]])
        expected, found = float(_fit(n, y[smaller])(sizes[-1])), float(y[groups[-1]].mean())
        if abs(expected - found) > 2 * noise:
            return (
                f"fitted to the smaller sizes alone, the law expects {expected:.4f} at {sizes[-1]:.0f} samples, "
                f"where {found:.4f} was measured"
            )
    return ""


def _interval(values: Sequence[float]) -> tuple[float, float]:
    low, high = np.percentile(values, [2.5, 97.5])
    return float(low), float(high)
