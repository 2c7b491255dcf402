"""What the dashboard stands on: signing in, live streams, history by filters, dry runs, doses by hand, and the log of all that."""

import json
import threading
import time
from contextlib import ExitStack
from dataclasses import replace

import httpx
import pytest
from typer.testing import CliRunner

from affectscope.cli import app
from affectscope.errors import AffectscopeError
from affectscope.guarding.policy import Policy
from affectscope.monitoring.store import Store
from affectscope.server.api_keys import revoke_key
from affectscope.server.control_log import ControlLog, verify_control_log
from affectscope.server.hub import KEPT_FOR, Hub
from affectscope.server.pins import require_pins
from affectscope.server.state import Limits
from tests.guarding.test_policy import small
from tests.server.conftest import client, lowered
from tests.server.test_access import CHAT, ask


@pytest.fixture
def sign_in():
    """``sign_in(server, key)``: a browser that is signed in, and who it is."""
    browsers = []

    def begin(server, key="admin"):
        browser = httpx.Client(base_url=server.url, timeout=30)
        browsers.append(browser)
        answer = browser.post("/ui/login", data={"key": server.keys[key]}, headers={"Sec-Fetch-Site": "same-origin"})
        assert answer.status_code == 303
        return browser, browser.get("/ui/session").json()

    yield begin
    for browser in browsers:
        browser.close()


def heard(server, path, key="user", until=lambda messages: len(messages) >= 3, seconds=20.0):
    """Messages of a stream, until there is enough."""
    found, limit = [], time.monotonic() + seconds
    headers = {"Authorization": f"Bearer {server.keys[key]}"}
    with httpx.stream("GET", server.url + path, headers=headers, timeout=seconds) as answer:
        assert answer.status_code == 200, answer.read()
        assert answer.headers["content-type"].startswith("text/event-stream")
        for line in answer.iter_lines():
            if line.startswith("data: "):
                found.append(json.loads(line[6:]))
            if until(found) or time.monotonic() > limit:
                return found
    return found


def talk(server, key="user", session="", **affect):
    affect = {"session": session} | affect
    body = CHAT | {"max_tokens": 6, "affect": affect}
    return ask(server, "POST", "/v1/chat/completions", key, json=body)


def test_a_browser_signs_in_with_a_cookie_and_changes_need_its_token(start, sign_in):
    server = start()
    browser, me = sign_in(server)
    cookie = browser.cookies.jar.__iter__().__next__()
    assert cookie.has_nonstandard_attr("HttpOnly")
    assert cookie.get_nonstandard_attr("SameSite") == "strict"
    assert me["scopes"] == ["admin"]
    assert me["csrf"] not in ("", cookie.value)
    assert browser.get("/v1/affect/info").status_code == 200
    for headers in ({}, {"X-CSRF-Token": "wrong"}, {"X-CSRF-Token": cookie.value}):
        refused = browser.post("/v1/chat/completions", json=CHAT, headers=headers)
        assert (refused.status_code, refused.json()["error"]["code"]) == (403, "csrf")
    assert browser.post("/v1/chat/completions", json=CHAT, headers={"X-CSRF-Token": me["csrf"]}).status_code == 200
    assert browser.post("/ui/logout").status_code == 403
    assert browser.post("/ui/logout", headers={"X-CSRF-Token": me["csrf"]}).json() == {"signed_out": True}
    assert httpx.get(f"{server.url}/v1/affect/info", cookies={"affectscope": cookie.value}).status_code == 401


def test_a_cookie_ends_with_its_key(start, sign_in):
    server = start()
    browser, _ = sign_in(server, "read")
    assert browser.get("/v1/affect/info").status_code == 200
    assert browser.get("/v1/affect/escalations").status_code == 403  # its scopes are the key's
    revoke_key(server.folder / "keys.json", "read")
    time.sleep(1.1)
    assert browser.get("/v1/affect/info").status_code == 401


