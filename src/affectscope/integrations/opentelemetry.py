"""Requests as OpenTelemetry: a span each, what was read of its replies as events, what a guard did as spans in it, and metrics.

All of it is sent in batches from the exporters' own threads, over OTLP by HTTP. A collector that is slow or gone costs what it
does not take, one line in the log, and no reply.
"""

from __future__ import annotations

import threading
import time
from collections.abc import Mapping
from importlib.metadata import version
from typing import Any

from opentelemetry.context import Context
from opentelemetry.sdk._logs import LoggerProvider
from opentelemetry.sdk._logs.export import BatchLogRecordProcessor
from opentelemetry.sdk.metrics import MeterProvider
from opentelemetry.sdk.metrics.export import PeriodicExportingMetricReader
from opentelemetry.sdk.resources import OTELResourceDetector, Resource
from opentelemetry.sdk.trace import TracerProvider
from opentelemetry.sdk.trace.export import BatchSpanProcessor
from opentelemetry.trace import Span, SpanKind, StatusCode, set_span_in_context
from opentelemetry.trace.propagation.tracecontext import TraceContextTextMapPropagator

from affectscope.integrations import semconv as names
from affectscope.integrations.otlp import exporters
from affectscope.integrations.telemetry import MOST_CONCEPTS, Acted, Alarm, Call, Ended, Telemetry, Wanted

NAME = "affectscope"
"""Of the service where the environment gives it no other, of the provider, and of the guardrail."""
FLUSH = 5.0
"""Seconds that the end of a server waits for what was not sent."""
_MOST_EXPLAINED = 4


class OpenTelemetry(Telemetry):
    """Tells a collector. Has providers of its own: nothing is global.

    The standard environment variables hold for headers, time limits, batches, sampling and the resource.

    Args:
        endpoint: of the collector, without a path for the signal: ``http://127.0.0.1:4318``.

    Raises:
        AffectscopeError: that is no address.
    """

    def __init__(self, endpoint: str) -> None:
        spans, events, metrics = exporters(endpoint)
        own = Resource.create({"service.name": NAME, "service.version": version("affectscope")})
        resource = own.merge(OTELResourceDetector().detect())
        self._traces = TracerProvider(resource=resource, shutdown_on_exit=False)
        self._traces.add_span_processor(BatchSpanProcessor(spans))
        self._logs = LoggerProvider(resource=resource, shutdown_on_exit=False)
        self._logs.add_log_record_processor(BatchLogRecordProcessor(events))
        reader = PeriodicExportingMetricReader(metrics)
        self._meters = MeterProvider([reader], resource=resource, shutdown_on_exit=False)
        self.tracer = self._traces.get_tracer(NAME, version("affectscope"))
        self.events = self._logs.get_logger(NAME, version("affectscope"))
        self.latest = names.latest()
        self.instruments = Instruments(self._meters, self.latest)
        self._propagator = TraceContextTextMapPropagator()

    def begin(self, wanted: Wanted) -> Call:
        """A span for a request, below the caller's where it sent a ``traceparent``."""
        parent = self._propagator.extract(dict(wanted.headers), Context())
        common = _common(wanted)
        asked = {
            names.SPAN_KIND: names.KIND_LLM,
            names.TENANT: wanted.tenant,
            names.REQUEST_CHOICES: wanted.choices if wanted.choices != 1 else None,
            names.REQUEST_STREAM: True if wanted.stream else None,
            names.REQUEST_TEMPERATURE: wanted.temperature,
            names.REQUEST_TOP_P: wanted.top_p,
            names.REQUEST_MAX_TOKENS: wanted.max_tokens,
            names.REQUEST_SEED: wanted.seed,
        }
        name = f"{wanted.operation} {wanted.model}".rstrip()
        span = self.tracer.start_span(name, parent, SpanKind.SERVER, {**common, **_known(asked)})
        return _Call(self, wanted, common, span, set_span_in_context(span, parent))

    def close(self) -> None:
        """Send what was not sent, for ``FLUSH`` seconds at most: a collector that is gone must not hold up the end."""
        ends = (self._traces.shutdown, self._logs.shutdown, self._meters.shutdown)
        threads = [threading.Thread(target=end, daemon=True) for end in ends]
        for thread in threads:
            thread.start()
        until = time.monotonic() + FLUSH
        for thread in threads:
            thread.join(max(0.0, until - time.monotonic()))


