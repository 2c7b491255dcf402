"""What may go wrong in front of another engine: keys, refusals, ends, people who leave, and what is refused at the start."""

import asyncio
import json
import os
import socket
import threading
from pathlib import Path

import httpx
import openai
import pytest

from affectscope import cli_serve
from affectscope.errors import AffectscopeError
from affectscope.monitoring.store import Store
from affectscope.server import upstream as upstream_module
from affectscope.server.rereading import Proxied
from affectscope.server.state import Limits
from affectscope.server.upstream import KEY, Upstream
from tests.guarding.test_policy import small
from tests.server.behind import DONE, END, START, event, gives, piece, says, streams, whole
from tests.server.conftest import client
from tests.server.fronts import ASK, PARTS, SECRET, WANT, affects, chunks_of, post, wait_for
from tests.server.test_access import ask
from tests.server.test_process import Process
from tests.test_cli import saved  # noqa: F401


def test_the_key_of_the_engine_behind_goes_there_and_nowhere_else(behind, front, caplog):
    async def answer(asked, writer):
        held = dict(asked["headers"])["authorization"]
        writer.write(whole(401, {"error": {"message": f"bad key {held}"}}, X_Echo=held, X_Own="1"))

    one = behind(answer)
    server = front(one.url)
    head = {"Authorization": f"Bearer {server.keys['user']}", "Api-Key": "k", "Cookie": "c=1", "X-Mine": "2", "Connection": "x-hop", "X-Hop": "3"}  # fmt: skip
    with caplog.at_level("DEBUG"):
        got = httpx.post(f"{server.url}/v1/chat/completions", headers=head, json={"model": "m", "messages": ASK})
    assert got.status_code == 401
    assert got.json()["error"]["message"] == "bad key Bearer [key]"
    assert got.headers["x-own"] == "1"
    assert SECRET not in f"{got.headers}{got.text}{caplog.text}{server.state.served.upstream!r}"
    sent = dict(one.asked[0]["headers"])
    assert sent["authorization"] == f"Bearer {SECRET}"
    assert sent["x-mine"] == "2"
    assert not {"api-key", "cookie", "x-hop"} & sent.keys()
    assert server.keys["user"] not in str(one.asked)
    assert one.asked[0]["path"] == "/v1/chat/completions"


def test_refusals_of_the_engine_behind_pass_with_their_status_and_headers(behind, front):
    one = behind(gives(whole(429, {"error": {"message": "slow down", "code": "own"}}, Retry_After="7", Set_Cookie="a=1")))  # fmt: skip
    server = front(one.url)
    for stream in (True, False):
        with pytest.raises(openai.RateLimitError, match="slow down") as raised:
            client(server).chat.completions.create(model="m", messages=ASK, stream=stream, extra_body=WANT)
        assert raised.value.response.headers["retry-after"] == "7"
        assert "set-cookie" not in raised.value.response.headers
    wait_for(lambda: not server.state.admission.busy)
    assert server.state.live == 0


async def _silent(_asked, _writer):
    await asyncio.sleep(30)


@pytest.mark.parametrize(
    ("answer", "status", "code"),
    [
        (None, 502, "upstream_unreachable"),
        (_silent, 504, "upstream_timeout"),
        (gives(b""), 502, "upstream_failed"),
        (gives(whole(200, b"<html>w1</html>", Content_Type="text/html")), 502, "upstream_garbage"),
        (gives(whole(200, b"[1]")), 502, "upstream_garbage"),
        (gives(whole(200, b"[" * 100_000)), 502, "upstream_garbage"),
        (gives(whole(307, b"", Location="http://elsewhere/")), 502, "upstream_redirects"),
        (gives(whole(200, b'{"x": "' + b"y" * 5000 + b'"}')), 502, "upstream_too_long"),
        (gives(whole(200, b'{"cut": ', Content_Length=4000)), 502, "upstream_failed"),
    ],
)  # fmt: skip
def test_an_engine_behind_that_fails_is_told_in_one_line(behind, front, monkeypatch, answer, status, code):
    monkeypatch.setattr(upstream_module, "LARGEST", 200_000 if code == "upstream_garbage" else 4000)
    with socket.socket() as closed:
        closed.bind(("127.0.0.1", 0))
        url = behind(answer).url if answer else f"http://127.0.0.1:{closed.getsockname()[1]}/v1"
        server = front(url, seconds=1.0)
        got = post(server, **WANT)
    assert (got.status_code, got.json()["error"]["code"]) == (status, code)
    message = got.json()["error"]["message"]
    assert "\n" not in message
    assert url.split("/")[2] not in message
    assert ask(server, "GET", "/v1/models", "infer").status_code in (status, 200)
    assert (server.state.live, server.state.admission.busy) == (0, 0)