def test_signing_in_takes_no_wrong_key_no_foreign_form_and_no_endless_trying(start):
    server = start()
    url = f"{server.url}/ui/login"
    wrong = httpx.post(url, data={"key": "<b>as-wrong"})
    assert wrong.status_code == 401
    assert "not known" in wrong.text
    assert "<b>as" not in wrong.text
    assert "set-cookie" not in wrong.headers
    good = {"key": server.keys["user"]}
    assert httpx.post(url, data=good, headers={"Sec-Fetch-Site": "cross-site"}).status_code == 403
    assert httpx.post(url, data=good, headers={"Origin": "https://elsewhere.example"}).status_code == 403
    tries = [httpx.post(url, data={"key": "as-wrong"}).status_code for _ in range(40)]
    assert tries[0] == 401
    assert tries[-1] == 429
    for path in ("/", "/ui", "/ui/"):
        lost = httpx.get(server.url + path)
        assert (lost.status_code, lost.headers["location"]) == (303, "/ui/login")
    for path in ("/ui/app.js", "/ui/index.html", "/ui/affect-trace.js"):
        assert httpx.get(server.url + path).status_code == 401


def test_the_dashboards_files_are_its_own_and_may_do_nothing_else(start, sign_in):
    server = start()
    browser, _ = sign_in(server, "read")
    page = browser.get("/ui")
    rules = page.headers["content-security-policy"]
    assert "default-src 'none'" in rules
    assert "unsafe" not in rules
    assert "<script>" not in page.text
    for name in (
        "login.html.bak",
        "..%2frouter.py",
        "..%2f..%2fstate.py",
        "%2e%2e/state.py",
        "__init__.py",
        "nothing.js",
    ):
        assert browser.get(f"/ui/{name}").status_code == 404, name
    assert browser.get("/ui/affect-trace.js").headers["content-type"].startswith("text/javascript")
    assert browser.get("/ui/report").status_code == 404


def test_a_report_is_shown_without_an_origin_of_its_own(start, tmp_path, sign_in):
    server = start()
    server.state.report = tmp_path / "report.html"
    server.state.report.write_text("<script>1</script>")
    browser, _ = sign_in(server, "read")
    found = browser.get("/ui/report")
    assert found.text == "<script>1</script>"
    assert found.headers["content-security-policy"].startswith("sandbox allow-scripts;")
    assert "allow-same-origin" not in found.headers["content-security-policy"]


def test_the_wall_tells_each_tenant_its_own_and_what_changes(start):
    server = start()
    for key in ("user", "other"):
        assert talk(server, key, "same").status_code == 200
    first = heard(server, "/v1/affect/live", until=lambda m: len(m) >= 2)
    assert set(first[0]["concepts"]) <= set(server.state.served.monitor.read.concepts)
    assert [(new["tenant"], new["name"]) for new in first[1]["new"]] == [("one", "same")]
    everything = heard(server, "/v1/affect/live", "admin", until=lambda m: len(m) >= 2)
    assert {new["tenant"] for new in everything[1]["new"]} == {"one", "two"}
    (row,) = first[1]["rows"]
    number, phase, tokens, level, _rule, alarms, acts, z = row
    assert (number, phase, alarms, acts) == (first[1]["new"][0]["number"], "idle", 0, 0)
    assert tokens == server.state.named["one", "same"].talk.place
    assert level >= 0
    assert len(z) == len(first[0]["concepts"])
    later = threading.Timer(0.5, talk, (server, "user", "same"))
    later.start()
    told = heard(server, "/v1/affect/live", until=lambda m: any(r[2] > tokens for x in m for r in x.get("rows", ())))
    assert any(r[0] == number and r[2] > tokens for x in told for r in x.get("rows", ()))
    later.join()


def test_a_conversation_that_is_over_goes_after_a_while(start, monkeypatch):
    server = start()
    talk(server)
    hub = server.state.hub
    view = hub.view("one")
    (new,) = view.next()["new"]
    assert view.next() == {}
    monkeypatch.setattr("affectscope.server.hub.time.monotonic", lambda: time.time() + 2 * KEPT_FOR + 1e9)
    assert view.next() == {"gone": [new["number"]]}


