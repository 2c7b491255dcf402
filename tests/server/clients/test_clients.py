"""Other people's clients, unchanged, each in a process of its own: chat, streams, tools, choices, usage, errors, and our object.

``make clients`` installs them beside these files and into ``.clients``, apart from our own environment.
"""

import json
import os
import subprocess
import sys
from dataclasses import replace
from pathlib import Path

import pytest

from affectscope.guarding.tools import TOLD
from affectscope.server.talks import GuardedTalk
from tests.server.conftest import client

HERE = Path(__file__).parent
INSTALLED = HERE.parents[2] / ".clients"
PROGRAMS = {
    "node": ["node", str(HERE / "node_client.mjs")],
    "langchain": [sys.executable, str(HERE / "langchain_client.py")],
    "litellm": [sys.executable, str(HERE / "litellm_client.py")],
}
ASKED = "w1 w2 w3 m1"
SHORT = {"model": "planted", "max_tokens": 8, "seed": 3, "messages": [{"role": "user", "content": ASKED}]}
TOOL = {
    "name": "w1",
    "description": "w2",
    "parameters": {"type": "object", "properties": {"a": {"type": "integer"}}, "required": ["a"]},
}
CALL = '{"name": "w1", "arguments": {"a": 5}}'
OFFLINE = {"LITELLM_LOCAL_MODEL_COST_MAP": "True", "LANGSMITH_TRACING": "false"}
"""LiteLLM asks the network for prices when it is imported, unless it is told to use those that it brings."""


@pytest.fixture
def told(start, monkeypatch):
    """``told(name)``: what a client's program found of a server whose model calls the tool that it is told of, once."""
    real = GuardedTalk.pieces

    def scripted(self, messages, sampling, logprobs, each):
        say = [CALL] if TOLD in messages[0].content and messages[-1].role == "user" else None
        for piece in real(self, messages, sampling, logprobs, each):
            if say is not None and piece.kind == "text":
                piece = replace(piece, text=say.pop() if say else "")
            yield piece

    monkeypatch.setattr(GuardedTalk, "pieces", scripted)

    def run(name):
        server = start()
        given = {"url": f"{server.url}/v1", "key": server.keys["user"], "asked": ASKED, "tool": TOOL}
        environment = {**os.environ, **OFFLINE, "PYTHONPATH": str(INSTALLED)}
        done = subprocess.run([*PROGRAMS[name], json.dumps(given)], env=environment, capture_output=True, text=True)
        assert done.returncode == 0, f"is it installed (`make clients`)?\n{done.stderr}"
        return server, json.loads(done.stdout.splitlines()[-1])

    return run


def replies_are_the_same(server, made, name):
    ours = client(server).chat.completions.create(**SHORT)
    text = ours.choices[0].message.content
    assert made["whole"]["text"] == made["streamed"]["text"] == text
    assert made["whole"]["finish"] == made["streamed"]["finish"] == "length"
    usage = list(ours.usage.to_dict().values())
    assert sorted(made["whole"]["usage"].values()) == sorted(made["streamed"]["usage"].values()) == sorted(usage)
    assert made["several"] == [c.message.content for c in client(server).chat.completions.create(n=3, **SHORT).choices]
    assert made["several"][0] == text  # the seed draws the same again
    assert made["stop"]["text"] == text[: text.index(made["stop"]["given"])] != ""
    assert "".join(token for token, _, _ in made["logprobs"]) == text
    assert all(value <= 0 and likeliest == 2 for _, value, likeliest in made["logprobs"])
    assert made.get("reached", []) == []


def tools_leave_and_their_answers_come_back(server, made, name):
    assert made["call"] == {"name": "w1", "arguments": {"a": 5}, "finish": "tool_calls"}
    assert made["answered"]
    if name == "node":  # its own loop runs the tool and asks again
        assert made["loop_calls"] == ["w5"]
        assert made["loop"] == made["answered"]
    else:
        assert made["call_streamed"] == [["w1", {"a": 5}]]


def our_object_can_be_asked_for_and_read(server, made, name):
    assert made["plain"]
    (one,) = made["affect"]["choices"]
    assert made["affect"]["concepts"] == ["calm"]
    assert len(one["z"]) == 8
    assert server.store.load(one["trace"]).tags["key"] == "user"
    rows = [part for part in made["affect_streamed"] if "tok" in part]
    assert [z for part in rows for z in part["z"]] == one["z"]
    if name != "litellm":  # which lets go of chunks that hold no choice, and with them of the summary at the end
        assert made["affect_streamed"][-1]["summary"] == one["summary"]


def errors_are_its_own_and_say_the_remedy(server, made, name):
    prefix = "OpenAI" if name == "langchain" else ""
    missing, bad = ("ModelNotFoundError", "InvalidRequestError") if prefix else ("NotFoundError", "BadRequestError")
    wanted = {
        "key": (f"{prefix}AuthenticationError", 401, "send a key of this server"),
        "model": (f"{prefix}{missing}", 404, "use 'planted'"),
        "stream": (f"{prefix}{missing}", 404, "use 'planted'"),
        "field": (f"{prefix}{bad}", 400, "at most 64"),
    }
    assert {kind: (e["class"], e["status"]) for kind, e in made["errors"].items()} == {k: w[:2] for k, w in wanted.items()}  # fmt: skip
    for kind, (_, _, remedy) in wanted.items():
        assert remedy in made["errors"][kind]["says"]


@pytest.mark.parametrize("name", list(PROGRAMS))
def test_a_client_of_others_is_served_unchanged(told, name):
    server, made = told(name)
    replies_are_the_same(server, made, name)
    tools_leave_and_their_answers_come_back(server, made, name)
    our_object_can_be_asked_for_and_read(server, made, name)
    errors_are_its_own_and_say_the_remedy(server, made, name)
