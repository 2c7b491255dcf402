"""The official client, unchanged: replies at once and in streams, choices, log-probabilities, usage, errors, and our object."""

import json
import threading

import openai
import pytest

from tests.guarding.test_policy import small
from tests.server.conftest import client, lowered

ASK = [{"role": "user", "content": "w1 w2 w3 m1"}]
SHORT = {"model": "planted", "max_tokens": 8, "seed": 3}


def text_of(stream):
    chunks = list(stream)
    return "".join(c.choices[0].delta.content or "" for c in chunks if c.choices), chunks


def test_a_reply_at_once_and_in_a_stream_are_the_same(start):
    c = client(start())
    whole = c.chat.completions.create(messages=ASK, **SHORT)
    assert whole.choices[0].message.role == "assistant"
    assert whole.choices[0].finish_reason == "length"
    assert whole.usage.completion_tokens == 8
    assert whole.usage.total_tokens == whole.usage.prompt_tokens + 8
    assert "affect" not in whole.model_extra
    text, chunks = text_of(c.chat.completions.create(messages=ASK, stream=True, stream_options={"include_usage": True}, **SHORT))  # fmt: skip
    assert text == whole.choices[0].message.content != ""
    assert [ch.choices[0].finish_reason for ch in chunks if ch.choices][-1] == "length"
    assert chunks[-1].usage == whole.usage
    assert all(not ch.model_extra for ch in chunks)


def test_the_clients_own_helper_for_streams_reads_it(start):
    c = client(start())
    with c.chat.completions.stream(messages=ASK, extra_body={"affect": {"concepts": ["calm"]}}, **SHORT) as stream:
        for _ in stream:
            pass
        final = stream.current_completion_snapshot
    assert (
        final.choices[0].message.content == c.chat.completions.create(messages=ASK, **SHORT).choices[0].message.content
    )


def test_readings_come_with_their_text_where_they_are_asked_for(start):
    server = start()
    c = client(server)
    _, chunks = text_of(c.chat.completions.create(messages=ASK, stream=True, extra_body={"affect": {"v": 1, "concepts": ["calm", "angry"]}}, **SHORT))  # fmt: skip
    parts = [ch.model_extra["affect"] for ch in chunks if "affect" in ch.model_extra]
    rows = [p for p in parts if "tok" in p]
    assert [i for p in rows for i in range(*p["tok"])] == list(range(8))
    assert all(p["concepts"] == ["calm", "angry"] and p["v"] == 1 for p in rows)
    assert all(len(z) == 2 for p in rows for z in p["z"])
    end = parts[-1]
    assert end["finished"] == "length"
    kept = server.store.load(end["trace"])
    assert kept.texts is None
    assert kept.tags["tenant"] == "one"
    assert kept.tags["key"] == "user"
    column = kept.concepts.index("angry")
    assert [z[1] for p in rows for z in p["z"]] == pytest.approx([u / 8 for u in kept.z[0, kept.generated, column]])
    whole = c.chat.completions.create(messages=ASK, extra_body={"affect": {"concepts": ["angry"]}}, **SHORT)
    (told,) = whole.model_extra["affect"]["choices"]
    assert [z[0] for z in told["z"]] == [z[1] for p in rows for z in p["z"]]
    assert told["summary"]["angry"]["max"] == max(z[0] for z in told["z"])


def test_choices_seeds_and_log_probabilities(start):
    c = client(start())
    made = c.chat.completions.create(messages=ASK, n=3, logprobs=True, top_logprobs=2, **SHORT)
    texts = [choice.message.content for choice in made.choices]
    assert [choice.index for choice in made.choices] == [0, 1, 2]
    assert len(set(texts)) > 1
    assert made.usage.completion_tokens == 24
    again = c.chat.completions.create(messages=ASK, n=3, **SHORT)
    assert [choice.message.content for choice in again.choices] == texts
    for choice in made.choices:
        assert "".join(t.token for t in choice.logprobs.content) == choice.message.content
        assert all(t.logprob <= 0 and len(t.top_logprobs) == 2 for t in choice.logprobs.content)
    _, chunks = text_of(c.chat.completions.create(messages=ASK, n=2, stream=True, **SHORT))
    by = {i: "".join(ch.choices[0].delta.content or "" for ch in chunks if ch.choices and ch.choices[0].index == i) for i in (0, 1)}  # fmt: skip
    assert [by[0], by[1]] == texts[:2]