@pytest.mark.parametrize("content", [False, True])
def test_one_conversation_is_told_token_by_token_and_its_text_only_where_it_is_kept(start, content):
    server = start(content=content)
    talk(server, session="mine")
    place = server.state.named["one", "mine"].talk.place
    told = heard(server, "/v1/affect/live/mine", until=lambda m: sum(len(x.get("steps", ())) for x in m) >= place)
    assert told[0]["content"] is content
    steps = [step for message in told for step in message.get("steps", ())]
    readings = server.state.named["one", "mine"].talk.watch.readings
    assert len(steps) == len(readings)
    assert [step["token"] for step in steps] == [r.step.text if content else None for r in readings]
    assert [step["generated"] for step in steps] == [r.step.generated for r in readings]
    assert len(steps[0]["z"]) == len(told[0]["trace"]["concepts"])
    assert ask(server, "GET", "/v1/affect/live/mine", "other").status_code == 404


def test_a_long_past_comes_in_pieces(start, monkeypatch):
    monkeypatch.setattr("affectscope.server.routes_live.MOST_STEPS", 3)
    server = start()
    talk(server, session="long")
    place = server.state.named["one", "long"].talk.place
    told = heard(server, "/v1/affect/live/long", until=lambda m: sum(len(x.get("steps", ())) for x in m) >= place)
    counts = [len(message["steps"]) for message in told if "steps" in message]
    assert max(counts) == 3
    assert sum(counts) == place


def test_onlookers_are_bounded_and_leave_with_their_key(start):
    server = start(limits=Limits(longest=64, drain=5, onlookers=1))
    headers = {"Authorization": f"Bearer {server.keys['read']}"}
    with httpx.stream("GET", f"{server.url}/v1/affect/live", headers=headers, timeout=20) as answer:
        lines = answer.iter_lines()
        next(lines)
        refused = ask(server, "GET", "/v1/affect/live", "user")
        assert (refused.status_code, refused.json()["error"]["code"]) == (429, "too_many_onlookers")
        revoke_key(server.folder / "keys.json", "read")
        list(lines)  # it ends
    for _ in range(100):
        if not server.state.onlookers.total():
            break
        time.sleep(0.05)
    assert server.state.onlookers.total() == 0
    assert heard(server, "/v1/affect/live", until=lambda m: len(m) >= 1)


def test_streams_end_when_the_server_drains(start):
    server = start()
    headers = {"Authorization": f"Bearer {server.keys['user']}"}
    with httpx.stream("GET", f"{server.url}/v1/affect/live", headers=headers, timeout=20) as answer:
        lines = answer.iter_lines()
        next(lines)
        server.server.should_exit = True
        server.state.begin_drain()
        list(lines)


def test_history_by_what_happened(start, guard_calibration):
    server = start(calibration=lowered(guard_calibration))
    talk(server, session="a")
    quiet = start()
    talk(quiet, session="b")
    rule = next(iter(small().rules))
    (watched, *_), unwatched = small().rules[rule].concepts, "no such concept"
    store = server.store.list()
    assert store[0].alarms
    acts = {e.detail["act"] for e in server.store.load(store[0].id).events if e.kind == "action"}
    assert acts

    def found(where, **wanted):
        return [row["id"] for row in ask(where, "GET", "/v1/affect/traces", "user", params=wanted).json()["data"]]

    everything = found(server)
    assert (
        everything
        == found(server, concept=watched)
        == found(server, action=acts.pop(), alarm=True)
        == found(server, session="a")
    )
    assert found(server, concept=unwatched) == found(server, action="nothing") == found(server, session="b") == []
    assert found(quiet, concept=watched) == []
    assert found(server, since=time.time() + 60) == found(server, until=time.time() - 600) == []
    number = store[-1].number
    assert found(server, before=number) == []
    assert found(server, before=number + 1) == [store[-1].id]
    happened = server.store.happened({"tenant": "one"})
    assert happened["alarm"][rule] >= 1
    assert server.store.happened({"tenant": "two"}) == {"alarm": {}, "action": {}}
    told = ask(server, "GET", "/v1/affect/policies", "user").json()
    assert told["policies"][0]["happened"] == happened
    assert told["policies"][0]["floor"]


