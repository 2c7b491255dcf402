"""What nobody would send who means well: requests that never end, two lengths, names that climb, JSON that is none, and all methods.

Bodies beyond the limits and keys of others are in ``test_access.py``.
"""

import json
import socket
import threading
from contextlib import suppress

import httpx
import pytest

from affectscope.errors import AffectscopeError
from affectscope.guarding.policy import parse
from affectscope.server import bodies, routes_ui
from affectscope.server.app import build
from affectscope.server.errors import LONGEST, body
from affectscope.server.gate import OPEN, PAGES
from affectscope.server.state import Limits
from tests.server.conftest import client

CHAT = {"model": "planted", "messages": [{"role": "user", "content": "w1 w2"}], "max_tokens": 2}
PATH = "/v1/chat/completions"
METHODS = ("GET", "HEAD", "POST", "PUT", "PATCH", "DELETE", "OPTIONS", "TRACE")


def connected(server):
    made = socket.create_connection(("127.0.0.1", int(server.url.rsplit(":", 1)[1])))
    made.settimeout(30)
    return made


def until_closed(connection):
    """All that comes until the server ends the connection."""
    got = b""
    with connection, suppress(ConnectionResetError):  # it may have sent more than the server read
        while more := connection.recv(65536):
            got += more
    return got


def head(server, *lines, target=PATH, method="POST"):
    first = [f"{method} {target} HTTP/1.1", "Host: here", f"Authorization: Bearer {server.keys['admin']}", "Content-Type: application/json"]  # fmt: skip
    return "\r\n".join([*first, *lines, "", ""]).encode()


def routes(server):
    """Every route's path and methods, the pages' too."""
    served = {}
    for path, methods in build(server.state).openapi()["paths"].items():
        served.setdefault(path, set()).update(method.upper() for method in methods)
    for route in routes_ui.router.routes:
        served.setdefault(route.path, set()).update(route.methods)
    return served


def post(server, path, content, key="admin"):
    headers = {"Authorization": f"Bearer {server.keys[key]}", "Content-Type": "application/json"}
    made = content if isinstance(content, bytes) else json.dumps(content).encode()
    return httpx.post(server.url + path, content=made, headers=headers, timeout=60)


def drip(connection, stop):
    """A byte now and then, for ever."""
    with suppress(OSError):  # it was cut
        while not stop.wait(0.05):
            connection.sendall(b"a")


@pytest.mark.parametrize(
    ("begun", "told"),
    [
        (lambda s: b"", b"408"),
        (lambda s: b"GET / HTTP/1.1\r\nHost: here\r\nX: ", b"408"),
        (lambda s: head(s, "Content-Length: 900000"), b"408"),
        (lambda s: head(s, "Transfer-Encoding: chunked") + b"ffff\r\n", b"408"),
        (lambda s: b"POST / HTTP/1.1\r\nHost: here\r\nContent-Length: 900000\r\n\r\n", b"401"),  # refused, and goes on sending
    ],
    ids=["nothing", "headers", "body", "chunk", "after a refusal"],
)  # fmt: skip
def test_a_request_that_never_ends_is_cut_and_holds_up_nobody(start, begun, told):
    server, stop = start(slots=1, limits=Limits(longest=64, patience=1, drain=5)), threading.Event()
    slow = connected(server)
    slow.sendall(begun(server))
    if begun(server):
        threading.Thread(target=drip, args=(slow, stop), daemon=True).start()
    assert client(server).chat.completions.create(**CHAT).choices
    assert server.state.admission.busy == 0
    got = until_closed(slow)
    stop.set()
    assert got.startswith(b"HTTP/1.1 " + told)
    assert json.loads(got.partition(b"\r\n\r\n")[2])["error"]["message"]


def test_of_too_many_that_have_not_asked_yet_the_oldest_makes_room(start):
    server = start(limits=Limits(longest=64, half_open=3, drain=5))
    some = []
    for _ in range(5):
        some.append(connected(server))
        some[-1].sendall(b"GET /healthz HTTP/1.1\r\nHost: here\r\n")
    assert all(until_closed(one).startswith(b"HTTP/1.1 408") for one in some[:2])
    for one in some[2:]:
        one.sendall(b"Connection: close\r\n\r\n")
        assert until_closed(one).endswith(b'{"status":"ok"}')
    idle = [connected(server) for _ in range(3)]
    for one in idle:
        one.sendall(b"GET /healthz HTTP/1.1\r\nHost: here\r\n\r\n")
        assert one.recv(100)
    assert httpx.get(f"{server.url}/healthz").status_code == 200
    for one in idle:  # those that have asked and are silent now are not counted
        one.sendall(b"GET /healthz HTTP/1.1\r\nHost: here\r\nConnection: close\r\n\r\n")
        assert until_closed(one).endswith(b'{"status":"ok"}')


