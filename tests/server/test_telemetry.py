"""What a collector is told of a server's requests, from the bytes that it was really sent; and that it is told no text."""

import logging
import re
import socket
import subprocess
import sys

import openai
import pytest

from affectscope import cli_serve
from affectscope.errors import AffectscopeError
from affectscope.integrations.opentelemetry import OpenTelemetry
from affectscope.server.api_keys import ApiKeys, add_key
from tests.guarding.test_policy import small
from tests.integrations.otlp import Receiver
from tests.integrations.test_opentelemetry import PARENT, TRACE, until
from tests.server.conftest import client, lowered
from tests.server.test_openai_client import ASK, SHORT
from tests.server.test_process import Process
from tests.test_cli import complaint, run, saved  # noqa: F401

MARK = "Xylograph"
HEADERS = {"traceparent": f"00-{TRACE}-{PARENT}-01"}


@pytest.fixture
def receiver():
    one = Receiver()
    yield one
    one.close()


@pytest.fixture
def told(start, receiver):
    """``told(...)``: a server that tells the receiver, and how to end its telling."""

    def begin(*args, **options):
        server = start(*args, **options)
        server.state.telemetry = OpenTelemetry(receiver.url)
        return server

    return begin


def test_a_request_is_told_as_its_client_was_answered(told, receiver):
    server = told()
    c = client(server)
    affect = {"affect": {"concepts": ["happy"]}}
    made = c.chat.completions.create(messages=ASK, temperature=0.7, top_p=0.9, n=2, extra_headers=HEADERS, extra_body=affect, **SHORT)  # fmt: skip
    chunks = list(c.chat.completions.create(messages=ASK, stream=True, stream_options={"include_usage": True}, **SHORT))
    texts = c.completions.create(prompt=["w1 w2 w3", "w5 w6"], **SHORT)
    server.state.telemetry.close()
    whole, stream, text = receiver.spans
    assert [s.name for s in receiver.spans] == ["chat planted", "chat planted", "text_completion planted"]
    assert (whole.of.trace_id.hex(), whole.of.parent_span_id.hex()) == (TRACE, PARENT)
    assert not stream.of.parent_span_id
    for span, answer in ((whole, made), (stream, chunks[-1]), (text, texts)):
        assert span.attributes["gen_ai.response.id"] == answer.id
        assert span.attributes["gen_ai.usage.input_tokens"] == answer.usage.prompt_tokens
        assert span.attributes["gen_ai.usage.output_tokens"] == answer.usage.completion_tokens
        assert span.attributes["server.port"] == int(server.url.rpartition(":")[2])
        assert span.attributes["affect.tenant"] == "one"
        assert "error.type" not in span.attributes
    asked = {
        k.removeprefix("gen_ai.request."): v for k, v in whole.attributes.items() if k.startswith("gen_ai.request")
    }
    assert asked == {
        "model": "planted",
        "temperature": 0.7,
        "top_p": 0.9,
        "max_tokens": 8,
        "seed": 3,
        "choice.count": 2,
    }
    assert whole.attributes["gen_ai.response.finish_reasons"] == [choice.finish_reason for choice in made.choices]
    assert stream.attributes["gen_ai.request.stream"] is True
    kept = {one["trace"]: one["summary"]["happy"]["mean"] for one in made.model_extra["affect"]["choices"]}
    assert whole.attributes["affect.traces"] == list(kept)
    mine = [e for e in receiver.events if e.of.span_id == whole.of.span_id]
    assert {(e.attributes["gen_ai.evaluation.name"], e.attributes["affect.choice"]) for e in mine} == {
        (f"affect.{concept}", choice) for concept in ("angry", "calm", "happy") for choice in (0, 1)
    }
    assert {e.attributes["gen_ai.response.id"] for e in mine} == {made.id}
    happy = [e.attributes["gen_ai.evaluation.score.value"] for e in mine if e.attributes["gen_ai.evaluation.name"] == "affect.happy"]  # fmt: skip
    assert sorted(happy) == pytest.approx(sorted(kept.values()))
    metrics = receiver.metrics
    assert sum(p.of.count for p in metrics["gen_ai.server.time_per_output_token"]) == 5
    assert sum(p.of.count for p in metrics["gen_ai.server.time_to_first_token"]) == 3
    assert all(0 < p.of.sum < 60 for p in metrics["gen_ai.server.time_to_first_token"])


