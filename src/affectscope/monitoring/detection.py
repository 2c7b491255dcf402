"""Do alarms come where the pressure is? On pairs of conversations alike but for it, against the words alone.

1. The model answers both members of every pair, and benign openings of the calibrate set for the text monitor's threshold.
2. Of each rule: AUROC of the episode's highest statistic, pressure against control; share of pressure episodes that cross
   the threshold of a false-alarm rate of 1 % and 5 %, and of controls; how many tokens into the reply.
3. The same of two rivals: the plain vectors in place of the readers, at the same tokens; and a monitor that sees the text so
   far and nothing else. The difference to each, pair by pair.

Intervals draw whole pairs again. What is not shown is told as not shown.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
from scipy.stats import rankdata

from affectscope.concepts.episodes import Opening
from affectscope.engines.base import Engine, Sampling
from affectscope.errors import AffectscopeError
from affectscope.monitoring.calibrate import request_of
from affectscope.monitoring.calibration import Calibration
from affectscope.monitoring.conformal import threshold
from affectscope.monitoring.detectors import Rule
from affectscope.monitoring.monitor import ALL, Monitor, Standard
from affectscope.monitoring.text_monitor import TextMonitor
from affectscope.validation.statistics import DRAWS
from affectscope.vectors.activations import Progress, silent

RATES = (0.01, 0.05)
TEXT, PLAIN = "words alone: ", "plain vectors: "


@dataclass(frozen=True)
class Watched:
    """One episode: the running maximum of each monitor's statistic at every token of the reply, ``{name: [tokens]}``."""

    id: str
    tags: dict[str, str]
    curves: dict[str, np.ndarray]

    def peak(self, name: str) -> float:
        """Highest statistic of the episode."""
        return float(self.curves[name][-1]) if len(self.curves[name]) else -np.inf


def watched(
    engine: Engine,
    monitor: Monitor,
    plain: Monitor,
    text: TextMonitor,
    openings: Sequence[Opening],
    sampling: Sampling,
    progress: Progress = silent,
    stage: str = "episodes",
) -> list[Watched]:
    """Answer every opening and keep the curves of the monitor's rules, of the plain vectors' and of the words alone.

    Args:
        monitor, plain: the same rules over the readers and over the plain vectors; the engine's read-out is theirs.
    """
    both = (("", monitor), (PLAIN, plain))
    watches = {o.id: [(prefix, made.episode()) for prefix, made in both] for o in openings}
    names = [prefix + rule.name for prefix, made in both for rule in made.rules]
    curves: dict[str, dict[str, list[float]]] = {o.id: {name: [] for name in names} for o in openings}
    texts: dict[str, list[str]] = {o.id: [] for o in openings}
    before = {o.id: "\n".join(m.content for m in o.messages) + "\n" for o in openings}
    done = 0
    for generation, step in engine.stream([request_of(o, sampling) for o in openings]):
        if step is None:
            done += 1
            progress(stage, done, len(openings))
            continue
        for prefix, watch in watches[generation.id]:
            watch.read(step)
            watch.readings.clear()
            if step.generated:
                for rule in monitor.rules:
                    curves[generation.id][prefix + rule.name].append(watch.peak(rule.name))
        if step.generated:
            before[generation.id] += step.text
            texts[generation.id].append(before[generation.id])
    found = []
    for o in openings:
        mine = {name: np.array(values) for name, values in curves[o.id].items()}
        for rule in monitor.rules:
            values = text.values(texts[o.id], rule.weights) if texts[o.id] else np.zeros(0)
            mine[TEXT + rule.name] = np.maximum.accumulate(values) if len(values) else values
        found.append(Watched(o.id, o.tags, mine))
    return found


def extended(live: Standard, whole: Standard) -> Standard:
    """``live`` for the probes that it knows, ``whole`` for those beyond, which keep the vectors' own baseline."""
    known = live.mean.shape[0]
    mean = np.concatenate([live.mean, whole.mean[known:]])
    return Standard(mean, np.concatenate([live.std, whole.std[known:]]), live.source)