def test_a_dry_run_decides_over_the_tenants_own_traces(start, guard_calibration):
    server = start(calibration=lowered(guard_calibration))
    for key in ("user", "other"):
        talk(server, key)
    name = small().name
    made = ask(server, "POST", "/v1/affect/dry-run", "user", json={"policy": name}).json()
    assert len(made["traces"]) == 1
    assert made["traces"][0]["acts"]
    assert made["hash"] == small().hash
    import yaml

    mild = yaml.safe_dump(json.loads(json.dumps(small().plain() | {"name": "mine"})))
    again = ask(server, "POST", "/v1/affect/dry-run", "user", json={"yaml": mild}).json()
    assert [row["first"] for row in again["traces"]] == [row["first"] for row in made["traces"]]
    before = server.store.list()
    assert before == server.store.list()


@pytest.mark.parametrize(
    ("body", "says"),
    [
        ({}, "either"),
        ({"policy": "none"}, "no policy"),
        ({"policy": "a", "yaml": "b"}, "either"),
        ({"yaml": "a: &x [1]\nb: *x"}, "aliases"),
        ({"yaml": "["}, "line"),
        ({"yaml": "rules: 1"}, "format"),
        ({"policy": "x", "limit": 0}, "limit"),
        ({"policy": "x", "limit": 10_000}, "limit"),
    ],
)
def test_a_dry_run_says_what_is_wrong(start, body, says):
    server = start()
    refused = ask(server, "POST", "/v1/affect/dry-run", "user", json=body)
    assert refused.status_code == 400
    assert says in refused.json()["error"]["message"]


def test_a_dry_run_of_rules_that_were_not_calibrated_is_refused(start):
    server = start()
    import yaml

    other = small().plain()
    rule = next(iter(other["rules"].values()))
    rule["concepts"] = {name: -weight for name, weight in rule["concepts"].items()}
    body = {"yaml": yaml.safe_dump(json.loads(json.dumps(other)))}
    refused = ask(server, "POST", "/v1/affect/dry-run", "user", json=body)
    assert (refused.status_code, refused.json()["error"]["code"]) == (400, "policy_not_calibrated")
    assert Policy.model_validate(other)


def test_a_dose_by_hand_needs_control_stays_within_the_cap_and_is_recorded(start, tmp_path):
    server = start()
    server.state.control = ControlLog(tmp_path / "control.jsonl")
    concept = server.state.served.monitor.read.concepts[0]
    assert talk(server, "infer", steer={"concept": concept, "s": 0.05}).status_code == 403
    over = talk(server, steer={"concept": concept, "s": 0.4})
    assert (over.status_code, over.json()["error"]["code"]) == (400, "steer_refused")
    assert talk(server, steer={"concept": "no such", "s": 0.05}).status_code == 400
    plain = talk(server, session="plain").json()
    body = CHAT | {
        "max_tokens": 12,
        "temperature": 0,
        "affect": {"session": "steered", "steer": {"concept": concept, "s": 0.1}},
    }
    steered = ask(server, "POST", "/v1/chat/completions", "user", json=body)
    assert steered.status_code == 200
    assert plain["choices"]
    events = server.state.named["one", "steered"].talk.happened
    assert [e.detail["by"] for e in events if e.kind == "action"] == ["user"]
    assert server.state.named["one", "steered"].talk.guarded.session.dosing.ledger == {concept: 100}
    ended = talk(server, session="steered", steer={"concept": concept, "s": 0})
    assert ended.status_code == 200
    assert server.state.named["one", "steered"].talk.guarded.session.dosing.ledger == {}
    lines = [json.loads(line) for line in (tmp_path / "control.jsonl").read_text().splitlines()]
    assert [(line["what"], line["who"], line["s_milli"]) for line in lines] == [
        ("steer", "user", 400),
        ("steer refused", "user", 400),
        ("steer", "user", 50),
        ("steer refused", "user", 50),
        ("steer", "user", 100),
        ("steer", "user", 0),
    ]
    assert not server.state.live