def test_a_reader_that_takes_nothing_gives_its_place_back(start):
    server = start(slots=1, limits=Limits(longest=64, patience=1, drain=5))
    server.listener.setsockopt(socket.SOL_SOCKET, socket.SO_SNDBUF, 4096)
    deaf = socket.socket()
    deaf.setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, 4096)
    deaf.connect(("127.0.0.1", int(server.url.rsplit(":", 1)[1])))
    asked = CHAT | {"n": 16, "max_tokens": 64, "stream": True, "logprobs": True, "top_logprobs": 20}
    content = json.dumps(asked).encode()
    deaf.sendall(head(server, f"Content-Length: {len(content)}") + content)
    while not server.state.admission.busy:
        threading.Event().wait(0.01)
    assert client(server).chat.completions.create(**CHAT).choices  # its turn comes after the sixteen
    deaf.close()


@pytest.mark.parametrize(
    "lines",
    [
        ["Content-Length: 4", "Transfer-Encoding: chunked"],
        ["Transfer-Encoding: chunked", "Content-Length: 4"],
        ["Content-Length: 4", "Content-Length: 5"],
        ["Content-Length: +4"],
        ["Content-Length: 4, 5"],
        ["Content-Length: 0x4"],
        ["Content-Length: " + "9" * 300],
        ["Transfer-Encoding: chunked, chunked"],
        ["Transfer-Encoding: xchunked"],
        ["Transfer-Encoding: identity"],
        ["Content-Length : 4"],
        ["X: a\rTransfer-Encoding: chunked"],
        ["X: a\0b"],
    ],
)  # fmt: skip
@pytest.mark.parametrize("target", [PATH, "/healthz"])
def test_a_request_whose_end_can_be_seen_in_two_ways_is_refused_with_its_connection(start, lines, target):
    server = start()
    connection = connected(server)
    connection.sendall(head(server, *lines, target=target) + b"0\r\n\r\nGET /healthz HTTP/1.1\r\nHost: here\r\n\r\n")
    got = until_closed(connection)
    assert got.startswith((b"HTTP/1.1 400", b"HTTP/1.1 501"))
    assert got.count(b"HTTP/1.1 ") == 1  # what followed is no request
    assert b'"ok"' not in got


@pytest.mark.parametrize(
    ("content", "says"),
    [
        (b'{"metadata": {"a": NaN}}', "NaN is no number of JSON"),
        (b'{"metadata": -Infinity}', "-Infinity is no number of JSON"),
        (b'{"max_tokens": ' + b"9" * 5000 + b"}", "too many digits"),
        (b'{"a": [' + b"[]," * bodies.MOST_PARTS + b"0]}", "objects and arrays"),
        (b'{"a": "' + b"[]" * bodies.MOST_PARTS + b'"}', "model: Field required"),  # in a text they are none
        (b'{"temperature": 1e999, "model": "planted", "messages": []}', "temperature"),
        (b'{"temperature": ' + b"9" * 4000 + b', "model": "planted", "messages": []}', "temperature"),
        ({**CHAT, "max_tokens": 10**4000}, "ask for at most 64"),
        ({**CHAT, "seed": 2**64}, "seed"),
        ({**CHAT, "logit_bias": {"5": 10**400}}, "logit_bias"),
        ({**CHAT, "tools": [{"function": {"name": f"t{i}"}} for i in range(5000)]}, "tools"),
        ({**CHAT, "messages": CHAT["messages"] * 5000}, "messages"),
        ({**CHAT, "messages": [{"role": "assistant", "tool_calls": [{"function": {"name": "a", "arguments": "[" * 9999}}]}]}, "no JSON"),
        ({**CHAT, "messages": [{"role": "assistant", "tool_calls": [{"function": {"name": "a", "arguments": '{"a": NaN}'}}]}]}, "no JSON"),
        ({**CHAT, "messages": [{"role": "a\r\nb", "content": "x"}]}, "messages.0.role"),
        ({**CHAT, "model": "a\r\nSet-Cookie: x=1"}, "use 'planted'"),
        ({**CHAT, "affect": {"a\r\nSet-Cookie: x=1" + "y" * 100_000: 1}}, "not permitted"),
        ({**CHAT, "affect": {"concepts": ["a\r\nb" * 5000]}}, "affect"),
        ({**CHAT, "affect": {"policy": "a\r\nb"}}, "no policy"),
        *[({**CHAT, "affect": {"session": name}}, "affect.session") for name in ("a\r\nSet-Cookie: x=1", "../up", "..", "a\0", "a" * 65, "s\n", "é")],
        ({**CHAT, "tools": [{"function": {"name": "a\n"}}]}, "tools.0.function.name"),
        (b"\xef\xbb\xbf{}", "no JSON"),
        (json.dumps(CHAT).encode("utf-16"), "no UTF-8"),
        (b'{"\\ud800": 1}', "half a character"),
    ],
)  # fmt: skip
def test_a_hostile_body_gets_one_bounded_line(start, content, says):
    answer = post(start(), PATH, content)
    assert answer.status_code in (400, 404)
    assert "set-cookie" not in answer.headers
    told = answer.json()["error"]
    assert says in told["message"]
    assert told["message"].isprintable()
    assert len(told["message"]) <= LONGEST + 3