def test_what_a_guard_did_stands_below_the_request(told, receiver, guard_calibration):
    server = told((small(rules__up__ladder=["log", "stop"]),), lowered(guard_calibration))
    made = client(server).chat.completions.create(messages=ASK, extra_body={"affect": {}}, **SHORT)
    server.state.telemetry.close()
    (decision, *_) = made.model_extra["affect"]["choices"][0]["decisions"]
    span = next(s for s in receiver.spans if s.name == "chat planted")
    guard, *_ = (s for s in receiver.spans if s.name == "run_guardrail affectscope")
    assert (guard.of.trace_id, guard.of.parent_span_id) == (span.of.trace_id, span.of.span_id)
    assert span.of.start_time_unix_nano <= guard.of.start_time_unix_nano
    assert guard.of.end_time_unix_nano <= span.of.end_time_unix_nano
    (act,) = decision["acts"]
    assert guard.attributes["affect.rule"] == act["rule"] == "up"
    assert (guard.attributes["affect.action"], guard.attributes["affect.verdict"]) == (act["action"], act["verdict"])
    assert (guard.attributes["affect.policy"], guard.attributes["affect.target"]) == ("small", "reply")
    labels = {
        e.attributes["gen_ai.evaluation.name"]: e.attributes["gen_ai.evaluation.score.label"] for e in receiver.events
    }
    assert labels == {"affect.angry": "alarm", "affect.calm": "alarm"}
    explained = {e.attributes["gen_ai.evaluation.explanation"] for e in receiver.events}
    assert explained == {f"rule up crossed its threshold at position {guard.attributes['affect.position']}"}
    (alarms,) = receiver.metrics["affect.monitor.alarms"]
    assert (alarms.of.as_int, alarms.attributes) == (1, {"affect.rule": "up"})


def test_no_text_leaves_whoever_wrote_it_and_whatever_is_kept(told, receiver, guard_calibration, monkeypatch, tmp_path):
    from affectscope.engines import episode

    said = [f"{MARK} said", f'{{"name": "{MARK}", "arguments": {{"a": "{MARK}"}}}}', f"{MARK} said", f"{MARK} said"]
    tools = [{"type": "function", "function": {"name": MARK, "description": MARK, "parameters": {"title": MARK}}}]
    given = {"messages": [{"role": "system", "content": MARK}, {"role": "user", "content": f"{MARK} w1"}], "stop": MARK[::-1], "user": MARK}  # fmt: skip
    server = told((small(rules__up__ladder=["log"]),), lowered(guard_calibration), content=True)
    server.keys["marked"] = add_key(server.folder / "keys.json", MARK, ["infer"], "one")
    server.state.keys = ApiKeys(server.folder / "keys.json")
    c = client(server, "marked")
    prompt = c.chat.completions.create(**given, tools=tools, **SHORT).usage.prompt_tokens
    real, left = episode.Pieces.push, []

    def scripted(self, token, last=False):
        real(self, token, last)
        return left.pop(0) if left else ""

    monkeypatch.setattr(episode.Pieces, "push", scripted)
    replies = []
    for text in said[:2]:
        left[:] = [""] * prompt + [text]
        replies.append(c.chat.completions.create(**given, tools=tools, extra_body={"affect": {"session": MARK}}, **SHORT))  # fmt: skip
    assert MARK in replies[0].choices[0].message.content
    assert "was held" in replies[1].choices[0].message.refusal
    with pytest.raises(openai.NotFoundError, match=MARK):
        c.chat.completions.create(**given, **SHORT | {"model": MARK})
    with pytest.raises(openai.BadRequestError, match=MARK):
        c.chat.completions.create(**given, extra_body={"affect": {"policy": MARK}}, **SHORT)
    monkeypatch.setattr(server.store, "save", lambda _made: (_ for _ in ()).throw(AffectscopeError(MARK)))
    with pytest.raises(openai.APIStatusError, match=MARK):
        c.chat.completions.create(**given, **SHORT)
    server.state.telemetry.close()
    assert [s.attributes.get("error.type", "") for s in receiver.spans if s.attributes["gen_ai.operation.name"] == "chat"] == ["", "", "", "model_not_found", "policy_not_found", "trace_lost"]  # fmt: skip
    assert {s.name for s in receiver.spans} == {"chat planted", "chat", "run_guardrail affectscope"}
    assert "tool_call" in {s.attributes.get("affect.target") for s in receiver.spans}
    assert len(receiver.raw) > 1000
    assert MARK.encode() not in receiver.raw
    assert MARK.lower().encode() not in receiver.raw.lower()


