"""In front of every route: who is it, how much may it send, and what became of it. Plain ASGI, so that nothing is read before.

Three things need no key: ``/healthz`` and ``/readyz``, which tell nothing but whether the server lives and takes requests, and the
page for signing in. A browser that is signed in sends a cookie in the place of a key.
"""

from __future__ import annotations

from collections.abc import Awaitable, Callable, MutableMapping
from logging import getLogger
from typing import Any

from starlette.responses import JSONResponse

from affectscope.server.api_keys import Key
from affectscope.server.errors import RefusedError, body
from affectscope.server.sign_in import CSRF_HEADER, require_csrf
from affectscope.server.state import State

Scope = MutableMapping[str, Any]
Message = MutableMapping[str, Any]
Receive = Callable[[], Awaitable[Message]]
Send = Callable[[Message], Awaitable[None]]
App = Callable[[Scope, Receive, Send], Awaitable[None]]
logger = getLogger(__name__)
OPEN = ("/healthz", "/readyz", "/ui/login", "/ui/style.css")
PAGES = ("/ui", "/ui/", "/")
"""Asked for without a sign-in, they lead to it."""
HEADERS = (
    (b"x-content-type-options", b"nosniff"),
    (b"cache-control", b"no-store"),
    (b"content-security-policy", b"default-src 'none'; frame-ancestors 'none'"),
    (b"referrer-policy", b"no-referrer"),
)
"""Of every answer that sets none of its own."""


class Gate:
    """The middleware. Puts the key into ``scope["state"]["key"]``."""

    def __init__(self, app: App, state: State) -> None:
        self._app, self._state = app, state

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """One connection."""
        if scope["type"] != "http":
            if scope["type"] == "websocket":  # none is served
                await send({"type": "websocket.close", "code": 1008})
                return
            await self._app(scope, receive, send)
            return
        started: list[int] = []

        async def told(message: Message) -> None:
            if message["type"] == "http.response.start":
                started.append(message["status"])
                have = {name.lower() for name, _ in message.get("headers", ())}
                message["headers"] = [*message.get("headers", ()), *(h for h in HEADERS if h[0] not in have)]
            await send(message)

        try:
            _require_one_length(scope)
            if scope["path"] not in OPEN:
                key = self._key(scope)
                scope.setdefault("state", {})["key"] = key
                self._state.spend(key)
            await self._app(scope, self._bounded(scope, receive), told)
        except RefusedError as refused:
            if started:
                raise
            answer = JSONResponse(refused.body, refused.status, refused.headers)
            await answer(scope, receive, told)
        except Exception:  # whatever it is: told without what it says, which may be anybody's text
            if started:
                raise
            logger.exception("a request failed")
            answer = JSONResponse(body(500, "the server failed; its log says how", code="internal_error"), 500)
            await answer(scope, receive, told)
        finally:
            route = getattr(scope.get("route"), "path", "none")
            self._state.metrics.requests.labels(route, str(started[0] if started else 499)).inc()

    def _key(self, scope: Scope) -> Key:
        given = [value for name, value in scope["headers"] if name == b"authorization"]
        if not given and (found := self._state.sign_ins.find(header(scope, "cookie"))):
            held, who = found
            require_csrf(scope["method"], header(scope, CSRF_HEADER), held)
            scope.setdefault("state", {})["csrf"] = held.csrf
            return who
        if not given and scope["method"] == "GET" and scope["path"] in PAGES:
            raise RefusedError(303, "sign in first", code="sign_in", headers={"Location": "/ui/login"})
        remedy = "send a key of this server as `Authorization: Bearer as-…`"
        if len(given) != 1:
            raise RefusedError(401, f"no key: {remedy}", code="missing_api_key", headers={"WWW-Authenticate": "Bearer"})
        kind, _, text = given[0].decode("latin-1").partition(" ")
        key = self._state.keys.find(text.strip()) if kind.lower() == "bearer" else None
        if key is None:
            raise RefusedError(401, f"this key is not known, or has expired: {remedy}", code="invalid_api_key", headers={"WWW-Authenticate": "Bearer"})  # fmt: skip
        return key

    def _bounded(self, scope: Scope, receive: Receive) -> Receive:
        """``receive`` that refuses a body beyond the limit: by its announced length at once, else as it comes."""
        most = self._state.limits.body
        refused = RefusedError(413, f"the request is longer than {most} bytes: send less", code="request_too_large")
        announced = next((value for name, value in scope["headers"] if name == b"content-length"), b"0")
        if not announced.isdigit() or int(announced) > most:
            raise refused
        had = 0

        async def bounded() -> Message:
            nonlocal had
            message = await receive()
            had += len(message.get("body", b""))
            if had > most:
                raise refused
            return message

        return bounded


def _require_one_length(scope: Scope) -> None:
    """Refuse a request of two lengths, and its connection: whoever stands in front may have seen another end of it.

    Raises:
        RefusedError: 400.
    """
    if {b"content-length", b"transfer-encoding"} <= {name for name, _ in scope["headers"]}:
        raise RefusedError(400, "the request has both Content-Length and Transfer-Encoding: send one", code="two_lengths", headers={"Connection": "close"})  # fmt: skip


def header(scope: Scope, name: str) -> str:
    """A header's value; several of one name joined as HTTP says, none is empty."""
    wanted = name.encode()
    return "; ".join(value.decode("latin-1") for key, value in scope["headers"] if key == wanted)


def require(scope: Scope, wanted: str) -> Key:
    """The key of a request, which must have a scope.

    Raises:
        RefusedError: 403.
    """
    key: Key = scope["state"]["key"]
    if not key.may(wanted):
        raise RefusedError(403, f"the key {key.name!r} may not do this: it needs the scope {wanted}", code="missing_scope")  # fmt: skip
    return key


def tenant_of(key: Key) -> str | None:
    """Whose things a key sees: its tenant's, and everybody's (None) for an administrator."""
    return None if key.may("admin") else key.tenant


def sees(key: Key, tenant: str) -> bool:
    """Whether a tenant's things are there for a key."""
    return key.may("admin") or key.tenant == tenant
