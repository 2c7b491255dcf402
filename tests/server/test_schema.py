"""The server against its own ``/openapi.json``: requests drawn from the schema and against it, every answer as the document says.

The draws of an operation are always the same, so that a fault found once is found again.
"""

import threading
import time
from collections import Counter

import hypothesis
import pytest
import schemathesis
from hypothesis import strategies as st
from schemathesis import GenerationMode
from schemathesis.checks import load_all_checks, not_a_server_error
from schemathesis.specs.openapi import checks

from affectscope.guarding.session import Question
from affectscope.server.app import build
from affectscope.server.gate import OPEN
from affectscope.server.state import Limits
from tests.server.conftest import client

load_all_checks()
CHECKS = [
    not_a_server_error,
    checks.status_code_conformance,
    checks.content_type_conformance,
    checks.response_headers_conformance,
    checks.response_schema_conformance,
]
ENDLESS = ("/v1/affect/live", "/v1/affect/live/{name}")
"""Streams that end with their reader."""
EXAMPLES = 40
UNSERVED = ("presence_penalty", "frequency_penalty", "logit_bias", "response_format", "tool_choice", "stop", "suffix", "echo", "best_of")  # fmt: skip


def mended(body):
    """A drawn request for a reply, with what no schema can say made right: of the fields that go together, one is left out."""
    made = {name: value for name, value in body.items() if name not in UNSERVED} | {"model": "planted", "max_tokens": 2}
    for message in made.get("messages", ()):
        message["content"] = message.get("content") or "w1"
        for call in message.get("tool_calls") or ():
            call["function"]["arguments"] = "{}"
    if "prompt" in made:
        made["prompt"] = "w1 w2"
    if made.get("affect"):
        made["affect"] = {"concepts": ["calm"]}
    if not made.get("stream"):
        made.pop("stream_options", None)
    if not made.get("logprobs"):
        made.pop("top_logprobs", None)
    return made | {"max_completion_tokens": 2, "n": 1}


class Known:
    """What is there on a server, by the route that asks for it."""

    def __init__(self, server):
        self._server = server
        made = client(server, "admin").chat.completions.create(
            model="planted",
            messages=[{"role": "user", "content": "w1 m1"}],
            max_tokens=2,
            extra_body={"affect": {"session": "s"}},
        )
        self._names = {
            "/v1/models/{name}": "planted",
            "/v1/affect/sessions/{name}/reset": "s",
            "/v1/affect/traces/{name}": made.model_extra["affect"]["choices"][0]["trace"],
            "/v1/affect/vectors/{concept}": "calm",
        }

    def put(self, case):
        """Ask for what is there, in a way that can be answered."""
        path = case.operation.path
        for name in case.path_parameters or {}:
            case.path_parameters[name] = self._question() if "escalations" in path else self._names[path]
        if not isinstance(case.body, dict):
            return
        if path.endswith("completions"):
            case.body = mended(case.body)
        elif path.endswith("dry-run"):
            case.body = {"policy": "small"}

    def _question(self):
        inbox = self._server.state.inbox
        before = {one.id for one in inbox.list()}
        asked = ("one", "s", Question("up", "why", 60, "said"), lambda: self._server.state.draining)
        threading.Thread(target=inbox.ask, args=asked, daemon=True).start()
        while not (found := {one.id for one in inbox.list()} - before):
            time.sleep(0.001)
        return found.pop()


def operations(server):
    headers = {"Authorization": f"Bearer {server.keys['admin']}"}
    schema = schemathesis.openapi.from_url(f"{server.url}/openapi.json", headers=headers)
    return [found.ok() for found in schema.get_all_operations()]


def answers(operation, examples, key, known=None):
    """Ask with requests that fit the schema and requests that do not, and hold every answer against the document."""
    kinds, seen = [operation.as_strategy(GenerationMode.POSITIVE)], Counter()
    if operation.body or operation.path_parameters or operation.query:
        kinds.append(operation.as_strategy(GenerationMode.NEGATIVE))
    headers = {"Authorization": f"Bearer {key}"} if key else {}

    @hypothesis.settings(
        max_examples=examples, derandomize=True, database=None, deadline=None, suppress_health_check=list(hypothesis.HealthCheck)
    )  # fmt: skip
    @hypothesis.given(st.one_of(kinds), st.booleans())
    def each(case, there):
        if there and known is not None:
            known.put(case)
        answer = case.call(headers=headers)
        seen[answer.status_code] += 1
        case.validate_response(answer, checks=CHECKS)

    each()
    return seen


def test_every_answer_is_as_the_document_says(start):
    server = start(limits=Limits(longest=4, drain=5))
    known = Known(server)
    for operation in operations(server):
        if operation.path in ENDLESS:
            continue
        seen = answers(operation, EXAMPLES, server.keys["admin"], known)
        assert seen[200], (operation.label, seen)
        if operation.body:
            assert seen[400], (operation.label, seen)


def test_a_refusal_for_want_of_a_key_or_a_scope_is_as_the_document_says(start):
    server = start(limits=Limits(longest=4, drain=5))
    for operation in operations(server):
        if operation.path in OPEN:
            continue
        assert set(answers(operation, 8, None)) == {401}, operation.label
        for key in ("infer", "read", "control"):
            if operation.path not in ENDLESS:
                answers(operation, 4, server.keys[key])


@pytest.mark.parametrize("mode", ["engine", "proxy"])
def test_the_document_is_whole(start, front, mode):
    server = start() if mode == "engine" else front("http://127.0.0.1:9")
    document = build(server.state).openapi()
    found = list(parts(document))
    assert all(resolved(document, part["$ref"]) for part in found if "$ref" in part)
    assert not any("ValidationError" in part.get("$ref", "") for part in found)
    for path, methods in document["paths"].items():
        for operation in methods.values():
            assert operation["description"], path
            assert any(content.get("schema") for content in operation["responses"]["200"]["content"].values()), path
            assert all(given["description"] for given in operation.get("parameters", ())), path
            assert ("401" in operation["responses"]) == (path not in OPEN) == (operation.get("security") is None), path
            assert "422" not in operation["responses"], path


def parts(value):
    """Every object in a document."""
    if isinstance(value, dict):
        yield value
    for inner in value.values() if isinstance(value, dict) else value if isinstance(value, list) else ():
        yield from parts(inner)


def resolved(document, reference):
    for name in reference.removeprefix("#/").split("/"):
        document = document[name]
    return document
