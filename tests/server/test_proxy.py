"""In front of another engine: its text passes untouched and unheld, and is read as text by another model, which is said everywhere."""

import json
import threading

import numpy as np
import openai
import pytest

from affectscope.concepts.neutral import Message
from affectscope.engines.given import GivenText
from affectscope.monitoring.scan import scan
from affectscope.monitoring.trace import LIMIT, STEP
from affectscope.server.app import build
from affectscope.server.rereading import SAID
from tests.server.behind import DONE, chunk, event, gives, says, streams, whole
from tests.server.conftest import client, lowered
from tests.server.fronts import ASK, PARTS, PLAIN, SHORT, WANT, WORDS, affects, chunks_of, post, wait_for
from tests.server.test_access import NEEDS, ask


def test_a_stream_is_the_same_bytes_as_without_the_proxy(behind, front):
    sent = [b": a comment\n\n", *says(*PARTS), event({"choices": [], "usage": {"total_tokens": 9}, "own": [1, 2.50]}), DONE]  # fmt: skip
    one = behind(streams(sent))
    server = front(one.url)
    got = post(server, stream=True)
    assert got.content == b"".join(sent)
    assert got.headers["x-own"] == "1"
    assert got.headers["content-type"] == "text/event-stream; charset=utf-8"
    wait_for(lambda: server.store.list())  # it is read all the same
    told = post(server, stream=True, **WANT)
    kept = [part + b"\n\n" for part in told.content.split(b"\n\n") if part and b'"affect"' not in part]
    assert kept == sent  # readings stand in chunks of their own, and nothing else was touched


def test_an_answer_at_once_is_the_same_bytes_and_holds_readings_where_they_are_asked_for(behind, front):
    raw = json.dumps({"id": "x", "model": "behind-1", "big": 10**25, "choices": [{"index": 0, "message": {"role": "assistant", "content": WORDS}, "finish_reason": "stop"}]}).encode()  # fmt: skip
    server = front(behind(gives(whole(200, raw))).url)
    assert post(server).content == raw
    made = post(server, **WANT).json()
    (told,) = made.pop("affect")["choices"]
    assert made == json.loads(raw)
    assert "".join(told["text"]) == WORDS.replace(" ", "")  # this tokenizer leaves spaces out
    assert told["finished"] == "stop"
    assert told["unread"] is None


def test_replies_of_a_real_server_are_the_same_with_and_without_it(start, front):
    back = start(**PLAIN)
    server = front(f"{back.url}/v1", key=back.keys["user"])
    direct, through = client(back), client(server)
    for more in ({}, {"n": 3}, {"logprobs": True, "top_logprobs": 2}, {"stop": ["w1"]}):
        texts = [c.message for c in direct.chat.completions.create(messages=ASK, **SHORT, **more).choices]
        for extra in ({}, WANT):
            made = through.chat.completions.create(messages=ASK, extra_body=extra, **SHORT, **more)
            assert [c.message for c in made.choices] == texts
            assert ("affect" in made.model_extra) == bool(extra)
    text = direct.chat.completions.create(messages=ASK, **SHORT).choices[0].message.content
    stream = list(through.chat.completions.create(messages=ASK, stream=True, stream_options={"include_usage": True}, extra_body=WANT, **SHORT))  # fmt: skip
    assert "".join(c.choices[0].delta.content or "" for c in stream if c.choices) == text
    assert any(c.usage for c in stream)
    made = [direct.completions.create(prompt=["w1 w2", "w5"], **SHORT), through.completions.create(prompt=["w1 w2", "w5"], **SHORT)]  # fmt: skip
    assert [c.text for c in made[0].choices] == [c.text for c in made[1].choices]
    assert through.models.list().data[0].id == "planted"
    assert through.models.retrieve("planted").id == "planted"
    with pytest.raises(openai.NotFoundError, match="not served"):  # its own refusal, with its own words
        through.chat.completions.create(messages=ASK, **SHORT | {"model": "other"})
    with pytest.raises(openai.BadRequestError, match="logit_bias"):
        through.chat.completions.create(messages=ASK, logit_bias={"1": 2}, **SHORT)


def test_the_clients_own_helper_for_streams_reads_it(behind, front):
    server = front(behind(streams([*says(*PARTS), DONE])).url)
    with client(server).chat.completions.stream(model="behind-1", messages=ASK, extra_body=WANT) as stream:
        for _ in stream:
            pass
        final = stream.get_final_completion()
    assert final.choices[0].message.content == WORDS


