"""A threshold from whole episodes, with a promise that needs no model of the tokens.

The unit is the episode: one number each, the maximum of the whole detector. If a new benign episode is exchangeable with
those that the threshold was set on, it crosses with probability at most alpha, however its tokens depend on each other.

* ``threshold``: split-conformal. The promise is over the draw of the calibration set and the new episode together.
* ``pac_threshold``: with confidence 1 - delta, *this* threshold's rate is at most alpha (the rate of the k-th smallest of
  n is Beta(n - k + 1, k) distributed).
* ``Martingale``: a test of exchangeability on one p-value an episode. Valid there; it would not be on tokens.
"""

from __future__ import annotations

import math
from dataclasses import dataclass

import numpy as np
from scipy.stats import beta

from affectscope.errors import AffectscopeError


def episodes_needed(alpha: float) -> int:
    """Fewest episodes from which a conformal threshold at ``alpha`` exists."""
    return math.ceil(1 / alpha - 1e-9) - 1


def episodes_needed_pac(alpha: float, delta: float) -> int:
    """Fewest episodes with which a rate of at most ``alpha`` can be promised with confidence ``1 - delta``."""
    return math.ceil(math.log(delta) / math.log1p(-alpha) - 1e-9)


def threshold(maxima: np.ndarray, alpha: float) -> float:
    """The ``ceil((n + 1)(1 - alpha))``-th smallest of ``maxima`` ``[episodes]``; an alarm is *above* it.

    Raises:
        AffectscopeError: too few episodes for this alpha; the message says how many are needed.
    """
    _check(alpha)
    count = len(maxima)
    if count < (needed := episodes_needed(alpha)):
        raise AffectscopeError(
            f"{count} episodes cannot carry a false-alarm rate of {alpha:g}: at least {needed} are needed; "
            "give more or ask for a higher --alpha"
        )
    rank = math.ceil((count + 1) * (1 - alpha) - 1e-9)
    return float(np.sort(maxima)[rank - 1])


def pac_threshold(maxima: np.ndarray, alpha: float, delta: float = 0.05) -> float:
    """The lowest of ``maxima`` whose own rate is at most ``alpha`` with confidence ``1 - delta``.

    Raises:
        AffectscopeError: too few episodes; the message says how many are needed.
    """
    _check(alpha)
    count = len(maxima)
    ranks = np.arange(1, count + 1)
    enough = beta.cdf(alpha, count - ranks + 1, ranks) >= 1 - delta if count else np.zeros(0, bool)
    if not enough.any():
        raise AffectscopeError(
            f"{count} episodes cannot promise a false-alarm rate of {alpha:g} with {1 - delta:.0%} confidence: at least "
            f"{episodes_needed_pac(alpha, delta)} are needed; give more or ask for a higher --alpha"
        )
    return float(np.sort(maxima)[int(np.argmax(enough))])


def p_value(maxima: np.ndarray, value: float, tie: float = 1.0) -> float:
    """Share of episodes as extreme as ``value``, itself counted; ``tie`` in [0, 1] is the part of equal ones that count.

    With ``tie`` drawn uniformly it is exactly uniform for an exchangeable episode; with 1 it is conservative.
    """
    above, equal = int((maxima > value).sum()), int((maxima == value).sum())
    return (above + tie * (equal + 1)) / (len(maxima) + 1)


def interval(alarms: int, episodes: int, level: float = 0.95) -> tuple[float, float]:
    """Clopper-Pearson interval of a rate."""
    side = (1 - level) / 2
    low = float(beta.ppf(side, alarms, episodes - alarms + 1)) if alarms else 0.0
    high = float(beta.ppf(1 - side, alarms + 1, episodes - alarms)) if alarms < episodes else 1.0
    return low, high


@dataclass(frozen=True, slots=True)
class Martingale:
    """Evidence against exchangeability: a mixture of bets on small, on large and on even p-values (Vovk's jumper).

    ``capital`` holds what each of the three bets owns; their sum starts at 1 and stays below 1/level for ever with
    probability 1 - level while nothing drifts. It only ever says "recalibrate"; nothing is relaxed by it.
    """

    capital: tuple[float, float, float] = (1 / 3, 1 / 3, 1 / 3)
    highest: float = 1.0
    jump: float = 0.01

    @property
    def value(self) -> float:
        """Capital now."""
        return sum(self.capital)

    def step(self, p: float) -> Martingale:
        """After one more episode's p-value."""
        total = self.value
        mixed = ((1 - self.jump) * c + self.jump * total / 3 for c in self.capital)
        low, even, high = (c * (1 + bet * (p - 0.5)) for c, bet in zip(mixed, (-1, 0, 1), strict=True))
        return Martingale((low, even, high), max(self.highest, low + even + high), self.jump)

    def drifted(self, level: float = 0.01) -> bool:
        """Whether it has ever reached ``1 / level``: recalibrate."""
        return self.highest >= 1 / level


def _check(alpha: float) -> None:
    if not 0 < alpha < 1:
        raise AffectscopeError(f"alpha is {alpha}: give a rate between 0 and 1, for example 0.01")