class Instruments:
    """The metrics. ``latest``: tokens are counted under the newest names."""

    def __init__(self, provider: MeterProvider, latest: bool) -> None:
        meter = provider.get_meter(NAME, version("affectscope"))
        self.duration = meter.create_histogram(names.REQUEST_DURATION, "s", "Of whole requests.", explicit_bucket_boundaries_advisory=names.REQUEST_SECONDS)  # fmt: skip
        self.first = meter.create_histogram(names.TIME_TO_FIRST_TOKEN, "s", "From the request to its first token.", explicit_bucket_boundaries_advisory=names.FIRST_TOKEN_SECONDS)  # fmt: skip
        self.token = meter.create_histogram(names.TIME_PER_OUTPUT_TOKEN, "s", "Of each token after the first.", explicit_bucket_boundaries_advisory=names.OUTPUT_TOKEN_SECONDS)  # fmt: skip
        self.alarms = meter.create_counter(names.ALARMS, "{alarm}", "Alarms, by rule.")
        self._latest = latest
        if latest:
            self._input = meter.create_counter(names.USAGE_INPUT, "{token}", "Tokens of prompts.")
            self._output = meter.create_counter(names.USAGE_OUTPUT, "{token}", "Tokens that were written.")
        else:
            self._usage = meter.create_histogram(names.TOKEN_USAGE, "{token}", "Tokens of a request.", explicit_bucket_boundaries_advisory=names.USAGE_TOKENS)  # fmt: skip

    def used(self, read: int, written: int, failed: bool, about: Mapping[str, Any], context: Context) -> None:
        """Count a request's tokens: those of one that failed in counters only, as the conventions say."""
        if self._latest:
            self._input.add(read, about, context)
            self._output.add(written, about, context)
        elif not failed:
            self._usage.record(read, {**about, names.TOKEN_TYPE: "input"}, context)
            self._usage.record(written, {**about, names.TOKEN_TYPE: "output"}, context)