def test_an_error_keeps_its_remedy_however_long_it_is():
    told = body(400, "x" * 9999 + "\r\nuse another", "p\n" * 9999)["error"]
    assert told["message"].endswith("  use another")
    assert len(told["message"]) <= LONGEST + 3
    assert "\n" not in told["param"]
    assert body(400, "as it is", "a.b")["error"] == {"message": "as it is", "type": "invalid_request_error", "param": "a.b", "code": None}  # fmt: skip


@pytest.mark.parametrize("text", ["a: 2001-99-99", "a: !!int x", "a: !!timestamp x", "a: " + "9" * 5000, "[" * 60_000])
def test_a_policy_of_values_that_cannot_be_is_told_as_that(text):
    with pytest.raises(AffectscopeError, match="correct it") as raised:
        parse(text)
    assert "\n" not in str(raised.value)


CLIMBING = (
    "..%2f..%2f..%2f..%2fetc%2fpasswd",
    "../../../../../etc/passwd",
    "%2e%2e/%2e%2e/keys.json",
    "..%5c..%5ckeys.json",
    "%2fetc%2fpasswd",
    "a%0d%0aSet-Cookie:%20x=1",
    "%00",
    "%ff%fe",
    "%ed%a0%80",
    "a" * 5000,
    "'%20or%201=1;--",
    "__init__.py",
)


def test_no_name_climbs_out_of_where_it_belongs(start):
    server = start()
    named = {path: methods for path, methods in routes(server).items() if "{" in path}
    assert len(named) > 4
    for path, (method,) in named.items():
        before, _, after = path.partition("{")
        for name in CLIMBING:
            connection = connected(server)
            target = f"{before}{name}{after.partition('}')[2]}"
            connection.sendall(head(server, "Content-Length: 2", "Connection: close", target=target, method=method) + b"{}")  # fmt: skip
            got = until_closed(connection)
            top, _, said = got.partition(b"\r\n\r\n")
            assert int(top.split()[1]) in (400, 404), (target, got[:300])
            assert b"set-cookie" not in top.lower()
            assert json.loads(said)["error"]["message"].isprintable()


def test_every_route_has_its_methods_and_no_others_and_no_sockets(start):
    server = start()
    upgrade = {"Connection": "Upgrade", "Upgrade": "websocket", "Sec-WebSocket-Key": "dGhlIHNhbXBsZSBub25jZQ==", "Sec-WebSocket-Version": "13"}  # fmt: skip
    key = {"Authorization": f"Bearer {server.keys['admin']}"}
    with httpx.Client(base_url=server.url, timeout=30) as http:
        for path, methods in routes(server).items():
            target = path.replace("{name:path}", "x").replace("{name}", "x").replace("{concept}", "x")
            for method in METHODS:
                nobody = http.request(method, target)
                if path not in OPEN and not (path in PAGES and method == "GET"):
                    assert nobody.status_code == 401, (method, path)
                if method not in methods:
                    other = http.request(method, target, headers=key)
                    assert other.status_code in (404, 405), (method, path)
                    assert "location" not in other.headers
            if "/live" not in path:  # which would stream
                assert http.get(target, headers=key | upgrade).status_code != 101
            assert http.get(target, headers=upgrade).status_code != 101


def test_a_slash_too_many_leads_nowhere_else(start):
    server = start()
    headers = {"Authorization": f"Bearer {server.keys['admin']}", "Host": "elsewhere.example"}
    for path in (PATH + "/", "/v1/affect/info/", "//v1/models", "/v1//models"):
        answer = httpx.get(server.url + path, headers=headers)
        assert answer.status_code == 404
        assert "location" not in answer.headers
