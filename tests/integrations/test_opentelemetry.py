"""Telemetry as a receiver gets it: names, parents, the standard switches; a real collector in between, and one that is gone."""

import importlib.util
import logging
import socket
import subprocess
import threading
import time
from pathlib import Path

import pytest
import requests

from affectscope.errors import AffectscopeError
from affectscope.integrations import opentelemetry, semconv
from affectscope.integrations.opentelemetry import OpenTelemetry
from affectscope.integrations.telemetry import Acted, Alarm, Ended, Wanted
from tests.integrations.otlp import Receiver

TRACE, PARENT = "0af7651916cd43dd8448eb211c80319c", "b7ad6b7169203331"
WANTED = Wanted(
    "chat",
    "planted",
    "team",
    {"traceparent": f"00-{TRACE}-{PARENT}-01", "tracestate": "vendor=x"},
    ("127.0.0.1", 8000),
    temperature=0.5,
    seed=2**70,  # beyond what an attribute holds: left out, and its batch is not lost
    max_tokens=8,
)
ENDED = Ended(
    0,
    prompt=5,
    tokens=3,
    reason="content_filter",
    first=time.time() + 3600,
    last=time.time() + 3602,
    policy="small",
    trace="t1",
    means={"angry": 2.5, "calm": -1.0},
    alarms=[Alarm("up", 7, ("angry",))],
    acted=[Acted("up", "stop", "deny", 7, 100.0, 101.5), Acted("", "hold_tool", "deny", 8, 102.0, 102.0, tool=True)],
)


@pytest.fixture
def receiver():
    one = Receiver()
    yield one
    one.close()


def tell(to, wanted=WANTED, ended=(ENDED,), error=""):
    call = to.begin(wanted)
    call.id = "chatcmpl-1"
    for one in ended:
        call.choice(one)
    call.end(error)
    call.end("twice")


def test_a_request_is_a_span_with_its_readings_and_what_the_guard_did_below_it(receiver):
    to = OpenTelemetry(receiver.url)
    tell(to)
    to.close()
    stopped, held, span = receiver.spans
    assert span.name == "chat planted"
    assert span.of.kind == span.of.SPAN_KIND_SERVER
    assert (span.of.trace_id.hex(), span.of.parent_span_id.hex()) == (TRACE, PARENT)
    assert span.of.trace_state == "vendor=x"
    assert span.attributes == {
        "gen_ai.operation.name": "chat",
        "gen_ai.provider.name": "affectscope",
        "gen_ai.request.model": "planted",
        "gen_ai.response.model": "planted",
        "gen_ai.request.temperature": 0.5,
        "gen_ai.request.max_tokens": 8,
        "gen_ai.response.id": "chatcmpl-1",
        "gen_ai.response.finish_reasons": ["content_filter"],
        "gen_ai.usage.input_tokens": 5,
        "gen_ai.usage.output_tokens": 3,
        "server.address": "127.0.0.1",
        "server.port": 8000,
        "openinference.span.kind": "LLM",
        "affect.tenant": "team",
        "affect.traces": ["t1"],
    }
    for child in (stopped, held):
        assert child.name == "run_guardrail affectscope"
        assert child.of.kind == child.of.SPAN_KIND_INTERNAL
        assert (child.of.trace_id, child.of.parent_span_id) == (span.of.trace_id, span.of.span_id)
    assert stopped.of.end_time_unix_nano - stopped.of.start_time_unix_nano == 1_500_000_000
    assert stopped.attributes == {
        "openinference.span.kind": "GUARDRAIL",
        "gen_ai.operation.name": "run_guardrail",
        "gen_ai.provider.name": "affectscope",
        "affect.choice": 0,
        "affect.target": "reply",
        "affect.verdict": "deny",
        "affect.action": "stop",
        "affect.policy": "small",
        "affect.rule": "up",
        "affect.position": 7,
    }
    assert held.attributes["affect.target"] == "tool_call"
    assert "affect.rule" not in held.attributes
    angry, calm = receiver.events
    for event in (angry, calm):
        assert event.name == "gen_ai.evaluation.result"
        assert (event.of.trace_id, event.of.span_id) == (span.of.trace_id, span.of.span_id)
        assert event.of.body.WhichOneof("value") is None
        assert event.of.time_unix_nano
    assert angry.attributes == {
        "gen_ai.evaluation.name": "affect.angry",
        "gen_ai.evaluation.score.value": 2.5,
        "gen_ai.evaluation.score.label": "alarm",
        "gen_ai.evaluation.explanation": "rule up crossed its threshold at position 7",
        "gen_ai.response.id": "chatcmpl-1",
        "affect.choice": 0,
    }
    assert calm.attributes["gen_ai.evaluation.score.label"] == "none"
    assert "gen_ai.evaluation.explanation" not in calm.attributes