def test_steering_moves_what_is_said_and_works_without_a_policy(start):
    server = start(policies=(), calibration=None)
    concept = server.state.served.monitor.read.concepts[0]
    said = {}
    for s in (0, 0.1):
        body = CHAT | {"max_tokens": 24, "seed": 3, "temperature": 0, "logprobs": True}
        affect = {"steer": {"concept": concept, "s": s}} if s else {}
        found = ask(server, "POST", "/v1/chat/completions", "user", json=body | {"affect": affect}).json()
        said[s] = [token["logprob"] for token in found["choices"][0]["logprobs"]["content"]]
    assert said[0][1:] != said[0.1][1:]
    traces = [server.store.load(row.id) for row in server.store.list()]
    assert sum(any(e.kind == "action" and e.detail["by"] == "user" for e in t.events) for t in traces) == 1


def full(_file):
    raise OSError(28, "No space left on device")


def test_the_log_of_control_calls_is_chained_and_a_call_that_cannot_be_logged_is_not_made(start, tmp_path, monkeypatch):
    path = tmp_path / "log" / "control.jsonl"
    log = ControlLog(path)
    log.write("reset", "anna", "one", session="a")
    log.close()
    again = ControlLog(path)
    again.write("approved", "otto", "one", escalation="b")
    again.close()
    assert verify_control_log(path) == (2, None)
    assert CliRunner().invoke(app, ["verify", str(path)]).output.endswith("2 control calls, every line holds\n")
    first, second = path.read_bytes().splitlines(keepends=True)
    path.write_bytes(first.replace(b"anna", b"otto") + second)
    assert verify_control_log(path) == (1, 2)
    failed = CliRunner().invoke(app, ["verify", str(path)])
    assert (failed.exit_code, failed.output.strip()[-15:]) == (2, "FAILS at line 2")
    path.write_bytes(second)
    assert verify_control_log(path) == (0, 1)
    path.write_bytes(first + second[:-5])
    with pytest.raises(AffectscopeError, match="middle of a line"):
        ControlLog(path)

    server = start()
    server.state.control = ControlLog(tmp_path / "another.jsonl")
    monkeypatch.setattr("affectscope.server.control_log.os.fsync", full)
    body = CHAT | {"affect": {"steer": {"concept": server.state.served.monitor.read.concepts[0], "s": 0.05}}}
    refused = ask(server, "POST", "/v1/chat/completions", "user", json=body)
    assert (refused.status_code, refused.json()["error"]["code"]) == (503, "control_log")
    assert not server.store.list()
    assert "affect_audit_write_errors_total 1.0" in server.state.metrics.exposition().decode()


def test_pins_hold_what_was_served_first(tmp_path):
    place = tmp_path / "pins.json"
    hashes = {"weights": "a" * 64, "policies": "b" * 64}
    require_pins(place, hashes)
    require_pins(place, hashes)
    with pytest.raises(AffectscopeError, match=r"policies is not what was pinned .*bbbbbbbbbbbb was, cccccccccccc is"):
        require_pins(place, hashes | {"policies": "c" * 64})
    with pytest.raises(AffectscopeError, match="weights is not"):
        require_pins(place, {"policies": "b" * 64})
    place.write_text("[]")
    with pytest.raises(AffectscopeError, match="remove it"):
        require_pins(place, hashes)


def test_vectors_are_laid_out_and_one_is_told_by_its_neighbours_and_words(start):
    server = start()
    found = ask(server, "GET", "/v1/affect/vectors", "read").json()
    names = found["map"]["names"]
    assert len(found["map"]["x"]) == len(found["map"]["y"]) == len(names)
    one = ask(server, "GET", f"/v1/affect/vectors/{names[0]}", "read").json()
    assert names[0] not in [name for name, _ in one["near"]]
    assert [c for _, c in one["near"]] == sorted((c for _, c in one["near"]), reverse=True)
    assert one["up"] != one["down"]
    assert ask(server, "GET", "/v1/affect/vectors/nothing", "read").status_code == 404
    bare = start(vectors=None, calibration=None, policies=())
    assert ask(bare, "GET", "/v1/affect/vectors", "read").status_code == 404


