"""Who may do what: every route by every scope and none, keys that come and go, tenants apart, and what is sent beyond the limits."""

import json
import re
import time

import httpx
import pytest

from affectscope.errors import AffectscopeError
from affectscope.server import routes_ui
from affectscope.server.api_keys import ApiKeys, add_key, revoke_key
from affectscope.server.app import build
from affectscope.server.gate import OPEN
from affectscope.server.state import Limits
from tests.server.conftest import client

CHAT = {"model": "planted", "messages": [{"role": "user", "content": "w1 w2"}], "max_tokens": 2}
NEEDS = {
    ("GET", "/v1/models"): "infer",
    ("GET", "/v1/models/planted"): "infer",
    ("POST", "/v1/chat/completions"): "infer",
    ("POST", "/v1/completions"): "infer",
    ("GET", "/metrics"): "admin",
    ("GET", "/v1/affect/info"): "read",
    ("GET", "/v1/affect/sessions"): "read",
    ("POST", "/v1/affect/sessions/none/reset"): "control",
    ("GET", "/v1/affect/escalations"): "control",
    ("POST", "/v1/affect/escalations/none"): "control",
    ("GET", "/v1/affect/traces"): "read",
    ("GET", "/v1/affect/traces/none"): "read",
    ("GET", "/v1/affect/live"): "read",
    ("GET", "/v1/affect/live/none"): "read",
    ("GET", "/v1/affect/policies"): "read",
    ("POST", "/v1/affect/dry-run"): "read",
    ("GET", "/v1/affect/vectors"): "read",
    ("GET", "/v1/affect/vectors/none"): "read",
    ("GET", "/ui/report"): "read",
    ("GET", "/ui/session"): "any",
    ("GET", "/ui/none"): "any",
    ("POST", "/ui/logout"): "any",
    ("GET", "/openapi.json"): "any",
}
"""Every route, and the scope that it needs."""
BODIES = {
    "/v1/chat/completions": CHAT,
    "/v1/completions": {"model": "planted", "prompt": "w1 w2", "max_tokens": 2},
    "/v1/affect/escalations/none": {"answer": "denied"},
    "/v1/affect/dry-run": {"policy": "small"},
}
PAGES = {("GET", "/"), ("GET", "/ui"), ("GET", "/ui/")}
"""Without a key they lead to the page for signing in."""


def ask(server, method, path, key=None, **more):
    headers = {"Authorization": f"Bearer {server.keys[key]}"} if key else {}
    body = {"json": BODIES.get(path, {})} if method == "POST" else {}
    if path == "/v1/affect/live":  # it does not end by itself
        with httpx.stream(method, server.url + path, headers=headers, timeout=30) as answer:
            if answer.status_code != 200:
                answer.read()
            return answer
    return httpx.request(method, server.url + path, headers=headers, timeout=30, **(body | more))


def test_every_route_by_every_scope_and_none(start):
    server = start()
    server.keys["wrong"] = "as-wrong"
    for (method, path), needs in NEEDS.items():
        nobody = ask(server, method, path)
        assert nobody.status_code == 401, path
        assert nobody.json()["error"]["code"] == "missing_api_key"
        assert ask(server, method, path, "wrong").status_code == 401
        for key in ("infer", "read", "control", "admin"):
            got = ask(server, method, path, key)
            allowed = key in (needs, "admin") or needs == "any"
            assert (got.status_code == 403) != allowed, (path, key, got.text)
            if allowed:
                assert got.status_code in (200, 404) or path == "/ui/logout", (path, key, got.text)
            else:
                assert got.json()["error"]["code"] == "missing_scope"
    for path in OPEN:
        assert ask(server, "GET", path).status_code == 200


def _routes(app):
    """Every route that answers, those too that the schema does not name."""
    for path, methods in app.openapi()["paths"].items():
        yield from ((path, method.upper()) for method in methods)
    for route in routes_ui.router.routes:
        yield from ((route.path, method) for method in route.methods if method != "HEAD")


def test_no_route_is_forgotten_above(start):
    server = start()
    app = build(server.state)
    routes = {(method, path) for path, method in _routes(app)}
    named = {
        (m, p.replace("/planted", "/{name}").replace("/none", "/{name}")) for m, p in NEEDS if p != "/openapi.json"
    }
    alike = {(m, re.sub(r"\{[^}]*\}", "{name}", p)) for m, p in routes if p not in OPEN}
    assert alike - PAGES == named
    for method, path in (("GET", "/nothing"), ("DELETE", "/v1/models"), ("GET", "/docs"), ("GET", "/v1/../metrics")):
        assert ask(server, method, path).status_code == 401
        assert ask(server, method, path, "infer").status_code in (403, 404, 405)


def test_two_tenants_never_see_each_other(start):
    server = start()
    body = CHAT | {"affect": {"session": "shared"}}
    for key in ("user", "other"):
        assert ask(server, "POST", "/v1/chat/completions", key, json=body).status_code == 200
    listed = {key: ask(server, "GET", "/v1/affect/traces", key).json()["data"] for key in ("user", "other", "admin")}
    assert [len(listed[k]) for k in ("user", "other", "admin")] == [1, 1, 2]
    mine, theirs = listed["user"][0]["id"], listed["other"][0]["id"]
    assert ask(server, "GET", f"/v1/affect/traces/{mine}", "user").json()["id"] == mine
    assert ask(server, "GET", f"/v1/affect/traces/{theirs}", "user").status_code == 404
    assert ask(server, "GET", f"/v1/affect/traces/{theirs}", "admin").status_code == 200
    sessions = {
        key: ask(server, "GET", "/v1/affect/sessions", key).json()["data"] for key in ("user", "other", "admin")
    }
    assert [[s["tenant"] for s in sessions[k]] for k in ("user", "other")] == [["one"], ["two"]]
    assert len(sessions["admin"]) == 2