def test_metrics_have_the_names_units_and_few_labels(receiver):
    to = OpenTelemetry(receiver.url)
    tell(to)
    tell(to, error="client_left")
    to.close()
    metrics = receiver.metrics
    assert set(metrics) == {
        "gen_ai.server.request.duration",
        "gen_ai.server.time_to_first_token",
        "gen_ai.server.time_per_output_token",
        "gen_ai.client.token.usage",
        "affect.monitor.alarms",
    }
    (alarms,) = metrics["affect.monitor.alarms"]
    assert (alarms.of.as_int, alarms.attributes) == (2, {"affect.rule": "up"})
    good, bad = sorted(metrics["gen_ai.server.request.duration"], key=lambda p: "error.type" in p.attributes)
    assert (good.name, good.of.count, bad.of.count) == ("s", 1, 1)
    assert bad.attributes == {**good.attributes, "error.type": "client_left"}
    assert "affect.tenant" not in good.attributes
    assert list(good.of.explicit_bounds) == pytest.approx([0.01 * 2**i for i in range(14)])
    (token,) = metrics["gen_ai.server.time_per_output_token"]
    assert (token.of.count, token.of.sum) == (1, pytest.approx((ENDED.last - ENDED.first) / 2))
    (first,) = metrics["gen_ai.server.time_to_first_token"]
    assert first.of.count == 1  # not of the one that failed
    used = {p.attributes["gen_ai.token.type"]: p.of.sum for p in metrics["gen_ai.client.token.usage"]}
    assert used == {"input": 5, "output": 3}


def test_names_that_are_still_proposed_are_sent_where_they_are_asked_for(receiver, monkeypatch):
    monkeypatch.setenv(semconv.OPT_IN, f"http, {semconv.LATEST}")
    to = OpenTelemetry(receiver.url)
    tell(to)
    tell(to, ended=[Ended(0, prompt=2, tokens=1, reason="")], error="client_left")
    to.close()
    stopped, held, *_ = receiver.spans
    assert {k: v for k, v in stopped.attributes.items() if k.startswith("gen_ai.guardrail")} == {
        "gen_ai.guardrail.component.name": "affectscope",
        "gen_ai.guardrail.target.type": "output",
        "gen_ai.guardrail.target.subtype": "llm",
        "gen_ai.guardrail.verdict.type": "deny",
        "gen_ai.guardrail.action.type": "block",
        "gen_ai.guardrail.security.policy.id": "small",
        "gen_ai.guardrail.security.policy.rule.id": "up",
    }
    assert stopped.attributes["affect.action"] == "stop"
    assert held.attributes["gen_ai.guardrail.target.subtype"] == "tool_call"
    assert "gen_ai.client.token.usage" not in receiver.metrics
    (read,) = receiver.metrics["gen_ai.client.inference.usage.input_tokens"]
    (written,) = receiver.metrics["gen_ai.client.inference.usage.output_tokens"]
    assert (read.of.as_int, written.of.as_int) == (5 + 2, 3 + 1)