@pytest.mark.parametrize("stream", [True, False])
def test_readings_are_those_of_a_scan_of_the_same_text(behind, front, planted, planted_vectors, stream):
    # Most words are markers, so that a scan takes none of them for an attention sink.
    words, asked = "m1 m3 w4 m1 m5 m2 w5 m1 m1 m4 w6 m3 m0 m1", "m1 m2 m3 m4 m5 w1"
    pieces = [words[i : i + 4] for i in range(0, len(words), 4)]
    answer = streams([*says(*pieces), DONE], 0.01) if stream else gives(whole(200, {"model": "behind-1", "choices": [{"index": 0, "message": {"content": words}, "finish_reason": "stop"}]}))  # fmt: skip
    server = front(behind(answer).url)
    got = post(server, stream=stream, messages=[{"role": "user", "content": asked}], **WANT)
    parts = affects(chunks_of(got)) if stream else got.json()["affect"]["choices"]
    rows = [p for p in parts if "tok" in p]
    assert [i for p in rows for i in range(*p["tok"])] == list(range(14))
    told = np.array([z for p in rows for z in p["z"]])
    found = scan(planted[0], planted_vectors, [Message("user", asked), Message("assistant", words)], concepts=["calm", "angry"])  # fmt: skip
    mine = np.array([role == "assistant" for role in found.roles])
    assert np.abs(told - found.z[mine].clip(-LIMIT * STEP, LIMIT * STEP)).max() <= STEP / 2 + 1e-3
    assert np.ptp(found.z[mine], axis=0).min() > 1  # there is something to agree on
    kept = server.store.load(parts[-1]["trace"])
    assert kept.roles == tuple(found.roles[: len(kept)])
    assert list(kept.generated) == [role == "assistant" for role in kept.roles]
    assert kept.finished == "stop"


def test_it_is_said_everywhere_that_a_text_was_read_by_another_model(behind, front):
    server = front(behind(streams([*says(*PARTS), DONE])).url)
    source = {"kind": "text", "reader": "reader", "of": "behind-1", "said": SAID}
    chunks = chunks_of(post(server, stream=True, **WANT))
    parts = affects(chunks)
    assert len(parts) > 1
    assert all(part["source"] == source for part in parts)
    assert all(c["choices"] == [] and c["id"] == "chatcmpl-1" for c in chunks if "affect" in c)
    assert not any("affect" in choice["delta"] for c in chunks for choice in c["choices"])
    kept = server.store.load(parts[-1]["trace"])
    assert {name: kept.tags[name] for name in ("face", "reading_of", "upstream_model", "tenant", "key")} == {"face": "proxy", "reading_of": "text", "upstream_model": "behind-1", "tenant": "one", "key": "user"}  # fmt: skip
    assert kept.settings["reading_of"] == "text"
    assert kept.texts is None
    info = ask(server, "GET", "/v1/affect/info", "read").json()
    assert (info["mode"], info["reader"], info["grade"], info["s_max"]) == ("proxy", "reader", "watched", 0)
    assert ask(server, "GET", "/metrics", "admin").text.count('affect_tokens_total{kind="generated"} 14.0') == 1


def test_alarms_are_told_without_a_promise(behind, front, guard_calibration):
    server = front(behind(streams([*says(*PARTS), DONE])).url, lowered(guard_calibration))
    parts = affects(chunks_of(post(server, stream=True, affect={})))
    alarms = parts[-1]["alarms"]
    assert alarms
    assert all(alarm["promised"] is False for alarm in alarms)
    assert [a for p in parts for a in p.get("alarms", []) if "tok" in p] == alarms
    assert server.store.list(alarm=True)
    quiet = front(behind(streams([*says(*PARTS), DONE])).url)
    assert affects(chunks_of(post(quiet, stream=True, affect={})))[-1]["alarms"] == []


def test_tools_thoughts_and_unknown_fields_pass_and_are_read_as_what_they_are(behind, front):
    calls = [
        chunk({"reasoning_content": "w1 w2 w3 w4 w5"}),
        chunk({"content": "w6 w7"}),
        chunk({"tool_calls": [{"index": 0, "id": "c1", "type": "function", "function": {"name": "f", "arguments": ""}}]}),
        chunk({"tool_calls": [{"index": 0, "function": {"arguments": '{"a": 1}'}}]}),
        chunk({}, "tool_calls"),
        DONE,
    ]  # fmt: skip
    one = behind(streams(calls))
    server = front(one.url)
    tools = [{"type": "function", "function": {"name": "f", "parameters": {"type": "object"}}}]
    made = list(client(server).chat.completions.create(model="behind-1", messages=ASK, tools=tools, tool_choice="required", stream=True, response_format={"type": "json_object"}, extra_body={**WANT, "guided_regex": "x", "top_k": 5}))  # fmt: skip
    called = [c.choices[0].delta.tool_calls for c in made if c.choices and c.choices[0].delta.tool_calls]
    assert called[0][0].function.name == "f"
    assert called[1][0].function.arguments == '{"a": 1}'
    sent = json.loads(one.asked[0]["body"])
    assert (sent["tools"], sent["tool_choice"], sent["guided_regex"], sent["top_k"]) == (tools, "required", "x", 5)
    assert "affect" not in sent
    assert affects([c.model_dump() for c in made])[-1]["finished"] == "tool_calls"


