"""Pearson's r and the line through paired values, with intervals that draw the pairs again; all draws at once."""

from __future__ import annotations

import numpy as np

from affectscope.validation.base import Measure

DRAWS = 2000


def correlations(scores: np.ndarray, target: np.ndarray) -> np.ndarray:
    """``[probes]`` Pearson's r of each column of ``scores`` ``[n, probes]`` with ``target`` ``[n]``; 0 without spread."""
    x = scores - scores.mean(axis=0)
    y = target - target.mean()
    size = np.linalg.norm(x, axis=0) * np.linalg.norm(y)
    r: np.ndarray = np.where(size > 1e-12, y @ x / np.maximum(size, 1e-12), 0.0)
    return r


def within(values: np.ndarray, category: np.ndarray) -> np.ndarray:
    """``values`` ``[n, ...]`` less the mean of each one's category."""
    found: np.ndarray = values.astype(np.float64)
    for one in np.unique(category):
        found[category == one] -= found[category == one].mean(axis=0)
    return found


def r_measure(name: str, x: np.ndarray, y: np.ndarray, control: bool = False) -> Measure:
    """Pearson's r of ``x`` and ``y`` ``[n]`` with its 95 % interval; NaN for fewer than three pairs or without spread."""
    return _measure(name, 0, x, y, control=control)


def zero_measure(name: str, x: np.ndarray, y: np.ndarray, unit: str) -> Measure:
    """The least-squares line's ``y`` where ``x`` is 0, with its 95 % interval; NaN as in :func:`r_measure`."""
    return _measure(name, 1, x, y, unit=unit)


def _measure(name: str, which: int, x: np.ndarray, y: np.ndarray, unit: str = "", control: bool = False) -> Measure:
    x, y = x.astype(np.float64), y.astype(np.float64)
    value = float(_line(x[None], y[None])[which][0]) if len(x) > 2 else float("nan")
    if not np.isfinite(value):
        return Measure(name, value, unit=unit, control=control)
    picks = np.random.default_rng(0).integers(0, len(x), (DRAWS, len(x)))
    different = 1 + (np.diff(np.sort(picks, axis=1), axis=1) > 0).sum(axis=1)
    picks = picks[different > 2]  # two different pairs lie on a line whatever they are
    low, high = np.nanpercentile(_line(x[picks], y[picks])[which], [2.5, 97.5])
    return Measure(name, value, float(low), float(high), unit, control)


def _line(x: np.ndarray, y: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """r, and the line's height at 0, of each row of ``[draws, n]``; NaN where a row has no spread."""
    across, up = x - x.mean(axis=1, keepdims=True), y - y.mean(axis=1, keepdims=True)
    spread, other = (across**2).sum(axis=1), (up**2).sum(axis=1)
    flat = (spread <= 1e-12 * (x**2).sum(axis=1)) | (other <= 1e-12 * (y**2).sum(axis=1))
    spread, other = np.where(flat, np.nan, spread), np.where(flat, np.nan, other)
    shared = (across * up).sum(axis=1)
    return shared / np.sqrt(spread * other), y.mean(axis=1) - shared / spread * x.mean(axis=1)