def test_keys_come_and_go_while_the_server_runs(start):
    server = start()
    file = server.folder / "keys.json"
    server.keys["new"] = add_key(file, "new", ["infer"])
    server.keys["short"] = add_key(file, "short", ["infer"], days=1e-6)
    time.sleep(1.1)
    assert ask(server, "GET", "/v1/models", "new").status_code == 200
    assert ask(server, "GET", "/v1/models", "short").status_code == 401
    revoke_key(file, "new")
    time.sleep(1.1)
    assert ask(server, "GET", "/v1/models", "new").status_code == 401
    file.write_text("{")  # a file that is damaged while it is written leaves the keys as they were
    time.sleep(1.1)
    assert ask(server, "GET", "/v1/models", "user").status_code == 200


def test_a_file_of_keys_holds_no_key_and_is_its_owners_alone(tmp_path):
    file = tmp_path / "keys.json"
    key = add_key(file, "a", ["infer", "read"], "t")
    assert key.startswith("as-")
    assert len(key) > 40
    assert key not in file.read_text()
    assert file.stat().st_mode & 0o077 == 0
    assert ApiKeys(file).find(key).tenant == "t"
    assert ApiKeys(file).find(key[:-1]) is None
    assert [shown.plain() for shown in ApiKeys(file).list()] == [{"name": "a", "tenant": "t", "scopes": ("infer", "read"), "expires": 0}]  # fmt: skip


@pytest.mark.parametrize(
    ("act", "says"),
    [
        (lambda f: add_key(f, "a", ["infer"]), "already"),
        (lambda f: add_key(f, "b", ["everything"]), "scopes"),
        (lambda f: add_key(f, "b", []), "scopes"),
        (lambda f: add_key(f, "b c", ["infer"]), "name"),
        (lambda f: add_key(f, "b", ["infer"], days=0), "longer than 0 days"),
        (lambda f: revoke_key(f, "b"), "no key 'b'"),
        (lambda f: ApiKeys(f.with_name("none")), "cannot read"),
        (lambda f: (f.write_text("["), ApiKeys(f)), "no JSON"),
        (lambda f: (f.write_text('{"format": "other", "keys": []}'), ApiKeys(f)), "format"),
        (lambda f: (f.write_text(json.dumps(json.loads(f.read_text()) | {"keys": json.loads(f.read_text())["keys"] * 2})), ApiKeys(f)), "two keys"),
    ],
)  # fmt: skip
def test_what_is_wrong_with_keys_is_told_in_one_line(tmp_path, act, says):
    file = tmp_path / "keys.json"
    add_key(file, "a", ["infer"])
    with pytest.raises(AffectscopeError, match=says) as raised:
        act(file)
    assert "\n" not in str(raised.value)


def test_bodies_beyond_the_limits_are_refused(start):
    server = start(limits=Limits(longest=64, body=2000, depth=8, drain=5))
    path = "/v1/chat/completions"
    head = {"Authorization": f"Bearer {server.keys['infer']}", "Content-Type": "application/json"}

    def post(**more):
        return httpx.post(server.url + path, headers=head | more.pop("headers", {}), timeout=30, **more)

    assert post(content=b"x" * 3000).status_code == 413
    assert post(content=(b"x" * 500 for _ in range(6))).status_code == 413  # of no announced length
    assert post(content=b"[" * 900).json()["error"]["message"].startswith("the body nests deeper than 8")
    deep = json.dumps(CHAT | {"metadata": "[[[[[[[[[[[["})  # brackets in a text nest nothing
    assert post(content=deep.encode()).status_code == 200
    assert post(content=b"{").status_code == 400
    assert post(content=b'"' + b'\\"' * 900).status_code == 400  # a string that never closes is looked at once
    half = json.dumps(CHAT | {"messages": [{"role": "user", "content": "\ud800"}]}).encode()
    assert post(content=half).json()["error"]["message"].startswith("the body holds half a character")
    assert post(content=b"\xff\xfe").status_code == 400
    assert post(content=b"[1]").status_code == 400
    assert post(content=b"{}", headers={"Content-Type": "text/plain"}).status_code == 415
    assert post(content=json.dumps(CHAT | {"temperature": float("nan")}).encode()).status_code == 400
    answer = httpx.get(server.url + "/healthz")
    assert answer.headers["content-security-policy"].startswith("default-src 'none'")
    assert "access-control-allow-origin" not in answer.headers


def test_a_key_has_so_many_requests_a_minute(start):
    server = start(limits=Limits(longest=64, per_minute=3, drain=5))
    got = [ask(server, "GET", "/v1/models", "infer") for _ in range(5)]
    assert [g.status_code for g in got] == [200, 200, 200, 429, 429]
    assert int(got[-1].headers["retry-after"]) >= 1
    assert ask(server, "GET", "/v1/models", "user").status_code == 200  # another key's are its own


def test_numbers_hold_no_ids_and_no_text(start):
    server = start()
    client(server).chat.completions.create(**CHAT | {"messages": [{"role": "user", "content": "w7 w8 w9"}]})
    told = ask(server, "GET", "/metrics", "admin").text
    assert 'affect_tokens_total{kind="generated"} 2.0' in told
    assert 'affect_requests_total{route="/v1/chat/completions",status="200"} 1.0' in told
    assert 'affect_emotion_z{emotion="angry"}' in told
    assert "w7" not in told
    assert server.keys["user"] not in told