def test_stop_strings_are_no_part_of_the_reply(start):
    c = client(start())
    plain = c.chat.completions.create(messages=ASK, **SHORT).choices[0].message.content
    stop = plain[len(plain) // 2 : len(plain) // 2 + 3]
    before = plain[: plain.index(stop)]
    made = c.chat.completions.create(messages=ASK, stop=[stop, "never"], **SHORT).choices[0]
    assert (made.message.content, made.finish_reason) == (before, "stop")
    text, _ = text_of(c.chat.completions.create(messages=ASK, stop=stop, stream=True, **SHORT))
    assert text == before


def test_completions_go_on_with_a_text(start):
    server = start()
    c = client(server)
    made = c.completions.create(prompt=["w1 w2 w3", "w5 w6"], logprobs=2, **SHORT)
    assert len(made.choices) == 2
    first = made.choices[0]
    assert "".join(first.logprobs.tokens) == first.text
    assert first.logprobs.text_offset[0] == 0
    assert len(first.logprobs.token_logprobs) == 8
    stream = c.completions.create(prompt="w1 w2 w3", stream=True, **SHORT)
    assert "".join(ch.choices[0].text for ch in stream if ch.choices) == first.text
    trace = server.store.load(server.store.list()[0].id)
    assert {r for r, g in zip(trace.roles, trace.generated, strict=True) if g} == {"assistant"}


def test_models(start):
    c = client(start())
    (model,) = c.models.list().data
    assert model.id == "planted"
    assert model.model_extra["affect"]["grade"] == "guarded"
    assert c.models.retrieve("planted").id == "planted"
    with pytest.raises(openai.NotFoundError):
        c.models.retrieve("gpt-4")


@pytest.mark.parametrize(
    ("change", "says"),
    [
        ({"model": "gpt-4"}, "not served"),
        ({"messages": []}, "messages"),
        ({"messages": [{"role": "wizard", "content": "x"}]}, "messages.0.role"),
        ({"messages": [{"role": "user", "content": [{"type": "image_url", "image_url": {"url": "x"}}]}]}, "messages.0.content"),
        ({"max_tokens": 65}, "at most 64"),
        ({"messages": [{"role": "user", "content": "w1 " * 600}]}, "shorten it"),
        ({"temperature": 3}, "temperature"),
        ({"n": 17}, "n:"),
        ({"presence_penalty": 1}, "presence_penalty is not served"),
        ({"response_format": {"type": "json_object"}}, "response_format"),
        ({"tool_choice": "required", "tools": [{"type": "function", "function": {"name": "a"}}]}, "tool_choice"),
        ({"extra_body": {"affect": {"v": 2}}}, "affect.v"),
        ({"extra_body": {"affect": {"concepts": ["envy"]}}}, "envy"),
        ({"extra_body": {"affect": {"policy": "lax"}}}, "no policy 'lax'"),
        ({"extra_body": {"affect": {"mood": 1}}}, "affect.mood"),
    ],
)  # fmt: skip
def test_bad_requests_get_one_line_and_a_status(start, change, says):
    c = client(start())
    with pytest.raises((openai.BadRequestError, openai.NotFoundError)) as raised:
        c.chat.completions.create(**({"messages": ASK, **SHORT} | change))
    message = raised.value.body["message"]
    assert says in message
    assert "\n" not in message


def test_a_latched_session_is_refused_until_a_person_resets_it(start, guard_calibration):
    policy = small(rules__up__ladder=[{"action": "stop"}])
    server = start((policy,), lowered(guard_calibration))
    c, session = client(server), {"affect": {"session": "s1"}}
    made = c.chat.completions.create(messages=ASK, extra_body=session, **SHORT)
    assert made.choices[0].finish_reason == "content_filter"
    (told,) = made.model_extra["affect"]["choices"]
    assert told["decisions"][0]["acts"][0]["action"] == "stop"
    with pytest.raises(openai.PermissionDeniedError, match="a person must reset"):
        c.chat.completions.create(messages=ASK, extra_body=session, **SHORT)
    with pytest.raises(openai.PermissionDeniedError, match="control"):
        client(server, "infer").post("/affect/sessions/s1/reset", cast_to=object)
    c.post("/affect/sessions/s1/reset", cast_to=object)
    assert c.chat.completions.create(messages=ASK, extra_body=session, **SHORT).choices


def test_tools_leave_whole_and_only_through_the_barrier(start, guard_calibration, monkeypatch):
    from affectscope.engines import episode

    call = '{"name": "w1", "arguments": {"a": 1}}'
    tools = [{"type": "function", "function": {"name": "w1", "parameters": {"type": "object"}}}]
    real = episode.Pieces.push
    said = {"left": []}

    def scripted(self, token, last=False):
        real(self, token, last)
        if not said["left"]:
            return ""
        return said["left"].pop(0)

    server = start((small(rules__up__ladder=[{"action": "log"}]),))
    c = client(server)
    prompt = c.chat.completions.create(messages=ASK, tools=tools, **SHORT).usage.prompt_tokens
    monkeypatch.setattr(episode.Pieces, "push", scripted)

    def script():
        said["left"] = [""] * prompt + [call[i : i + 6] for i in range(0, len(call), 6)]

    script()
    made = c.chat.completions.create(messages=ASK, tools=tools, **SHORT).choices[0]
    assert made.finish_reason == "tool_calls"
    assert made.message.content is None
    assert made.message.tool_calls[0].function.name == "w1"
    assert json.loads(made.message.tool_calls[0].function.arguments) == {"a": 1}
    script()
    chunks = list(c.chat.completions.create(messages=ASK, tools=tools, stream=True, **SHORT))
    assert not any(ch.choices[0].delta.content for ch in chunks if ch.choices)
    assert [ch.choices[0].delta.tool_calls[0].function.name for ch in chunks if ch.choices and ch.choices[0].delta.tool_calls] == ["w1"]  # fmt: skip
    closed = start((small(rules__up__ladder=[{"action": "log"}]),), lowered(guard_calibration))
    script()
    asked = {
        "messages": ASK,
        "tools": tools,
        "logprobs": True,
        "extra_body": {"affect": {"concepts": ["calm"]}},
        **SHORT,
    }
    held = client(closed).chat.completions.create(**asked)
    assert held.choices[0].finish_reason == "content_filter"
    assert held.choices[0].message.tool_calls is None
    assert held.choices[0].message.content == ""
    assert "was held" in held.choices[0].message.refusal
    assert "arguments" not in held.to_json().replace('"arguments": null', "")
    script()
    chunks = list(client(closed).chat.completions.create(stream=True, **asked))
    assert chunks[-2].choices[0].finish_reason == "content_filter"
    assert not any("arguments" in chunk.to_json() for chunk in chunks)


@pytest.mark.parametrize(("word", "reason"), [("approved", "length"), ("denied", "content_filter")])
def test_a_reply_waits_for_a_persons_word(start, guard_calibration, word, reason):
    policy = small(rules__up__ladder=[{"action": "human", "seconds": 30}])
    server = start((policy,), lowered(guard_calibration))
    found = []
    thread = threading.Thread(
        target=lambda: found.append(client(server).chat.completions.create(messages=ASK, **SHORT))
    )
    thread.start()
    people = client(server, "control")
    asked = []
    while not asked and thread.is_alive():
        asked = people.get("/affect/escalations", cast_to=object)["data"]
    (one,) = asked
    assert one["tenant"] == "one"
    assert one["deadline"] - one["asked"] == pytest.approx(30, abs=1)
    assert client(server, "other").get("/affect/escalations", cast_to=object)["data"] == []
    with pytest.raises(openai.NotFoundError):
        client(server, "other").post(f"/affect/escalations/{one['id']}", body={"answer": word}, cast_to=object)
    told = people.post(f"/affect/escalations/{one['id']}", body={"answer": word}, cast_to=object)
    assert (told["answered"], told["by"]) == (word, "control")
    thread.join(30)
    assert found[0].choices[0].finish_reason == reason
    assert people.get("/affect/escalations", cast_to=object)["data"] == []


def test_what_a_policy_takes_back_is_nowhere_and_all_replies_share_the_tokens(start, guard_calibration):
    ladder = [{"action": "reprompt", "patience": 500}, "stop"]
    policy = small(rules__up__ladder=ladder, rules__up__dwell=3, limits={"hold_back": 0})
    server = start((policy,), lowered(guard_calibration))
    made = client(server).chat.completions.create(messages=ASK, logprobs=True, **SHORT | {"max_tokens": 20})
    content = made.choices[0].message.content
    assert content
    assert "".join(t.token for t in made.choices[0].logprobs.content) == content
    assert made.usage.completion_tokens <= 20
    text, chunks = text_of(client(server).chat.completions.create(messages=ASK, stream=True, extra_body={"affect": {}}, **SHORT | {"max_tokens": 20}))  # fmt: skip
    stands, taken = "", 0
    for chunk in chunks:  # who reads what is taken back has in the end what the others get
        if "retract" in chunk.model_extra.get("affect", {}):
            stands, taken = "", taken + len(stands)
        stands += "".join(choice.delta.content or "" for choice in chunk.choices)
    assert taken
    assert stands == content
    assert len(text) == taken + len(content)


def test_who_leaves_while_a_person_is_asked_frees_the_place(start, guard_calibration):
    policy = small(rules__up__ladder=[{"action": "human", "seconds": 300}])
    server = start((policy,), lowered(guard_calibration))
    with pytest.raises(openai.APITimeoutError):
        client(server).with_options(timeout=1).chat.completions.create(messages=ASK, **SHORT)
    stream = client(server).chat.completions.create(messages=ASK, stream=True, extra_body={"affect": {}}, **SHORT)
    next(iter(stream))
    while not server.state.inbox.list():
        threading.Event().wait(0.05)
    stream.close()
    for _ in range(100):
        if not (server.state.live or server.state.admission.busy or server.state.inbox.list()):
            break
        threading.Event().wait(0.1)
    assert (server.state.live, server.state.admission.busy, server.state.inbox.list()) == (0, 0, ())


def test_a_client_that_leaves_ends_its_reply_and_keeps_its_trace(start):
    server = start()
    stream = client(server).chat.completions.create(messages=ASK, model="planted", max_tokens=64, seed=1, stream=True)
    next(iter(stream))
    stream.close()
    for _ in range(100):
        if server.state.admission.busy == 0 and server.store.list():
            break
        threading.Event().wait(0.1)
    assert server.state.admission.busy == 0
    assert server.store.list()[0].finished in ("left", "length")