def test_choices_of_one_prompt_ask_it_once_and_the_first_fault_names_the_failure(receiver):
    to = OpenTelemetry(receiver.url)
    wanted = Wanted("text_completion", "", "team", choices=2)
    tell(to, wanted, [Ended(i, prompt=4 + i // 2, tokens=1, reason="stop" * (i != 3), error="trace_lost" * (i == 3)) for i in range(4)])  # fmt: skip
    to.close()
    (span,) = receiver.spans
    assert span.name == "text_completion"
    assert not span.of.parent_span_id
    assert span.attributes["gen_ai.usage.input_tokens"] == 4 + 5
    assert span.attributes["gen_ai.usage.output_tokens"] == 4
    assert span.attributes["gen_ai.request.choice.count"] == 2
    assert span.attributes["gen_ai.response.finish_reasons"] == ["stop"] * 3
    assert span.attributes["error.type"] == "trace_lost"
    assert span.of.status.code == span.of.status.STATUS_CODE_ERROR
    assert "gen_ai.request.model" not in span.attributes


def test_readings_are_told_of_the_first_sixteen_concepts_only(receiver):
    to = OpenTelemetry(receiver.url)
    tell(to, ended=[Ended(0, 1, 1, "stop", means={f"c{i}": float(i) for i in range(20)})])
    to.close()
    assert [e.attributes["gen_ai.evaluation.name"] for e in receiver.events] == [f"affect.c{i}" for i in range(16)]


def test_a_caller_that_does_not_sample_is_followed_and_a_broken_header_is_not(receiver):
    to = OpenTelemetry(receiver.url)
    tell(to, Wanted("chat", "a", "t", {"traceparent": f"00-{TRACE}-{PARENT}-00"}))
    tell(to, Wanted("chat", "b", "t", {"traceparent": f"00-{'0' * 32}-{PARENT}-01"}), ended=())
    to.close()
    (span,) = receiver.spans
    assert (span.name, span.of.parent_span_id) == ("chat b", b"")


def test_the_environment_names_the_service(receiver, monkeypatch):
    monkeypatch.setenv("OTEL_RESOURCE_ATTRIBUTES", "deployment.environment=test")
    to = OpenTelemetry(receiver.url)
    tell(to)
    to.close()
    assert receiver.resources[-1]["service.name"] == "affectscope"
    monkeypatch.setenv("OTEL_SERVICE_NAME", "ward")
    to = OpenTelemetry(receiver.url)
    tell(to)
    to.close()
    assert receiver.resources[-1]["service.name"] == "ward"
    assert receiver.resources[-1]["deployment.environment"] == "test"


@pytest.mark.skipif(importlib.util.find_spec("rotel") is None, reason="the collector has no wheel for this machine")
def test_a_real_collector_takes_it_and_hands_it_on(receiver, tmp_path):
    agent = Path(importlib.util.find_spec("rotel").origin).with_name("rotel-agent")
    doors = [socket.create_server(("127.0.0.1", 0)) for _ in range(2)]
    grpc, http = (f"127.0.0.1:{door.getsockname()[1]}" for door in doors)
    for door in doors:
        door.close()
    command = [
        agent, "start", "--otlp-grpc-endpoint", grpc, "--otlp-http-endpoint", http, "--exporter", "otlp", "--otlp-exporter-protocol", "http",
        "--otlp-exporter-endpoint", receiver.url, "--batch-timeout", "50ms", "--pid-file", tmp_path / "pid",
    ]  # fmt: skip
    with (tmp_path / "log").open("wb") as log:
        collector = subprocess.Popen(list(map(str, command)), stdout=log, stderr=log)
    try:
        while not listens(http):
            assert collector.poll() is None, (tmp_path / "log").read_text()
            time.sleep(0.05)
        to = OpenTelemetry(f"http://{http}")
        tell(to)
        to.close()
        while not (len(receiver.spans) == 3 and len(receiver.events) == 2 and len(receiver.metrics) == 5):
            assert collector.poll() is None, (tmp_path / "log").read_text()
            time.sleep(0.05)
    finally:
        collector.terminate()
        collector.wait(20)
    span = receiver.spans[-1]
    assert (span.name, span.of.trace_id.hex()) == ("chat planted", TRACE)
    assert all(child.of.parent_span_id == span.of.span_id for child in receiver.spans[:2])
    assert {event.of.span_id for event in receiver.events} == {span.of.span_id}


def listens(address):
    try:
        requests.get(f"http://{address}/", timeout=5)
    except requests.ConnectionError:
        return False
    return True


def test_a_collector_that_is_gone_is_one_line_and_coming_back_another(receiver, monkeypatch, caplog):
    monkeypatch.setenv("OTEL_EXPORTER_OTLP_TIMEOUT", "0.3")
    monkeypatch.setenv("OTEL_BSP_SCHEDULE_DELAY", "20")
    monkeypatch.setenv("OTEL_BLRP_SCHEDULE_DELAY", "20")
    receiver.status = 503
    to = OpenTelemetry(receiver.url)

    def lines():
        return [record.getMessage() for record in caplog.records if record.name == "affectscope.integrations.otlp"]

    with caplog.at_level(logging.WARNING):
        for count in range(3):
            tell(to)
            until(lambda: receiver.refused > 2 * count and lines())  # noqa: B023
        assert len(lines()) == 1
        receiver.status = 200
        tell(to)
        until(lambda: len(receiver.spans) >= 3)
        to.close()
    lost, back = lines()
    assert "takes nothing" in lost
    assert receiver.url.removeprefix("http://") in lost
    assert "takes it again" in back


def test_the_end_waits_for_a_silent_collector_only_so_long(receiver, monkeypatch):
    monkeypatch.setattr(opentelemetry, "FLUSH", 0.2)
    monkeypatch.setenv("OTEL_EXPORTER_OTLP_TIMEOUT", "600")
    receiver.open.clear()
    to = OpenTelemetry(receiver.url)
    tell(to)
    ending = threading.Thread(target=to.close)
    ending.start()
    ending.join(20)  # the SDK's own end would take thirty seconds
    assert not ending.is_alive()
    assert receiver.bodies == []


@pytest.mark.parametrize("address", ["127.0.0.1:4318", "grpc://a:4317", "http://", "http://a:99999", "http://[::1"])
def test_what_is_no_address_is_refused_with_its_remedy(address):
    with pytest.raises(AffectscopeError, match="is no address of a collector: give the base URL") as refused:
        OpenTelemetry(address)
    assert "\n" not in str(refused.value)


def until(happened):
    for _ in range(400):
        if happened():
            return
        time.sleep(0.05)
    pytest.fail("it did not happen")
