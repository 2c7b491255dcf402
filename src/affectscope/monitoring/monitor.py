"""From a token step to a reading, and from readings to an alarm.

1. Score to z, against the baseline of the token's role, phase and place in its message (its first 20 tokens differ).
2. Quantise: detectors see what a trace keeps, so that a trace read back decides alike, to the bit.
3. Each rule combines the policy's probe over its concepts and runs its detector; the first crossing is an alarm.

The held-out probe is read beside and no rule ever sees it. What cannot be read is a fault event, never silence.
"""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from functools import cached_property
from typing import Any, Literal

import numpy as np

from affectscope.engines.base import TokenStep
from affectscope.engines.readout import Readout, readout
from affectscope.monitoring.detectors import RULES, Rule
from affectscope.monitoring.trace import LIMIT, MISSING, STEP, Event
from affectscope.vectors.artefact import PROBES, ConceptVectors
from affectscope.vectors.baseline import POOLED_CELL, SINK_NORM, cell

POLICY, HELD_OUT = "readers", "readers_heldout"
Strata = Literal["none", "domain", "length", "role", "phase"]
"""What thresholds are told apart by: the episode's own kind (domain, length of its prompt), or the token's place in it."""
ALL = "all"
"""The stratum of everything, where nothing is told apart."""
_HIGHEST, _LOWEST = np.float32(LIMIT), np.float32(-LIMIT)


@dataclass(frozen=True, slots=True)
class Reading:
    """What was measured at one token: int8 ``z`` ``[probes, concepts]`` in eighths of an s.d., and what happened there."""

    step: TokenStep
    z: np.ndarray
    events: tuple[Event, ...] = ()


@dataclass(frozen=True)
class Standard:
    """Mean and s.d. that scores are standardised by, float32 ``[probes, cells, concepts]``; cells as in the baseline.

    ``source`` says what they were measured on.
    """

    mean: np.ndarray
    std: np.ndarray
    source: str = "neutral texts"

    @cached_property
    def units(self) -> tuple[tuple[np.ndarray, np.ndarray], ...]:
        """Of each cell ``scale`` and ``shift`` ``[probes, concepts]``: a z in units of ``STEP`` is score * scale - shift."""
        scale = np.float32(1 / STEP) / self.std
        shift = self.mean * scale
        cells = range(self.mean.shape[1])
        return tuple((np.ascontiguousarray(scale[:, c]), np.ascontiguousarray(shift[:, c])) for c in cells)


@dataclass(frozen=True)
class Monitor:
    """What is watched and how. Immutable; one :meth:`episode` each conversation.

    ``policy`` names the probe that the rules see. ``thresholds`` maps a rule's name to ``{stratum: (threshold, alpha)}``;
    a rule without any is computed and raises nothing. Each rule has one detector an episode; with ``strata`` by role or
    phase its highest statistic is kept, and judged, for each of them. ``horizon`` is how many generated tokens of an
    episode the promise covers.
    """

    read: Readout
    layer: int
    standard: Standard
    mean_norm: float
    rules: tuple[Rule, ...] = RULES
    policy: str = POLICY
    thresholds: Mapping[str, Mapping[str, tuple[float, float]]] = field(default_factory=dict)
    strata: Strata = "none"
    horizon: int = 0

    def episode(self, stratum: str = ALL) -> Watch:
        """State for one episode of ``stratum``, which belongs to it alone."""
        return Watch(self, stratum)