@pytest.mark.parametrize(
    ("events", "code"),
    [
        ([*says(*PARTS)[:5], b"data: {cut"], "upstream_failed"),
        (says(*PARTS)[:5], "upstream_failed"),
        ([*says(*PARTS)[:5], b"data: " + b"x" * 9000], "upstream_too_long"),
    ],
)
def test_an_engine_behind_that_dies_in_a_stream_is_told_in_it(behind, front, monkeypatch, events, code):
    monkeypatch.setattr(upstream_module, "LARGEST", 8000)

    async def answer(_asked, writer):
        writer.write(START + b"".join(map(piece, events)) + (END if len(events) == 5 else b""))

    server = front(behind(answer).url)
    for extra in ({}, WANT):
        parts = []
        with pytest.raises(openai.APIError) as raised:
            parts.extend(client(server).chat.completions.create(model="m", messages=ASK, stream=True, extra_body=extra))
        assert raised.value.code == code
        assert "".join(part.choices[0].delta.content or "" for part in parts if part.choices) == "".join(PARTS[:4])
    told = affects(chunks_of(post(server, stream=True, **WANT)))[-1]
    assert told["finished"] == "broken"
    assert server.store.load(told["trace"]).finished == "broken"


def test_what_is_no_chunk_passes_and_is_said_not_to_be_read(behind, front):
    sent = [*says(*PARTS), event(b"garbage"), event({"choices": "x"}), event({"choices": [{"index": 9, "delta": {"content": "a"}}, 3, {"index": 0, "delta": None}]}), DONE]  # fmt: skip
    server = front(behind(streams(sent)).url)
    got = post(server, stream=True, **WANT)
    assert b"data: garbage\n\n" in got.content
    assert "no JSON" in affects([json.loads(part[6:]) for part in got.text.split("\n\n") if part.startswith('data: {"')])[-1]["unread"]  # fmt: skip


def test_a_client_that_leaves_ends_the_request_behind_and_what_was_read_is_kept(behind, front):
    async def answer(_asked, writer):
        writer.write(START + b"".join(map(piece, says(*PARTS)[:-1])))
        await writer.drain()
        await asyncio.sleep(30)

    one = behind(answer)
    server = front(one.url)
    stream = client(server).chat.completions.create(model="m", messages=ASK, stream=True)
    next(iter(stream))
    wait_for(lambda: server.state.hub.view(None).next().get("rows", [[0, 0, 0]])[0][2] > 4)
    stream.close()
    assert one.left.wait(10)
    wait_for(lambda: server.store.list() and not server.state.admission.busy)
    assert server.store.list()[0].finished == "left"

    waits = behind(_silent)
    other = front(waits.url)
    with pytest.raises(openai.APITimeoutError):
        client(other).with_options(timeout=1).chat.completions.create(model="m", messages=ASK)
    assert waits.left.wait(10)
    wait_for(lambda: not (other.state.admission.busy or other.state.live))


@pytest.mark.parametrize(
    ("change", "says_why"),
    [
        ({"affect": {"v": 2}}, "affect.v"),
        ({"affect": {"concepts": ["envy"]}}, "envy"),
        ({"affect": {"policy": "lax"}}, "no policy 'lax'"),
        ({"affect": {"steer": {"concept": "calm", "s": 0.1}}}, "cannot be steered"),
        ({"affect": {"session": "s"}, "n": 2}, "n = 1"),
        ({"n": 17}, "at most 16"),
    ],
)
def test_what_is_ours_in_a_request_is_refused_before_anything_is_asked_behind(behind, front, change, says_why):
    one = behind(streams([*says(*PARTS), DONE]))
    server = front(one.url)
    key = "admin" if "steer" in str(change) else "user"
    got = post(server, key=key, **change)
    assert got.status_code == 400
    assert says_why in got.json()["error"]["message"]
    assert not one.asked


