"""How telemetry is sent: OTLP over HTTP, by exporters that say once, and not for every batch, that a collector takes nothing."""

from __future__ import annotations

import threading
from logging import NullHandler, getLogger
from typing import Any
from urllib.parse import urlsplit

from opentelemetry.exporter.otlp.proto.http._log_exporter import OTLPLogExporter
from opentelemetry.exporter.otlp.proto.http.metric_exporter import OTLPMetricExporter
from opentelemetry.exporter.otlp.proto.http.trace_exporter import OTLPSpanExporter

from affectscope.errors import AffectscopeError

logger = getLogger(__name__)


def exporters(endpoint: str) -> tuple[OTLPSpanExporter, OTLPLogExporter, OTLPMetricExporter]:
    """Exporters of spans, events and metrics to one collector.

    The SDK's own log goes from here on to handlers of the logger ``opentelemetry`` only: it has a line for every batch that is lost.

    Args:
        endpoint: without a path for the signal: ``http://127.0.0.1:4318``.

    Raises:
        AffectscopeError: that is no address.
    """
    base = _address(endpoint)
    quiet = getLogger("opentelemetry")
    quiet.propagate = False
    if not quiet.handlers:
        quiet.addHandler(NullHandler())
    spans, events = _Spans(endpoint=f"{base}/v1/traces"), _Events(endpoint=f"{base}/v1/logs")
    metrics = _Metrics(endpoint=f"{base}/v1/metrics")
    spans.health = events.health = metrics.health = Health(base)
    return spans, events, metrics


class Health:
    """Whether the collector takes what it is sent: a line when that changes, not one for each batch."""

    def __init__(self, endpoint: str) -> None:
        parts = urlsplit(endpoint)
        self._where = f"{parts.hostname}:{parts.port}" if parts.port else str(parts.hostname)
        self._lost, self._lock = False, threading.Lock()

    def heard(self, result: Any) -> Any:
        """The result of an export, handed on."""
        lost = result.name != "SUCCESS"
        with self._lock:
            changed, self._lost = lost != self._lost, lost
        if changed:
            said = "takes nothing: what it does not take is dropped, and replies go on" if lost else "takes it again"
            logger.warning("the OpenTelemetry collector at %s %s", self._where, said)
        return result


class _Spans(OTLPSpanExporter):
    health: Health

    def export(self, spans: Any) -> Any:
        return self.health.heard(super().export(spans))


class _Events(OTLPLogExporter):
    health: Health

    def export(self, batch: Any) -> Any:
        return self.health.heard(super().export(batch))


class _Metrics(OTLPMetricExporter):
    health: Health

    def export(self, metrics_data: Any, timeout_millis: float | None = 10_000, **more: Any) -> Any:
        return self.health.heard(super().export(metrics_data, timeout_millis, **more))


def _address(endpoint: str) -> str:
    remedy = "give the base URL of a collector that takes OTLP over HTTP, as http://127.0.0.1:4318"
    try:
        parts = urlsplit(endpoint)
        right = parts.scheme in ("http", "https") and bool(parts.hostname) and parts.port != 0
    except ValueError:
        right = False
    if not right:
        raise AffectscopeError(f"{endpoint!r} is no address of a collector: {remedy}")
    return endpoint.rstrip("/")