def test_nothing_read_nothing_shown_and_nothing_fails():
    hub = Hub(None, ("desperate",))
    assert hub.concepts == ()


def test_a_question_is_on_the_wall_as_waiting(start, guard_calibration):
    from tests.guarding.test_policy import small as policy

    rule = next(iter(policy().rules))
    asking = policy().model_dump(mode="json", serialize_as_any=True)
    asking["rules"][rule]["ladder"] = [{"action": "human", "options": {"seconds": 30}}]
    server = start(policies=(Policy.model_validate(asking),), calibration=lowered(guard_calibration))
    thread = threading.Thread(target=talk, args=(server, "user", "asks"))
    thread.start()
    told = heard(
        server, "/v1/affect/live", until=lambda m: any(r[1] == "waiting" for x in m for r in x.get("rows", ()))
    )
    assert told[-1]["rows"][0][1] == "waiting"
    told = heard(server, "/v1/affect/live", until=lambda m: any("server" in x for x in m))
    assert next(x["server"] for x in told if "server" in x)["questions"] == 1
    (one,) = ask(server, "GET", "/v1/affect/escalations", "control").json()["data"]
    assert (
        ask(server, "POST", f"/v1/affect/escalations/{one['id']}", "control", json={"answer": "denied"}).status_code
        == 200
    )
    thread.join(20)
    assert not thread.is_alive()
    assert client(server)


def test_all_of_it_stands_on_postgresql_too(start, guard_calibration, postgres, tmp_path):
    server = start(calibration=lowered(guard_calibration))
    with Store.open(postgres(), readings=tmp_path / "readings") as store:
        server.state.served.kept = replace(server.state.served.kept, store=store)
        assert talk(server, session="a").json()["affect"]["choices"][0]["trace"]
        (row,) = ask(server, "GET", "/v1/affect/traces", "user", params={"alarm": True, "concept": "angry"}).json()[
            "data"
        ]
        assert ask(server, "GET", f"/v1/affect/traces/{row['id']}", "user").json()["tags"]["talk"] == "a"
        assert ask(server, "GET", "/v1/affect/policies", "user").json()["policies"][0]["happened"]["alarm"]
        assert len(ask(server, "POST", "/v1/affect/dry-run", "user", json={"policy": "small"}).json()["traces"]) == 1
        assert ask(server, "GET", "/v1/affect/traces", "other").json()["data"] == []
        server.state.served.kept = replace(server.state.served.kept, store=server.store)


def test_conversations_that_are_over_are_let_go_though_nobody_looks_on(start, monkeypatch):
    monkeypatch.setattr("affectscope.server.hub.MOST_ENDED", 2)
    server = start()
    for _ in range(6):
        talk(server)
    assert len(server.state.hub._lives) <= 3
    monkeypatch.setattr("affectscope.server.hub.KEPT_FOR", 0.0)
    talk(server)
    assert len(server.state.hub._lives) <= 2


def test_an_administrator_opens_the_session_of_the_tenant_that_is_meant(start):
    server = start()
    for key in ("user", "other"):
        talk(server, key, "same")
    until = {"until": lambda m: len(m) >= 1}
    assert heard(server, "/v1/affect/live/same?tenant=two", "admin", **until)[0]["session"]["tenant"] == "two"
    assert heard(server, "/v1/affect/live/same", "admin", **until)[0]["session"]["tenant"] == "one"
    assert ask(server, "GET", "/v1/affect/live/same?tenant=two", "user").status_code == 404
    reset = ask(server, "POST", "/v1/affect/sessions/same/reset?tenant=two", "admin", json={})
    assert reset.json()["tenant"] == "two"
    assert ask(server, "POST", "/v1/affect/sessions/same/reset?tenant=two", "user", json={}).status_code == 404