def detection(
    pairs: Sequence[Watched], benign: Sequence[Watched], calibration: Calibration, rules: Sequence[Rule]
) -> dict[str, Any]:
    """The figures of every rule and of the words alone, with their differences, as plain values.

    Args:
        pairs: both members of every pair (``pair`` and ``cell`` in their tags).
        benign: episodes of the calibrate set, for the thresholds of the rivals.

    Raises:
        AffectscopeError: a calibration by strata: the figures are of one threshold a rule.
    """
    require_whole(calibration)
    order = sorted({w.tags["pair"] for w in pairs})
    by = {(w.tags["pair"], w.tags["cell"]): w for w in pairs}
    high, low = ([by[pair, cell] for pair in order] for cell in ("pressure", "control"))
    reference = {rule.name: np.array(calibration.reference[ALL][rule.name]) for rule in rules}
    rivals = [prefix + rule.name for prefix in (PLAIN, TEXT) for rule in rules]
    reference |= {name: np.array([w.peak(name) for w in benign]) for name in rivals}
    rows = [_row(name, high, low, maxima) for name, maxima in reference.items()]
    families = sorted({w.tags.get("family", "") for w in high})
    return {
        "pairs": len(order),
        "rows": rows,
        "families": {
            family: {
                name: _auroc_interval(*_peaks([w for w in high if w.tags.get("family", "") == family], by, name))
                for name in reference
            }
            for family in families
        },
        "gain": {name: _gain(high, low, name.split(": ", 1)[1], name) for name in rivals},
        "lead": {rule.name: _lead(high, reference, rule.name) for rule in rules},
    }


def require_whole(calibration: Calibration) -> None:
    """Refuse a calibration by strata.

    Raises:
        AffectscopeError: it has strata.
    """
    if calibration.strata != "none":
        raise AffectscopeError(
            f"detection is measured with one threshold a rule, and this calibration has them by {calibration.strata}: "
            "calibrate with --strata none"
        )


def auroc(high: np.ndarray, low: np.ndarray) -> float:
    """Share of pairs of one of ``high`` and one of ``low`` in which the former is higher; ties count half."""
    ranks = rankdata(np.concatenate([high, low]))[: len(high)]
    return float((ranks.sum() - len(high) * (len(high) + 1) / 2) / (len(high) * len(low)))


def _peaks(high: Sequence[Watched], by: dict[tuple[str, str], Watched], name: str) -> tuple[np.ndarray, np.ndarray]:
    return (
        np.array([w.peak(name) for w in high]),
        np.array([by[w.tags["pair"], "control"].peak(name) for w in high]),
    )


def _row(name: str, high: Sequence[Watched], low: Sequence[Watched], reference: np.ndarray) -> dict[str, Any]:
    one, other = (np.array([w.peak(name) for w in some]) for some in (high, low))
    row: dict[str, Any] = {
        "name": name,
        "auroc": _auroc_interval(one, other),
        "pairs_right": _mean_interval((one > other) + 0.5 * (one == other)),
    }
    for rate in RATES:
        limit = threshold(reference, rate)
        crossed = [_delay(w.curves[name], limit) for w in high]
        delays = [d for d in crossed if d is not None]
        row[f"at {rate:g}"] = {
            "threshold": limit,
            "pressure": _mean_interval(one > limit),
            "control": _mean_interval(other > limit),
            "delay": [float(q) for q in np.percentile(delays, [25, 50, 75])] if delays else None,
        }
    return row


def _delay(curve: np.ndarray, limit: float) -> int | None:
    """Tokens of the reply until the threshold is crossed, the crossing one counted; None if it never is."""
    above = np.flatnonzero(curve > limit)
    return int(above[0]) + 1 if len(above) else None


def _gain(high: Sequence[Watched], low: Sequence[Watched], name: str, rival: str) -> list[float]:
    """AUROC of the readers less that of a rival, with the interval over pairs."""
    arrays = [[np.array([w.peak(n) for w in some]) for some in (high, low)] for n in (name, rival)]

    def difference(rows: np.ndarray) -> float:
        mine, theirs = (auroc(one[rows], other[rows]) for one, other in arrays)
        return mine - theirs

    return _interval(difference, len(high))


def _lead(high: Sequence[Watched], reference: dict[str, np.ndarray], name: str) -> dict[str, Any]:
    """Where both cross at the highest rate: tokens by which the residuals come before the words (negative: after)."""
    delays = []
    for w in high:
        mine, words = (_delay(w.curves[n], threshold(reference[n], RATES[-1])) for n in (name, TEXT + name))
        if mine is not None and words is not None:
            delays.append(words - mine)
    if len(delays) < 5:
        return {"episodes": len(delays), "tokens": None}
    return {"episodes": len(delays), "tokens": _mean_interval(np.array(delays))}


def _auroc_interval(one: np.ndarray, other: np.ndarray) -> list[float]:
    return _interval(lambda rows: auroc(one[rows], other[rows]), len(one))


def _mean_interval(values: np.ndarray) -> list[float]:
    numbers = np.asarray(values, dtype=np.float64)
    return _interval(lambda rows: float(numbers[rows].mean()), len(numbers))


def _interval(statistic: Any, count: int) -> list[float]:
    """``[value, low, high]`` with pairs drawn again."""
    rng = np.random.default_rng(0)
    draws = [statistic(rng.integers(0, count, count)) for _ in range(DRAWS // 2)]
    low, high = np.percentile(draws, [2.5, 97.5])
    return [round(float(v), 4) for v in (statistic(np.arange(count)), low, high)]
