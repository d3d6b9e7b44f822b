"""Bootstrap intervals for the mean of paired differences, stratified, and Holm's correction.

Plain BCa intervals are too narrow for timings: their tails are heavy, and the estimated acceleration chases
single outliers. What is used instead stands in docs/explanation/statistics.md, and how both were
calibrated in docs/results/2026-11-23-calibration.md.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Hashable, Sequence
from dataclasses import dataclass

import numpy as np

RESAMPLES = 9999
LEVEL = 0.95
SMALLEST_STRATUM = 4
FEWEST_BEYOND = 10  # of the resamples; farther out, the tail is that of Student's t


@dataclass(frozen=True)
class Bootstrap:
    """What resampling did to a mean.

    Args:
        mean: of the values, shape (...).
        moved: how far each resampled mean is from it, shape (..., resamples).
        freedom: degrees of freedom of the values' spread: their number less that of the strata.
    """

    mean: np.ndarray
    moved: np.ndarray
    freedom: float

    def interval(self, level: float = LEVEL) -> tuple[np.ndarray, np.ndarray]:
        """Symmetric percentile interval (Hall 1988), expanded: at the percentile that normal data need for
        Student's t (Hesterberg 2015, section 4.4), so that few values do not make it too narrow.

        Returns:
            Its ends, shape (...) each.
        """
        from scipy import special

        quantile = special.stdtrit(self.freedom, (1 - level) / 2)
        beyond = 2 * special.ndtr(quantile)
        if beyond * self.moved.shape[-1] < FEWEST_BEYOND:
            half = -quantile * self.moved.std(-1)
        else:
            half = np.quantile(np.abs(self.moved), 1 - beyond, axis=-1)
        return self.mean - half, self.mean + half

    def p_value(self) -> float:
        """Two-sided, of one data set: the largest 1 - level at which the interval still holds zero."""
        from scipy import special

        beyond = int(np.sum(np.abs(self.moved) >= np.abs(self.mean)))
        if beyond >= FEWEST_BEYOND:
            distance = special.ndtri(beyond / self.moved.size / 2)
        else:
            spread = float(self.moved.std())
            distance = -abs(float(self.mean)) / spread if spread else -np.inf
        return float(2 * special.stdtr(self.freedom, distance))


def bootstrap(
    values: np.ndarray, categories: Sequence[Hashable], resamples: int = RESAMPLES, seed: int = 0
) -> Bootstrap:
    """Resample questions within their categories.

    Args:
        values: one value a question, shape (..., questions); leading axes are data sets of their own.
        categories: of each question; those with fewer than four are taken together.

    Deviations are stretched by sqrt(n / (n - 1)) in each stratum, which makes the bootstrap's variance that of
    the sample (Rao and Wu 1988). Constant values give an interval of width zero.
    """
    from scipy import stats

    labels = np.asarray(strata(categories))
    samples = []
    for label in dict.fromkeys(labels.tolist()):
        part = values[..., labels == label]
        size, centre = part.shape[-1], part.mean(-1, keepdims=True)
        samples.append(centre + (part - centre) * (np.sqrt(size / (size - 1)) if size > 1 else 1))

    def mean(*parts: np.ndarray, axis: int) -> np.ndarray:
        return sum(part.sum(axis) for part in parts) / len(labels)

    found = stats.bootstrap(
        samples,
        mean,
        n_resamples=resamples,
        axis=-1,
        batch=100 if values.ndim > 1 else None,
        method="percentile",
        rng=np.random.default_rng(seed),
    )
    centre = values.mean(-1)
    moved = found.bootstrap_distribution - centre[..., None]
    return Bootstrap(centre, moved, max(1, len(labels) - len(samples)))


def with_levels(prompts: Bootstrap, *others: Bootstrap) -> Bootstrap:
    """The same mean, moved by further levels too, such as restarts: each is resampled by itself.

    That is what resampling rows and columns of a table of prompts by restarts does (Owen 2007, "The pigeonhole
    bootstrap") to first order. Degrees of freedom are those of Satterthwaite 1946, of one data set.
    """
    levels = (prompts, *others)
    variances = [float(each.moved.var()) for each in levels]
    parts = sum(variance**2 / each.freedom for variance, each in zip(variances, levels, strict=True))
    freedom = sum(variances) ** 2 / parts if parts else prompts.freedom
    return Bootstrap(prompts.mean, np.sum([each.moved for each in levels], axis=0), freedom)


def strata(categories: Sequence[Hashable]) -> list[int]:
    """A stratum for each question: its category; small categories share one, for they show no spread."""
    sizes = Counter(categories)
    large = [name for name, size in sizes.items() if size >= SMALLEST_STRATUM]
    number = {name: index for index, name in enumerate(large)}
    small = sum(size for name, size in sizes.items() if name not in number)
    shared = len(large)
    if large and small < SMALLEST_STRATUM:
        shared = number[min(large, key=lambda name: sizes[name])]
    return [number.get(name, shared) for name in categories]


def holm(p_values: Sequence[float], level: float = LEVEL) -> list[tuple[float, float]]:
    """Holm 1979: for each test, the level its interval is shown at, and its corrected p-value.

    A step that fails ends the descent: the tests behind it are judged at its level.
    """
    order = sorted(range(len(p_values)), key=lambda index: p_values[index])
    corrected: list[tuple[float, float]] = [(level, 1.0)] * len(p_values)
    highest, divisor, failed = 0.0, len(p_values), False
    for step, index in enumerate(order):
        highest = max(highest, min(1.0, p_values[index] * (len(p_values) - step)))
        if not failed:
            divisor = len(p_values) - step
        failed = failed or p_values[index] * divisor >= 1 - level
        corrected[index] = (1 - (1 - level) / divisor, highest)
    return corrected