def monitor(
    vectors: ConceptVectors,
    concepts: Sequence[str] = (),
    layer: int | None = None,
    probes: Sequence[str] = (POLICY, HELD_OUT),
    rules: Sequence[Rule] = RULES,
    policy: str = POLICY,
) -> Monitor:
    """A monitor of ``vectors`` with their own baseline and without thresholds.

    Args:
        concepts: the watch-list; all when empty.
        layer: the artefact's read layer when None.
        policy: the probe that the rules see, one of ``probes``.

    Raises:
        AffectscopeError: an unknown concept or layer, or a rule over a concept that is not read.
    """
    wanted = vectors.read_layer if layer is None else layer
    read = readout(vectors, concepts, (wanted,), probes)
    for rule in rules:
        rule.row(read.concepts)
    place, columns = vectors.place(wanted), vectors.select(list(read.concepts))
    which = [PROBES.index(p) for p in probes]
    shape = (len(which), -1, len(columns))
    mean, std = (a[which][:, place][..., columns].reshape(shape) for a in (vectors.baseline_mean, vectors.baseline_std))
    return Monitor(read, wanted, Standard(mean, std), float(vectors.mean_norm[place]), tuple(rules), policy)


class Watch:
    """One episode's readings and detector states.

    ``peaks`` holds each rule's highest statistic so far, ``{rule: {stratum: peak}}``, and ``levels`` the last one with its stratum,
    ``{rule: (stratum, statistic)}``; ``generated`` counts the tokens that the model wrote.
    """

    def __init__(self, monitor: Monitor, stratum: str = ALL) -> None:
        self.monitor, self.stratum = monitor, stratum
        self.readings: list[Reading] = []
        self.events: list[Event] = []
        self.peaks: dict[str, dict[str, float]] = {rule.name: {} for rule in monitor.rules}
        self.levels: dict[str, tuple[str, float]] = {}
        self.generated = 0
        rows = [rule.row(monitor.read.concepts) for rule in monitor.rules]
        self._terms = [[(i, float(w)) for i, w in enumerate(row) if w] for row in rows]
        self._states: list[Any] = [rule.detector.start() for rule in monitor.rules]
        self._next = 0
        self._policy = monitor.read.probes.index(monitor.policy)
        self._plain = np.array([probe == "vectors" for probe in monitor.read.probes])
        self._cosines = bool(self._plain.any())
        self._shape = (len(monitor.read.probes), len(monitor.read.concepts))

    def peak(self, rule: str) -> float:
        """A rule's highest statistic so far, in any stratum; -inf before it saw a token."""
        return max(self.peaks[rule].values(), default=-np.inf)

    def read(self, step: TokenStep) -> Reading:
        """Take one step: its reading, with the alarms and faults that it brought.

        A step that was taken before is a fault and changes nothing else; after a gap reading goes on.
        """
        if step.position < self._next:
            stale = _fault(step, "stale step", f"position {step.position} came again, {self._next} was expected")
            self.events.append(stale)
            return Reading(step, np.full(self._shape, MISSING, np.int8), (stale,))
        events = []
        if step.position > self._next:
            events.append(_fault(step, "missing steps", f"positions {self._next} to {step.position - 1} never came"))
        self._next = step.position + 1
        self.generated += step.generated
        units, fault = self._units(step)
        if fault:
            events.append(fault)
        else:
            events += self._alarms(step, units)
        reading = Reading(step, units, tuple(events))
        self.readings.append(reading)
        self.events += events
        return reading

    def rewind(self, position: int) -> None:
        """Forget readings from ``position`` on and run the detectors again over those that stay; events stay recorded."""
        kept = [r for r in self.readings if r.step.position < position]
        self.readings, self._next = kept, position
        self.generated = sum(r.step.generated for r in kept)
        self._states = [rule.detector.start() for rule in self.monitor.rules]
        self.peaks, self.levels = {rule.name: {} for rule in self.monitor.rules}, {}
        for reading in kept:
            if (reading.z != MISSING).all():
                self._statistics(reading.step, reading.z)

    def _units(self, step: TokenStep) -> tuple[np.ndarray, Event | None]:
        monitor = self.monitor
        shape, scores = self._shape, step.scores.get(monitor.layer)
        fault = None
        if scores is None:
            fault = _fault(step, "missing layer", f"layer {monitor.layer} was not read")
        elif scores.shape != shape:
            fault = _fault(step, "wrong shape", f"scores of shape {list(scores.shape)}, not {list(shape)}")
        elif not math.isfinite(
            np.add.reduce(scores, axis=None)
        ):  # one look at each score; which is at fault does not matter
            fault = _fault(step, "nan", "NaN or Inf in the scores")
        elif scores[0, 0] == 0 and not scores.any():
            fault = _fault(step, "zeros", "every score is exactly 0: nothing was read")
        if scores is None or fault is not None:
            return np.full(shape, MISSING, np.int8), fault
        norm = step.norms.get(monitor.layer, monitor.mean_norm)
        if norm > SINK_NORM * monitor.mean_norm:  # an attention sink is no reading of anything
            return np.zeros(shape, np.int8), None
        if self._cosines:  # the baseline of the plain vectors is one of cosines
            scores = np.where(self._plain[:, None], scores / max(norm, 1e-12), scores)
        # The first token of all is like no other, and no baseline counts it.
        place = cell(step.role, step.phase, step.index) if step.position else POOLED_CELL
        scale, shift = monitor.standard.units[place]
        # Ufuncs in place: after a forward pass every line of this is cold, and numpy's wrappers cost more than the work.
        z = np.multiply(scores, scale)
        np.subtract(z, shift, out=z)
        np.rint(z, out=z)
        np.minimum(z, _HIGHEST, out=z)
        np.maximum(z, _LOWEST, out=z)
        return z.astype(np.int8), None

    def _alarms(self, step: TokenStep, units: np.ndarray) -> list[Event]:
        """Events of rules that cross their threshold here for the first time, or that see what has no threshold."""
        events = []
        for name, stratum, before, statistic in self._statistics(step, units):
            limits = self.monitor.thresholds.get(name)
            if not limits:
                continue
            if stratum not in limits:
                if before == -np.inf:
                    cause = f"the rule {name} has no threshold for {stratum}: calibrate on episodes that hold it"
                    events.append(_fault(step, "no threshold", cause))
                continue
            limit, alpha = limits[stratum]
            if before <= limit < statistic:
                detail = {"rule": name, "statistic": statistic, "threshold": limit, "alpha": alpha, "stratum": stratum}
                promised = self.generated <= self.monitor.horizon
                events.append(Event(step.position, "alarm", detail | {"promised": promised}))
        return events

    def _statistics(self, step: TokenStep, units: np.ndarray) -> list[tuple[str, str, float, float]]:
        """Each rule that sees this token: its name and stratum, its highest statistic before, and its statistic now."""
        found: list[tuple[str, str, float, float]] = []
        seeing = [
            (place, rule)
            for place, rule in enumerate(self.monitor.rules)
            if rule.sees(step.role, step.phase, step.generated)
        ]
        if not seeing:
            return found
        policy, stratum = units[self._policy].tolist(), self._stratum(step)
        for place, rule in seeing:
            # Summed concept by concept: a matrix product may order the sum otherwise on another machine.
            value = 0.0
            for i, weight in self._terms[place]:
                value += weight * policy[i]
            value *= STEP
            self._states[place], statistic = rule.detector.step(self._states[place], value)
            peaks = self.peaks[rule.name]
            before = peaks.get(stratum, -np.inf)
            peaks[stratum] = max(before, statistic)
            self.levels[rule.name] = (stratum, statistic)
            found.append((rule.name, stratum, before, statistic))
        return found

    def _stratum(self, step: TokenStep) -> str:
        by = self.monitor.strata
        return token_stratum(by, step.role, step.phase) if by in ("role", "phase") else self.stratum


def token_stratum(by: Strata, role: str, phase: str) -> str:
    """The stratum of a token where strata are by role or phase."""
    return role if by == "role" or phase == "none" else f"{role}/{phase}"


def _fault(step: TokenStep, fault: str, cause: str) -> Event:
    return Event(step.position, "fault", {"fault": fault, "cause": cause})
