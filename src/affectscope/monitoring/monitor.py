"""From a token step to a reading, and from readings to an alarm.

1. Score to z, against the baseline of the token's role, phase and place in its message (its first 20 tokens differ).
2. Quantise: detectors see what a trace keeps, so that a trace read back decides alike, to the bit.
3. Each rule combines the policy's probe over its concepts and runs its detector; the first crossing is an alarm.

The held-out probe is read beside and no rule ever sees it. What cannot be read is a fault event, never silence.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

import numpy as np

from affectscope.engines.base import TokenStep
from affectscope.engines.readout import Readout, readout
from affectscope.monitoring.detectors import RULES, Rule
from affectscope.monitoring.trace import MISSING, STEP, Event, quantise
from affectscope.vectors.artefact import PROBES, ConceptVectors
from affectscope.vectors.baseline import POOLED_CELL, SINK_NORM, cell

POLICY, HELD_OUT = "readers", "readers_heldout"


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


@dataclass(frozen=True)
class Monitor:
    """What is watched and how. Immutable; one :meth:`episode` each conversation.

    ``policy`` names the probe that the rules see. ``thresholds`` maps a rule's name to ``(threshold, alpha, stratum)``; a rule without one is computed and raises
    nothing.
    """

    read: Readout
    layer: int
    standard: Standard
    mean_norm: float
    rules: tuple[Rule, ...] = RULES
    policy: str = POLICY
    thresholds: Mapping[str, tuple[float, float, str]] = field(default_factory=dict)

    def episode(self) -> Watch:
        """State for one episode, which belongs to it alone."""
        return Watch(self)


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
    """One episode's readings and detector states. ``peaks`` holds each rule's highest statistic so far."""

    def __init__(self, monitor: Monitor) -> None:
        self.monitor = monitor
        self.readings: list[Reading] = []
        self.events: list[Event] = []
        self.peaks = {rule.name: -np.inf for rule in monitor.rules}
        rows = [rule.row(monitor.read.concepts) for rule in monitor.rules]
        self._terms = [[(i, float(w)) for i, w in enumerate(row) if w] for row in rows]
        self._states: list[Any] = [rule.detector.start() for rule in monitor.rules]
        self._next = 0
        self._policy = monitor.read.probes.index(monitor.policy)
        self._plain = np.array([probe == "vectors" for probe in monitor.read.probes])

    def read(self, step: TokenStep) -> Reading:
        """Take one step: its reading, with the alarms and faults that it brought.

        A step that was taken before is a fault and changes nothing else; after a gap reading goes on.
        """
        if step.position < self._next:
            stale = _fault(step, "stale step", f"position {step.position} came again, {self._next} was expected")
            self.events.append(stale)
            shape = (len(self.monitor.read.probes), len(self.monitor.read.concepts))
            return Reading(step, np.full(shape, MISSING, np.int8), (stale,))
        events = []
        if step.position > self._next:
            events.append(_fault(step, "missing steps", f"positions {self._next} to {step.position - 1} never came"))
        self._next = step.position + 1
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
        self._states = [rule.detector.start() for rule in self.monitor.rules]
        self.peaks = {rule.name: -np.inf for rule in self.monitor.rules}
        for reading in kept:
            if (reading.z != MISSING).all():
                self._statistics(reading.step, reading.z)

    def _units(self, step: TokenStep) -> tuple[np.ndarray, Event | None]:
        monitor = self.monitor
        shape = (len(monitor.read.probes), len(monitor.read.concepts))
        missing = np.full(shape, MISSING, np.int8)
        scores = step.scores.get(monitor.layer)
        if scores is None:
            return missing, _fault(step, "missing layer", f"layer {monitor.layer} was not read")
        if scores.shape != shape:
            return missing, _fault(step, "wrong shape", f"scores of shape {list(scores.shape)}, not {list(shape)}")
        if not np.isfinite(scores).all():
            return missing, _fault(step, "nan", "NaN or Inf in the scores")
        norm = step.norms.get(monitor.layer, monitor.mean_norm)
        if norm > SINK_NORM * monitor.mean_norm:  # an attention sink is no reading of anything
            return np.zeros(shape, np.int8), None
        if self._plain.any():  # the baseline of the plain vectors is one of cosines
            scores = np.where(self._plain[:, None], scores / max(norm, 1e-12), scores)
        # The first token of all is like no other, and no baseline counts it.
        place = cell(step.role, step.phase, step.index) if step.position else POOLED_CELL
        standard = monitor.standard
        return quantise((scores - standard.mean[:, place]) / standard.std[:, place]), None

    def _alarms(self, step: TokenStep, units: np.ndarray) -> list[Event]:
        """Events of rules that cross their threshold here for the first time."""
        monitor, events = self.monitor, []
        for name, before, statistic in self._statistics(step, units):
            if name not in monitor.thresholds:
                continue
            limit, alpha, stratum = monitor.thresholds[name]
            if before <= limit < statistic:
                detail = {"rule": name, "statistic": statistic, "threshold": limit, "alpha": alpha, "stratum": stratum}
                events.append(Event(step.position, "alarm", detail))
        return events

    def _statistics(self, step: TokenStep, units: np.ndarray) -> list[tuple[str, float, float]]:
        """Each rule that sees this token: its name, its highest statistic before, and its statistic now."""
        found = []
        policy = units[self._policy]
        for place, rule in enumerate(self.monitor.rules):
            if not rule.sees(step.role, step.phase, step.generated):
                continue
            # Summed concept by concept: a matrix product may order the sum otherwise on another machine.
            value = sum(weight * (int(policy[i]) * STEP) for i, weight in self._terms[place])
            self._states[place], statistic = rule.detector.step(self._states[place], value)
            before = self.peaks[rule.name]
            self.peaks[rule.name] = max(before, statistic)
            found.append((rule.name, before, statistic))
        return found


def _fault(step: TokenStep, fault: str, cause: str) -> Event:
    return Event(step.position, "fault", {"fault": fault, "cause": cause})