def test_a_client_that_leaves_and_a_trace_that_is_lost_in_a_stream_are_named(told, receiver, monkeypatch):
    server = told()
    c = client(server)
    stream = c.chat.completions.create(messages=ASK, model="planted", max_tokens=64, seed=1, stream=True)
    next(iter(stream))
    stream.close()
    until(lambda: not server.state.live)
    monkeypatch.setattr(server.store, "save", lambda _made: (_ for _ in ()).throw(AffectscopeError("full")))
    with pytest.raises(openai.APIError, match="full"):
        list(c.chat.completions.create(messages=ASK, stream=True, **SHORT))
    server.server.should_exit = True
    server.thread.join(30)  # the server's end sends what is left
    left, lost = receiver.spans
    assert left.attributes["error.type"] == "client_left"
    assert 0 < left.attributes["gen_ai.usage.output_tokens"] <= 64
    assert lost.attributes["error.type"] == "trace_lost"
    errors = [p.attributes.get("error.type") for p in receiver.metrics["gen_ai.server.request.duration"]]
    assert sorted(errors) == ["client_left", "trace_lost"]


def test_a_collector_that_is_not_there_disturbs_no_reply_and_takes_one_line(start, monkeypatch, caplog):
    monkeypatch.setenv("OTEL_EXPORTER_OTLP_TIMEOUT", "0.1")
    monkeypatch.setenv("OTEL_BSP_SCHEDULE_DELAY", "10")
    monkeypatch.setenv("OTEL_BLRP_SCHEDULE_DELAY", "10")
    with socket.create_server(("127.0.0.1", 0)) as door:
        nobody = f"http://127.0.0.1:{door.getsockname()[1]}"
    server = start()
    expected = client(server).chat.completions.create(messages=ASK, **SHORT).choices[0]
    server.state.telemetry = OpenTelemetry(nobody)

    def lines():
        return [record for record in caplog.records if record.name.startswith("affectscope")]

    with caplog.at_level(logging.WARNING):
        for _ in range(5):
            assert client(server).chat.completions.create(messages=ASK, **SHORT).choices[0] == expected
        until(lines)
        assert client(server).chat.completions.create(messages=ASK, **SHORT).choices[0] == expected
        server.server.should_exit = True
        server.thread.join(30)
    assert not server.thread.is_alive()
    (line,) = lines()
    assert nobody.removeprefix("http://") in line.getMessage()


def test_the_process_takes_the_address_from_the_environment_and_sends_all_at_its_end(
    saved,  # noqa: F811
    receiver,
    monkeypatch,
    tmp_path,
):
    monkeypatch.setenv("OTEL_EXPORTER_OTLP_ENDPOINT", receiver.url)
    monkeypatch.setenv("OTEL_BSP_SCHEDULE_DELAY", "600000")
    monkeypatch.setenv("FASTAPI_OTEL_AUTO_CONFIGURE", "true")  # its own spans hold addresses, and what errors say
    one = Process(saved, "--db", str(tmp_path / "traces"), keys=tmp_path / "keys")
    name = one.client().models.list().data[0].id
    one.client().chat.completions.create(model=name, messages=ASK, max_tokens=4)
    assert receiver.bodies == []
    assert one.end() == 0
    (span,) = receiver.spans
    assert span.name == f"chat {name}"
    assert receiver.metrics["gen_ai.server.request.duration"][0].of.count == 1
    assert not [line for line in one.said if re.search("telemetry|Traceback", line, re.IGNORECASE)]


def test_a_server_that_tells_nobody_needs_no_opentelemetry():
    code = "import sys, affectscope.server.run; print({m.split('.')[1] for m in sys.modules if m.startswith('opentelemetry.')})"
    loaded = subprocess.run([sys.executable, "-c", code], capture_output=True, check=True).stdout.decode()
    assert "'sdk'" not in loaded
    assert "'exporter'" not in loaded


def test_without_the_extra_and_with_a_wrong_address_it_does_not_begin(monkeypatch, tmp_path):
    monkeypatch.setattr(cli_serve, "load_named", lambda *_: pytest.fail("a model was loaded"))
    assert "http://127.0.0.1:4318" in complaint(run("serve", "--otlp", "collector:4317", cwd=tmp_path))
    monkeypatch.setenv("AFFECTSCOPE_KEYS", str(tmp_path / "keys"))
    monkeypatch.setitem(sys.modules, "opentelemetry.sdk._logs", None)  # as where it is not installed
    monkeypatch.delitem(sys.modules, "affectscope.integrations.opentelemetry")
    with pytest.raises(AffectscopeError, match=r"pip install 'affectscope\[otel\]'") as refused:
        cli_serve.serve(otlp="http://127.0.0.1:4318")
    assert "\n" not in str(refused.value)
    assert not list(tmp_path.iterdir())
