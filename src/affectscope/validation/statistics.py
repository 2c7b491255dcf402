"""Intervals and p-values, all by resampling, all seeded."""

from __future__ import annotations

from collections.abc import Callable

import numpy as np
from scipy.stats import norm

DRAWS = 4000


def cluster_interval(
    values: np.ndarray, cluster: np.ndarray, draws: int = DRAWS, seed: int = 0
) -> tuple[float, float, float]:
    """Mean of ``values`` with its 95 % interval by drawing whole clusters again (percentile bootstrap).

    Observations of one cluster share their topic, so they are not independent evidence.
    """
    labels = np.unique(cluster)
    sums = np.array([values[cluster == label].sum() for label in labels])
    sizes = np.array([(cluster == label).sum() for label in labels])
    picks = np.random.default_rng(seed).integers(0, len(labels), (draws, len(labels)))
    means = sums[picks].sum(axis=1) / sizes[picks].sum(axis=1)
    low, high = np.percentile(means, [2.5, 97.5])
    return float(values.mean()), float(low), float(high)


def bootstrap(
    statistic: Callable[[np.ndarray], float], count: int, draws: int = DRAWS, seed: int = 0
) -> tuple[float, float]:
    """95 % percentile interval of ``statistic(indices)`` over resampled indices ``0..count-1``."""
    rng = np.random.default_rng(seed)
    values = [statistic(rng.integers(0, count, count)) for _ in range(draws)]
    low, high = np.nanpercentile(values, [2.5, 97.5])
    return float(low), float(high)


def half_samples(
    statistic: Callable[[np.ndarray], float], count: int, draws: int = 1000, seed: int = 0
) -> tuple[float, float]:
    """95 % interval of ``statistic(indices)`` from random halves without repetition.

    For statistics that a repeated observation would flatter, such as agreement of partitions: half-samples spread about
    the estimate as samples do about the truth.
    """
    rng = np.random.default_rng(seed)
    values = [statistic(rng.permutation(count)[: count // 2]) for _ in range(draws)]
    low, high = np.nanpercentile(values, [2.5, 97.5])
    return float(low), float(high)


def bootstrap_mean(values: np.ndarray) -> tuple[float, float, float]:
    """Mean of independent ``values`` with its 95 % percentile interval."""
    low, high = bootstrap(lambda rows: float(values[rows].mean()), len(values))
    return float(values.mean()), low, high


def bootstrap_r(x: np.ndarray, y: np.ndarray, absolute: bool = False) -> tuple[float, float]:
    """95 % percentile interval of Pearson's r over resampled pairs, or of its absolute value."""

    def statistic(rows: np.ndarray) -> float:
        r = correlation(x[rows], y[rows])
        return abs(r) if absolute else r

    return bootstrap(statistic, len(x), draws=2000)


def wilson(hits: int, count: int) -> tuple[float, float, float]:
    """Share in per cent with its 95 % Wilson interval."""
    z = float(norm.ppf(0.975))
    share, scale = hits / count, 1 + z * z / count
    middle = (share + z * z / (2 * count)) / scale
    half = z * np.sqrt(share * (1 - share) / count + z * z / (4 * count * count)) / scale
    return share * 100, float(middle - half) * 100, float(middle + half) * 100


def permutation_p(observed: float, null: np.ndarray) -> float:
    """Share of the null at least as large as the observation, counting the observation itself."""
    return float((1 + (null >= observed).sum()) / (1 + len(null)))


def correlation(x: np.ndarray, y: np.ndarray) -> float:
    """Pearson's r; NaN when one side does not vary."""
    if x.std() == 0 or y.std() == 0:
        return float("nan")
    return float(np.corrcoef(x, y)[0, 1])
