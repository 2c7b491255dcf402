"""A proxy in front of an engine that a test wrote, and what both say."""

import copy
import json
import threading

import httpx
import pytest

from affectscope.models.load import wrap
from affectscope.monitoring.store import Store
from affectscope.server.api_keys import ApiKeys
from affectscope.server.rereading import Proxied
from affectscope.server.served import Kept
from affectscope.server.state import Limits, State
from affectscope.server.upstream import Upstream
from tests.server.behind import Behind
from tests.server.running import running_server

SECRET = "sk-behind-secret-123"
ASK = [{"role": "user", "content": "w1 w2 w3 m1"}]
WORDS = "w4 m1 w5 m1 w6 m3 m3 w7 w8 m1 w9 w10 w11 w12"
PARTS = [WORDS[i : i + 3] for i in range(0, len(WORDS), 3)]  # words are cut in two
WANT = {"affect": {"concepts": ["calm", "angry"]}}
PLAIN = {"vectors": None, "calibration": None, "policies": ()}
SHORT = {"model": "planted", "max_tokens": 8, "seed": 3}


@pytest.fixture
def behind():
    """``behind(answer)``: an engine in raw HTTP."""
    running = []

    def begin(answer):
        running.append(Behind(answer))
        return running[-1]

    yield begin
    for one in running:
        one.close()


def again(model):
    """The same weights in a network of its own: two engines hook into one network only one at a time."""
    return wrap(copy.deepcopy(model.network), model.tokenizer, name=model.name)


@pytest.fixture
def front(planted, planted_vectors, tmp_path):
    """``front(url, ...)``: a running proxy in front of it."""
    running = []

    def begin(url, calibration=None, limits=None, slots=4, seconds=20.0, key=SECRET, policies=()):
        from tests.server.conftest import made_keys  # it has these fixtures of here

        folder = tmp_path / f"front{len(running)}"
        folder.mkdir()
        keys, store = made_keys(folder / "keys.json"), Store.open(folder / "traces")
        served = Proxied(
            Upstream(url, key, seconds), again(planted[0]), planted_vectors, calibration, policies,
            slots=slots, kept=Kept(store), canaries=False, name="reader",
        )  # fmt: skip
        state = State(served, ApiKeys(folder / "keys.json"), limits or Limits(drain=5))
        made = running_server(state)
        made.keys, made.state, made.store, made.folder = keys, state, store, folder
        running.append(made)
        return made

    yield begin
    for one in running:
        one.server.should_exit = True
    for one in running:
        one.thread.join(30)
        assert not one.thread.is_alive()


def post(server, path="/chat/completions", key="user", **body):
    head = {"Authorization": f"Bearer {server.keys[key]}"}
    return httpx.post(f"{server.url}/v1{path}", headers=head, json={"model": "behind-1", "messages": ASK, **body}, timeout=30)  # fmt: skip


def chunks_of(answer):
    return [json.loads(line[6:]) for line in answer.text.split("\n\n") if line.startswith("data: {")]


def affects(chunks):
    return [c["affect"] for c in chunks if "affect" in c]


def wait_for(true):
    for _ in range(200):
        if true():
            return
        threading.Event().wait(0.05)
    assert true()
