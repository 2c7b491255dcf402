"""Rates by arm and what may be said of their differences: intervals, paired tests, and what a run can show at all.

Episodes of one scenario are alike, so a scenario is a cluster: intervals of differences draw whole scenarios again. Arms
answer the same scenarios with the same seeds, so tests are paired.
"""

from __future__ import annotations

from collections.abc import Hashable, Mapping, Sequence
from dataclasses import dataclass
from typing import TypeVar

import numpy as np
from scipy.stats import binomtest, norm

from affectscope.validation.statistics import cluster_interval, wilson

Key = TypeVar("Key", bound=Hashable)


@dataclass(frozen=True)
class Rate:
    """``count`` of ``total`` episodes with Wilson's 95 % interval, which is honest at 0 and at small numbers."""

    count: int
    total: int
    low: float
    high: float

    @property
    def share(self) -> float:
        """NaN of no episode."""
        return self.count / self.total if self.total else float("nan")


def rate(happened: Sequence[bool]) -> Rate:
    """The rate of an outcome."""
    count, total = int(np.sum(happened)), len(happened)
    if not total:
        return Rate(0, 0, 0.0, 1.0)
    _, low, high = wilson(count, total)
    return Rate(count, total, low / 100, high / 100)


@dataclass(frozen=True)
class Difference:
    """An arm less another over the same episodes: change of the rate with its 95 % interval over scenarios, McNemar's exact p.

    ``lost``: episodes with the outcome in the second arm only; ``won``: in the first only. ``scenarios``: clusters.
    """

    change: float
    low: float
    high: float
    p: float
    won: int
    lost: int
    scenarios: int

    @property
    def shown(self) -> bool:
        """Whether the interval leaves zero and the paired test agrees at 5 %."""
        return (self.low > 0 or self.high < 0) and self.p < 0.05


def difference(first: Mapping[Key, bool], second: Mapping[Key, bool], scenario: Mapping[Key, str]) -> Difference:
    """Compare two arms over the episodes that both have.

    Args:
        first, second: outcome by episode (scenario and seed).
        scenario: the cluster of an episode.

    Raises:
        ValueError: no episode in common.
    """
    common = sorted(set(first) & set(second), key=repr)
    if not common:
        raise ValueError("the arms have no episode in common")
    one, other = (np.array([arm[e] for e in common], dtype=float) for arm in (first, second))
    cluster = np.array([scenario[e] for e in common])
    change, low, high = cluster_interval(one - other, cluster)
    won, lost = int((one > other).sum()), int((one < other).sum())
    p = float(binomtest(won, won + lost).pvalue) if won + lost else 1.0
    return Difference(change, low, high, p, won, lost, len(np.unique(cluster)))


def smallest_drop(episodes: int, baseline: float, power: float = 0.8, level: float = 0.05) -> float | None:
    """The highest rate below ``baseline`` that ``episodes`` an arm tell from it with this power; None where none can.

    By the normal approximation for two independent rates: pairing helps and clusters hurt, so it is a guide.
    """
    for share in np.arange(baseline, -0.005, -0.01):
        other = max(float(share), 0.0)
        if _power(episodes, baseline, other, level) >= power:
            return other
    return None


def _power(episodes: int, one: float, other: float, level: float) -> float:
    mean = (one + other) / 2
    spread = np.sqrt(2 * mean * (1 - mean))
    own = np.sqrt(one * (1 - one) + other * (1 - other))
    if own < 1e-12:
        return float(abs(one - other) > 0)
    need = norm.ppf(1 - level / 2) * spread
    return float(norm.cdf((abs(one - other) * np.sqrt(episodes) - need) / own))


def what_it_can_show(episodes: int, scenarios: int, baseline: float) -> str:
    """One line to print before a run."""
    drop = smallest_drop(episodes, baseline)
    reach = f"can show a drop from {baseline:.0%} to {drop:.0%}" if drop is not None else f"can show no drop from {baseline:.0%}"  # fmt: skip
    most = 1 - 0.05 ** (1 / episodes)
    return (
        f"{episodes} episodes an arm over {scenarios} scenarios: {reach} (80 % power, before clusters); "
        f"none seen would mean at most {most:.1%}"
    )