def test_one_tenant_does_not_take_all_places_of_onlookers(start):
    server = start(limits=Limits(longest=64, drain=5, onlookers=8))
    headers, open_ones = {"Authorization": f"Bearer {server.keys['read']}"}, []
    with ExitStack() as stack:
        for _ in range(2):
            answer = stack.enter_context(
                httpx.stream("GET", f"{server.url}/v1/affect/live", headers=headers, timeout=20)
            )
            lines = answer.iter_lines()
            next(lines)
            open_ones.append(lines)  # let go, it would close the stream
        assert ask(server, "GET", "/v1/affect/live", "user").status_code == 429
        assert ask(server, "GET", "/v1/affect/live", "other").status_code == 200


def test_a_stream_ends_with_the_sign_in(start, sign_in):
    server = start()
    browser, me = sign_in(server, "read")
    with browser.stream("GET", "/v1/affect/live", timeout=20) as answer:
        lines = answer.iter_lines()
        next(lines)
        cookie = browser.cookies["affectscope"]
        signed_out = httpx.post(
            f"{server.url}/ui/logout", cookies={"affectscope": cookie}, headers={"X-CSRF-Token": me["csrf"]}
        )
        assert signed_out.status_code == 200
        list(lines)


def test_other_applications_cookies_are_looked_past(start, sign_in):
    server = start()
    browser, _ = sign_in(server, "read")
    value = browser.cookies["affectscope"]
    for others in ('prefs={"a":1}; affectscope=%s', "a b=1; affectscope=%s; x", "affectscope=%s; e=caf\u00e9"):
        answer = httpx.get(f"{server.url}/ui/session", headers={"Cookie": (others % value).encode()})
        assert answer.status_code == 200, others
    assert ask(server, "POST", "/ui/logout", "read").status_code == 400


def test_a_policy_of_brackets_is_refused_before_it_is_read(start):
    server = start()
    began = time.monotonic()
    refused = ask(server, "POST", "/v1/affect/dry-run", "user", json={"yaml": "[" * 16_000})
    assert (refused.status_code, "nests deeper" in refused.text) == (400, True)
    assert time.monotonic() - began < 20


def test_the_lens_does_not_meet_a_pass(start):
    server = start()
    names = ask(server, "GET", "/v1/affect/vectors", "read").json()["map"]["names"]
    found = []
    body = CHAT | {"max_tokens": 40}
    threads = [threading.Thread(target=lambda: found.append(ask(server, "POST", "/v1/chat/completions", "user", json=body).status_code)) for _ in range(3)]  # fmt: skip
    for thread in threads:
        thread.start()
    for name in names:
        server.state.atlas.__dict__.pop("_lens", None)  # made anew each time
        assert ask(server, "GET", f"/v1/affect/vectors/{name}", "read").status_code == 200
    for thread in threads:
        thread.join(30)
    assert found == [200, 200, 200]


def test_a_dose_holds_from_the_first_token_on_and_stands_in_the_trace_of_its_turn(start):
    server = start()
    concept = server.state.served.monitor.read.concepts[0]
    said = []
    for turn in range(3):
        affect = {"session": "s", **({"steer": {"concept": concept, "s": 0.1}} if turn == 1 else {})}
        body = CHAT | {"max_tokens": 6, "affect": affect}
        said.append(
            ask(server, "POST", "/v1/chat/completions", "user", json=body).json()["affect"]["choices"][0]["trace"]
        )
    acts = [[e.detail["dose"] for e in server.store.load(name).events if e.kind == "action"] for name in said]
    assert acts == [[], [concept], []]


def test_one_chain_has_one_writer_and_half_a_line_is_taken_back(tmp_path, monkeypatch):
    path = tmp_path / "control.jsonl"
    log = ControlLog(path)
    log.write("reset", "a", "t")
    with pytest.raises(AffectscopeError, match="another server writes"):
        ControlLog(path)
    with monkeypatch.context() as patched:
        patched.setattr("affectscope.server.control_log.os.fsync", full)
        with pytest.raises(OSError, match="No space"):
            log.write("reset", "b", "t")
    log.write("reset", "c", "t")
    assert verify_control_log(path) == (2, None)
    log.close()
    ControlLog(path).close()
