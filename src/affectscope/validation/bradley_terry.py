"""Strengths of things from who was preferred to whom: Bradley-Terry by maximum likelihood, with a position term.

A pair's outcome is the probability that the option shown first was taken:

    P(first = i over second = j) = sigmoid(theta_i - theta_j + bias)

Soft outcomes enter as they are (cross entropy), all pairs at once, so that the order of matches plays no part, as it
does in sequential Elo. A light ridge keeps ``theta`` finite and fixes its free constant at mean zero.
"""

from __future__ import annotations

import math
from dataclasses import dataclass

import numpy as np
from scipy.special import expit

ELO = 400 / math.log(10)
"""Elo points of one unit of ``theta``."""
RIDGE = 0.01
_ROUNDS = 100
_CLOSE = 1e-10


@dataclass(frozen=True)
class Strengths:
    """``theta`` ``[n]`` float64 in nats of odds, and ``bias``, the log-odds of the first position between equals."""

    theta: np.ndarray
    bias: float

    @property
    def elo(self) -> np.ndarray:
        """``[n]`` Elo points about 1500."""
        points: np.ndarray = 1500 + ELO * self.theta
        return points


def fit(outcome: np.ndarray, weight: np.ndarray, fixed: np.ndarray | None = None, ridge: float = RIDGE) -> Strengths:
    """The strengths that make the outcomes likeliest.

    Args:
        outcome: ``[n, n]`` float in 0..1, row first and column second; read only where ``weight`` is above zero.
        weight: ``[n, n]`` how often each ordered pair counts; booleans will do.
        fixed: ``[n]`` values of ``theta`` that are known, NaN where it is to be found; all are found when None.
        ridge: penalty ``ridge/2 * theta^2`` on what is found, and on the bias.

    Raises:
        ValueError: an outcome that counts is outside 0..1 or NaN.
    """
    weight = weight.astype(np.float64)
    outcome = np.where(weight > 0, outcome, 0.0)
    if not ((outcome >= 0) & (outcome <= 1)).all():
        raise ValueError("outcomes are probabilities between 0 and 1")
    count = len(outcome)
    known = np.full(count, np.nan) if fixed is None else fixed
    free = np.append(np.isnan(known), True)  # the bias stands last
    values = np.append(np.nan_to_num(known), 0.0)
    loss, gradient, curve = _loss(values, outcome, weight, free, ridge)
    for _ in range(_ROUNDS):
        step = np.zeros(count + 1)
        step[free] = np.linalg.solve(curve[np.ix_(free, free)], gradient[free])
        # Newton may overshoot where the curve is flat, so a step that gains nothing is halved.
        for scale in 0.5 ** np.arange(30):
            new = _loss(values - scale * step, outcome, weight, free, ridge)
            if new[0] <= loss + 1e-12:
                break
        values, (loss, gradient, curve) = values - scale * step, new
        if np.abs(scale * step).max() < _CLOSE:
            break
    return Strengths(values[:-1], float(values[-1]))


def _loss(
    values: np.ndarray, outcome: np.ndarray, weight: np.ndarray, free: np.ndarray, ridge: float
) -> tuple[float, np.ndarray, np.ndarray]:
    """Penalised cross entropy in nats, its gradient ``[n + 1]`` and its Hessian ``[n + 1, n + 1]``."""
    theta, bias = values[:-1], values[-1]
    odds = theta[:, None] - theta[None, :] + bias
    expected = expit(odds)
    entropy = weight * (np.logaddexp(0, odds) - outcome * odds)
    miss = weight * (expected - outcome)
    slope = weight * expected * (1 - expected)
    penalty = ridge * free
    gradient = np.append(miss.sum(1) - miss.sum(0), miss.sum()) + penalty * values
    curve = np.zeros((len(values), len(values)))
    curve[:-1, :-1] = np.diag(slope.sum(1) + slope.sum(0)) - slope - slope.T
    curve[:-1, -1] = curve[-1, :-1] = slope.sum(1) - slope.sum(0)
    curve[-1, -1] = slope.sum()
    return float(entropy.sum() + (penalty * values**2).sum() / 2), gradient, curve + np.diag(penalty)


def elo_intervals(outcome: np.ndarray, asked: np.ndarray, draws: int = 200, seed: int = 0) -> np.ndarray:
    """``[n, 2]`` 95 % intervals of Elo: the activities are drawn again and all is fitted anew each time."""
    rng = np.random.default_rng(seed)
    count = len(outcome)
    found = np.full((draws, count), np.nan)
    for row in found:
        drawn = np.bincount(rng.integers(0, count, count), minlength=count)
        elo = fit(outcome, asked * np.outer(drawn, drawn)).elo
        row[drawn > 0] = elo[drawn > 0]
    bounds: np.ndarray = np.nanpercentile(found, [2.5, 97.5], axis=0).T
    return bounds


def split_orders(count: int, seed: int = 0) -> tuple[np.ndarray, np.ndarray]:
    """Two masks ``[n, n]`` over ordered pairs: every pair once in each, and in the one order where not in the other.

    Which order goes where is drawn, so that in neither half an activity stands first more often for its number.
    """
    above = np.triu(np.random.default_rng(seed).random((count, count)) < 0.5, 1)
    one = above | np.triu(~above, 1).T
    return one, one.T
