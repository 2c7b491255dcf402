"""The dashboard's files, and how people sign in. Everything else that it shows comes from the API, under the same scopes."""

from __future__ import annotations

import asyncio
from importlib.resources import files
from pathlib import Path
from typing import Any
from urllib.parse import parse_qs, urlsplit

from fastapi import APIRouter, Request
from markupsafe import escape
from starlette.requests import ClientDisconnect
from starlette.responses import JSONResponse, RedirectResponse, Response

from affectscope.server.api_keys import Key
from affectscope.server.errors import LEFT, RefusedError
from affectscope.server.gate import header, require
from affectscope.server.sign_in import COOKIE, LASTS
from affectscope.server.state import State

router = APIRouter(include_in_schema=False)
TYPES = {".html": "text/html", ".js": "text/javascript", ".css": "text/css", ".svg": "image/svg+xml"}
PAGE_POLICY = (
    "default-src 'none'; script-src 'self'; style-src 'self'; img-src 'self' data:; connect-src 'self'; frame-src 'self'; "
    "base-uri 'none'; form-action 'self'; frame-ancestors 'none'"
)
"""What a page may do: its own scripts and styles, its own server, and nothing else."""
REPORT_POLICY = (
    "sandbox allow-scripts; default-src 'none'; script-src 'unsafe-inline'; style-src 'unsafe-inline'; img-src data: blob:; "
    "frame-ancestors 'self'"
)
"""A report holds its scripts inline. It runs without an origin of its own: no cookie, and no request to anybody."""
_LONGEST_FORM = 4096


@router.get("/")
async def root() -> Response:
    """To the dashboard."""
    return RedirectResponse("/ui", 303)


@router.get("/ui/login")
async def login_page() -> Response:
    """The form for a key. Works without scripts."""
    return _login("")


@router.post("/ui/login")
async def login(request: Request) -> Response:
    """Sign in: a cookie that lasts for hours."""
    state: State = request.app.state.affect
    _require_own(request)
    try:
        form = parse_qs((await request.body())[:_LONGEST_FORM].decode("utf-8", "replace"))
        value, key = state.sign_ins.begin(form.get("key", [""])[0].strip())
        await asyncio.to_thread(state.controlled, "sign in", key)
    except ClientDisconnect as error:
        raise RefusedError(LEFT, "the client left", code="client_left") from error
    except RefusedError as refused:
        return _login(refused.message, refused.status)
    answer = RedirectResponse("/ui", 303)
    secure = request.url.scheme == "https"
    answer.set_cookie(COOKIE, value, max_age=int(LASTS), httponly=True, samesite="strict", secure=secure)
    return answer


@router.post("/ui/logout")
async def logout(request: Request) -> Response:
    """Sign out."""
    state: State = request.app.state.affect
    key: Key = request.scope["state"]["key"]
    if "csrf" not in request.scope["state"]:
        raise RefusedError(400, "nobody is signed in here: a key needs no sign-out", code="not_signed_in")
    await asyncio.to_thread(state.controlled, "sign out", key)
    state.sign_ins.end(header(request.scope, "cookie"))
    answer = JSONResponse({"signed_out": True})
    answer.delete_cookie(COOKIE, httponly=True, samesite="strict")
    return answer


@router.get("/ui/session")
async def session(request: Request) -> Response:
    """Who is signed in, what that key may do, and the token that changes must carry."""
    key: Key = request.scope["state"]["key"]
    csrf = request.scope["state"].get("csrf", "")
    return JSONResponse({"key": key.name, "tenant": key.tenant, "scopes": key.scopes, "csrf": csrf})


@router.get("/ui/report")
async def report(request: Request) -> Response:
    """The audit's page, where the server was given one."""
    require(request.scope, "read")
    state: State = request.app.state.affect
    try:
        if state.report is None:
            raise FileNotFoundError
        page = await asyncio.to_thread(state.report.read_bytes)
    except OSError as error:
        raise RefusedError(404, "no audit is shown here: start the server with --report", code="no_report") from error
    return Response(page, media_type="text/html", headers={"Content-Security-Policy": REPORT_POLICY})


@router.get("/ui")
@router.get("/ui/")
async def page() -> Response:
    """The dashboard."""
    return _file("index.html")


@router.get("/ui/{name}")
async def asset(name: str) -> Response:
    """A file of it."""
    return _file(name)


def _file(name: str) -> Response:
    if name == "affect-trace.js":
        found: Any = files("affectscope.report") / "templates" / name
    else:
        found = files("affectscope.server") / "ui" / name
    kind = TYPES.get(Path(name).suffix)
    if kind is None or "/" in name or "\\" in name or not found.is_file():
        raise RefusedError(404, "the dashboard has no such file", code="not_found")
    return Response(found.read_bytes(), media_type=kind, headers={"Content-Security-Policy": PAGE_POLICY})


def _login(said: str, status: int = 200) -> Response:
    text = (files("affectscope.server") / "ui" / "login.html").read_text(encoding="utf-8")
    shown = f'<p class="bad" role="alert">{escape(said)}</p>' if said else ""
    policy = {"Content-Security-Policy": PAGE_POLICY}
    return Response(text.replace("<!-- said -->", shown), status, policy, "text/html")


def _require_own(request: Request) -> None:
    """Refuse a form that another site sent, which would sign a person in as somebody else.

    Raises:
        RefusedError: 403.
    """
    site, origin = request.headers.get("sec-fetch-site", ""), request.headers.get("origin", "")
    if site:
        own = site in ("same-origin", "none")
    else:
        own = not origin or urlsplit(origin).netloc == request.headers.get("host", "")
    if not own:
        raise RefusedError(403, "this form came from another site: sign in on the server's own page", code="csrf")
