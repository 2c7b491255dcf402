"""Numbers for Prometheus, under the names that our alert rules and dashboard use. Labels are bounded; no ids, no text.

A rule's name comes from a policy, an action's from the registry, a fault's from a fixed list.
"""

from __future__ import annotations

import time
from collections.abc import Callable, Mapping, Sequence

from prometheus_client import CollectorRegistry, Counter, Gauge, Histogram, generate_latest
from prometheus_client.exposition import CONTENT_TYPE_LATEST

CONTENT_TYPE = CONTENT_TYPE_LATEST
MOST_CONCEPTS = 16
_LATENCY = (0.005, 0.01, 0.025, 0.05, 0.1, 0.25, 0.5, 1, 2.5, 5, 10)
_LONG = (0.1, 0.25, 0.5, 1, 2.5, 5, 10, 30, 60, 300, 600)


class Metrics:
    """A registry of our own: one a server, so that two in one process do not meet.

    Args:
        hashes: of weights, vectors, calibration and policies.
        concepts: the watch-list, of which the first ``MOST_CONCEPTS`` get a gauge.
    """

    def __init__(self, model: str, hashes: Mapping[str, str], concepts: Sequence[str] = ()) -> None:
        self.registry = CollectorRegistry()
        at = self.registry
        self.concepts = tuple(concepts)[:MOST_CONCEPTS]
        self.tokens = Counter("affect_tokens", "Tokens that went through the model.", ["kind"], registry=at)
        self.readings = Counter("affect_readings", "Tokens that were read.", registry=at)
        self.requests = Counter("affect_requests", "Requests, by route and status.", ["route", "status"], registry=at)
        self.alarms = Counter("affect_monitor_alarms", "Alarms, by rule.", ["rule"], registry=at)
        self.actions = Counter("affect_actions", "Actions that a policy took.", ["action", "verdict"], registry=at)
        self.faults = Counter("affect_failsafe", "Faults that a guard answered, by cause.", ["cause"], registry=at)
        self.audit_errors = Counter(
            "affect_audit_write_errors", "Records or traces that could not be written.", registry=at
        )
        self.z = Gauge(
            "affect_emotion_z", "Last reading of a concept, in s.d. of benign text.", ["emotion"], registry=at
        )
        self.running = Gauge("affect_replies_running", "Replies that run.", registry=at)
        self.queued = Gauge("affect_replies_queued", "Replies that wait for a place.", registry=at)
        self.pending = Gauge("affect_escalations_pending", "Questions that wait for a person.", registry=at)
        self.oldest = Gauge("affect_escalation_age_seconds", "Age of the oldest question.", registry=at)
        self.staleness = Gauge("affect_reading_staleness_seconds", "Since the last reading.", registry=at)
        self.calibrated = Gauge("affect_calibration_age_seconds", "Since the calibration was made.", registry=at)
        self.first = Histogram("affect_time_to_first_token_seconds", "From the request to its first text.", buckets=_LATENCY, registry=at)  # fmt: skip
        self.token = Histogram("affect_token_latency_seconds", "Between one token and the next.", buckets=_LATENCY, registry=at)  # fmt: skip
        self.duration = Histogram("affect_reply_duration_seconds", "Of whole replies.", buckets=_LONG, registry=at)
        info = Gauge("affect_info", "What is served.", ["model", *hashes], registry=at)
        info.labels(model=model, **{name: value[:16] for name, value in hashes.items()}).set(1)
        self._read = time.monotonic()
        self._before: list[Callable[[], None]] = [self._stale]

    def before(self, update: Callable[[], None]) -> None:
        """Call ``update`` before each exposition, for gauges that are looked up."""
        self._before.append(update)

    def read(self, generated: int, prompt: int, z: Mapping[str, float]) -> None:
        """Count tokens that were run and read, with the last reading of each concept."""
        self.tokens.labels("generated").inc(generated)
        self.tokens.labels("prompt").inc(prompt)
        if z:
            self.readings.inc(generated + prompt)
            self._read = time.monotonic()
        for name in self.concepts:
            if name in z and z[name] == z[name]:
                self.z.labels(name).set(z[name])

    def exposition(self) -> bytes:
        """The text that Prometheus reads."""
        for update in self._before:
            update()
        return generate_latest(self.registry)

    def _stale(self) -> None:
        self.staleness.set(time.monotonic() - self._read)