def test_reading_never_holds_up_the_text(behind, front, monkeypatch):
    gate, real = threading.Event(), GivenText.steps

    def steps(self):
        gate.wait(30)
        return real(self)

    monkeypatch.setattr(GivenText, "steps", steps)
    server = front(behind(streams([*says(*PARTS), DONE])).url)
    assert post(server, stream=True).content.endswith(DONE)  # to its end, while nothing is read
    assert not server.store.list()
    stream = client(server).chat.completions.create(model="m", messages=ASK, stream=True, extra_body=WANT)
    text, end = "", None
    for part in stream:
        text += part.choices[0].delta.content or "" if part.choices else ""
        if text == WORDS:
            gate.set()
        if "affect" in part.model_extra:
            assert text == WORDS
            end = part.model_extra["affect"]
    assert (end["behind"], end["unread"]) == (0, None)
    assert end["most_behind"] == len(WORDS)  # the pieces were merged, and none was dropped
    assert sum(server.store.load(end["trace"]).generated) == 14
    wait_for(lambda: len(server.store.list()) >= 2)
    assert server.state.live == 0


def test_a_text_beyond_the_readers_context_is_read_as_far_as_it_goes(behind, front):
    words = [f"w{i % 100} " for i in range(700)]
    server = front(behind(streams([*says(*("".join(words[i : i + 50]) for i in range(0, 700, 50))), DONE])).url)
    got = post(server, stream=True, **WANT)
    assert "".join(c["choices"][0]["delta"].get("content") or "" for c in chunks_of(got) if c["choices"]) == "".join(words)  # fmt: skip
    told = affects(chunks_of(got))[-1]
    assert told["unread"].startswith("the reader takes 512 tokens")
    assert told["behind"] > 0
    kept = server.store.load(told["trace"])
    assert len(kept) == 512
    assert [e.detail["fault"] for e in kept.events] == ["missing steps"]
    assert 'affect_failsafe_total{cause="missing steps"} 1.0' in ask(server, "GET", "/metrics", "admin").text


@pytest.mark.parametrize(
    ("asked", "says_why", "left_out"),
    [
        ({"messages": [{"role": "user", "content": "w1 " * 600}]}, "shorten it", []),
        ({"messages": [{"role": "wizard", "content": "w1"}]}, "unknown role", []),
        ({"messages": 7}, "empty conversation", []),
        ({"messages": [{"role": "user", "content": [{"type": "text", "text": "w1 w2"}, {"type": "image_url", "image_url": {"url": "x"}}]}]}, None, ["image_url"]),
    ],
)  # fmt: skip
def test_what_the_reader_cannot_read_passes_all_the_same(behind, front, asked, says_why, left_out):
    one = behind(streams([*says(*PARTS), DONE]))
    server = front(one.url)
    chunks = chunks_of(post(server, stream=True, **WANT, **asked))
    assert "".join(c["choices"][0]["delta"].get("content") or "" for c in chunks if c["choices"]) == WORDS
    told = affects(chunks)[-1]
    assert told["left_out"] == left_out
    assert (says_why is None) == (told["unread"] is None) == (told["trace"] is not None)
    assert says_why is None or says_why in told["unread"]
    assert json.loads(one.asked[0]["body"])["messages"] == asked["messages"]


def test_a_session_is_one_episode_and_its_beginning_is_not_read_twice(behind, front):
    server = front(behind(streams([*says(*PARTS), DONE])).url)
    named = {"affect": {"session": "s1"}}
    first = affects(chunks_of(post(server, stream=True, **named)))[-1]
    turns = [*ASK, {"role": "assistant", "content": WORDS}, {"role": "user", "content": "w20 w21"}]
    second = affects(chunks_of(post(server, stream=True, messages=turns, **named)))[-1]
    kept = [server.store.load(told["trace"]) for told in (first, second)]
    assert kept[1].positions[0] == len(kept[0])
    assert sum(kept[1].generated) == 14
    (listed,) = ask(server, "GET", "/v1/affect/sessions", "read").json()["data"]
    assert listed["tokens"] == len(kept[0]) + len(kept[1])
    (named_lock,) = server.state.named.values()
    with named_lock.lock:
        got = post(server, stream=True, **named)
        assert (got.status_code, got.json()["error"]["code"]) == (409, "session_busy")


def test_routes_and_scopes_are_those_of_the_engine(behind, front, start):
    one = behind(gives(whole(200, {"object": "list", "data": [], "choices": []})))
    server = front(one.url)
    assert build(server.state).openapi()["paths"].keys() == build(start().state).openapi()["paths"].keys()
    for (method, path), needs in NEEDS.items():
        assert ask(server, method, path).status_code == 401, path
        for key in ("infer", "read", "control", "admin"):
            allowed = key in (needs, "admin") or needs == "any"
            assert (ask(server, method, path, key).status_code == 403) != allowed, (path, key)
    assert ask(server, "GET", "/v1/models/a%2F..%2F..%2Fsecret", "infer").status_code == 404
    assert {asked["path"] for asked in one.asked} == {"/v1/models", "/v1/models/planted", "/v1/chat/completions", "/v1/completions"}  # fmt: skip