def test_a_full_queue_is_told_before_anything_is_asked_behind(behind, front):
    one = behind(_silent)
    server = front(one.url, slots=1, limits=Limits(waiting=0, drain=5))

    def waits():
        with pytest.raises(openai.APITimeoutError):
            client(server).with_options(timeout=3).chat.completions.create(model="m", messages=ASK)

    thread = threading.Thread(target=waits)
    thread.start()
    wait_for(lambda: one.asked)
    got = post(server)
    assert (got.status_code, got.json()["error"]["code"]) == (429, "queue_full")
    thread.join(20)
    assert len(one.asked) == 1


def test_it_is_ready_while_the_engine_behind_answers(behind, front, monkeypatch):
    monkeypatch.setattr(upstream_module, "_FRESH", 0.0)
    one = behind(gives(whole(404, {})))
    server = front(one.url)
    assert ask(server, "GET", "/readyz").json() == {"status": "ok"}
    one.close()
    got = ask(server, "GET", "/readyz")
    assert (got.status_code, got.json()) == (503, {"status": "the engine behind cannot be reached"})
    monkeypatch.setattr(upstream_module, "_FRESH", 60.0)
    assert ask(server, "GET", "/readyz").status_code == 503  # looked at before


@pytest.mark.parametrize(
    ("options", "says_why"),
    [
        ({"upstream": "ftp://h/v1"}, "no http"),
        ({"upstream": "127.0.0.1:8000"}, "no http"),
        ({"upstream": "http://h:x/v1"}, "no http"),
        ({"upstream": "http://me:pass@h/v1"}, "which others could see"),
        ({"upstream": "http://h/v1?key=1"}, "base URL alone"),
        ({"bare": True}, "leave one of them out"),
        ({"evidence": Path("e")}, "leave --evidence out"),
        ({"policy": ["cautious"]}, "may .* cannot be acted on"),
    ],
)
def test_what_it_refuses_to_begin_with(monkeypatch, tmp_path, options, says_why):
    monkeypatch.chdir(tmp_path)
    monkeypatch.setenv("AFFECTSCOPE_KEYS", str(tmp_path / "keys"))
    monkeypatch.setattr(cli_serve, "load_named", lambda *_: pytest.fail("a model was loaded"))
    with pytest.raises(AffectscopeError, match=says_why) as refused:
        cli_serve.serve(**{"upstream": "http://127.0.0.1:1/v1", **options})
    assert "\n" not in str(refused.value)
    assert "pass" not in str(refused.value).replace("password", "")


def test_a_key_that_no_header_can_hold_and_a_policy_that_acts_are_refused(planted, planted_vectors, guard_calibration):
    with pytest.raises(AffectscopeError, match=KEY) as refused:
        Upstream("http://h/v1", "a\nb")
    assert "a\nb" not in str(refused.value)
    acts = small(rules__up__ladder=[{"action": "stop"}])
    with pytest.raises(AffectscopeError, match="may stop"):
        Proxied(Upstream("http://h/v1"), planted[0], planted_vectors, guard_calibration, (acts,), canaries=False)
    assert os.environ.get(KEY) is None


def test_the_command_stands_in_front_of_an_engine(saved, tmp_path, behind, monkeypatch):  # noqa: F811
    monkeypatch.setenv(KEY, SECRET)
    one = behind(streams([*says(*PARTS), DONE]))
    running = Process(saved, "--upstream", one.url, "--db", str(tmp_path / "traces"), keys=tmp_path / "keys")
    stream = running.client().chat.completions.create(model="m", messages=ASK, stream=True, extra_body={"affect": {}})
    told = list(stream)[-1].model_extra["affect"]
    assert running.end() == 0
    said = "".join(running.said)
    assert f"reads the text of {one.url}" in said
    assert SECRET not in said
    assert dict(one.asked[0]["headers"])["authorization"] == f"Bearer {SECRET}"
    with Store.open(tmp_path / "traces") as store:
        assert store.load(told["trace"]).tags["upstream_model"] == "behind-1"