class _Call(Call):
    """A request and its span. ``context``: what happens in it stands below."""

    def __init__(
        self, to: OpenTelemetry, wanted: Wanted, common: Mapping[str, Any], span: Span, context: Context
    ) -> None:
        self._to, self._wanted, self._common = to, wanted, common
        self._span, self._context = span, context
        self._began, self._ended = time.time(), False
        self._choices: list[Ended] = []

    def choice(self, ended: Ended) -> None:
        """Its readings, alarms and actions; the rest is told at the end of the request."""
        self._choices.append(ended)
        for concept, mean in list(ended.means.items())[:MOST_CONCEPTS]:
            self._evaluated(ended.index, concept, mean, [a for a in ended.alarms if concept in a.concepts])
        for alarm in ended.alarms:
            self._to.instruments.alarms.add(1, {names.RULE: alarm.rule}, self._context)
        for acted in ended.acted:
            self._acted(ended, acted)

    def end(self, error: str = "") -> None:
        """Close the span, and count."""
        if self._ended:
            return
        self._ended = True
        done = sorted(self._choices, key=lambda one: one.index)
        failed = error or next((one.error for one in done if one.error), "")
        # Choices of one prompt stand beside each other; it was asked once.
        prompts = {one.index // self._wanted.choices: one.prompt for one in done}
        read, written = sum(prompts.values()), sum(one.tokens for one in done)
        answered = {
            names.RESPONSE_ID: self.id or None,
            names.RESPONSE_FINISH_REASONS: [one.reason for one in done if one.reason] or None,
            names.INPUT_TOKENS: read if done else None,
            names.OUTPUT_TOKENS: written if done else None,
            names.TRACES: [one.trace for one in done if one.trace] or None,
            names.ERROR_TYPE: failed or None,
        }
        self._span.set_attributes(_known(answered))
        if failed:
            self._span.set_status(StatusCode.ERROR)
        self._measure(failed, done, read, written)
        self._span.end()

    def _measure(self, failed: str, done: list[Ended], read: int, written: int) -> None:
        to, at, about = self._to.instruments, self._context, self._common
        to.duration.record(time.time() - self._began, {**about, names.ERROR_TYPE: failed} if failed else about, at)
        to.used(read, written, bool(failed), about, at)
        if failed:
            return
        if spoken := [one for one in done if one.first]:
            to.first.record(min(one.first for one in spoken) - self._began, about, at)
        for one in spoken:
            if one.tokens > 1:
                to.token.record((one.last - one.first) / (one.tokens - 1), about, at)

    def _evaluated(self, index: int, concept: str, mean: float, alarms: list[Alarm]) -> None:
        why = [f"rule {a.rule} crossed its threshold at position {a.position}" for a in alarms[:_MOST_EXPLAINED]]
        told = {
            names.EVALUATION_NAME: f"affect.{concept}",
            names.EVALUATION_SCORE: mean,
            names.EVALUATION_LABEL: "alarm" if alarms else "none",
            names.EVALUATION_EXPLANATION: "; ".join(why) or None,
            names.RESPONSE_ID: self.id or None,
            names.CHOICE: index,
        }
        self._to.events.emit(timestamp=time.time_ns(), context=self._context, attributes=_known(told), event_name=names.EVALUATION)  # fmt: skip

    def _acted(self, ended: Ended, acted: Acted) -> None:
        target, subtype = ("input", "tool_call") if acted.tool else ("output", "llm")
        told = {
            names.SPAN_KIND: names.KIND_GUARDRAIL,
            names.OPERATION: names.RUN_GUARDRAIL,
            names.PROVIDER: NAME,
            names.CHOICE: ended.index,
            names.TARGET: "tool_call" if acted.tool else "reply",
            names.VERDICT: acted.verdict,
            names.ACTION: acted.action,
            names.POLICY: ended.policy,
            names.RULE: acted.rule or None,
            names.POSITION: acted.position,
        }
        if self._to.latest:
            told |= {
                names.GUARDRAIL_COMPONENT: NAME,
                names.GUARDRAIL_TARGET: target,
                names.GUARDRAIL_SUBTYPE: subtype,
                names.GUARDRAIL_VERDICT: acted.verdict,
                names.GUARDRAIL_ACTION: names.ENFORCED[acted.verdict],
                names.GUARDRAIL_POLICY: ended.policy,
                names.GUARDRAIL_RULE: acted.rule or None,
            }
        span = self._to.tracer.start_span(
            f"{names.RUN_GUARDRAIL} {NAME}", self._context, SpanKind.INTERNAL, _known(told), start_time=_ns(acted.began)
        )
        span.end(_ns(acted.ended))


def _common(wanted: Wanted) -> dict[str, Any]:
    """What spans and metrics of a request share; few values, so that metrics stay few."""
    host, port = wanted.address or (None, None)
    shared = {
        names.OPERATION: wanted.operation,
        names.PROVIDER: NAME,
        names.REQUEST_MODEL: wanted.model or None,
        names.RESPONSE_MODEL: wanted.model or None,
        names.SERVER_ADDRESS: host,
        names.SERVER_PORT: port,
    }
    return _known(shared)


def _known(attributes: Mapping[str, Any]) -> dict[str, Any]:
    return {name: value for name, value in attributes.items() if value is not None}


def _ns(seconds: float) -> int:
    return round(seconds * 1e9)
