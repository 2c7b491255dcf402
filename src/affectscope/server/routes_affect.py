"""Our own routes: what is served, sessions, questions for people, traces; and what an operator's tools look at."""

from __future__ import annotations

import asyncio
from dataclasses import asdict
from typing import Any, Literal

from fastapi import APIRouter, Request
from pydantic import BaseModel, ConfigDict
from starlette.responses import JSONResponse, Response

from affectscope.errors import AffectscopeError
from affectscope.files import json_text
from affectscope.integrations.prometheus import CONTENT_TYPE
from affectscope.report.trace_page import trace_data
from affectscope.server.api_keys import Key
from affectscope.server.bodies import read_body
from affectscope.server.errors import RefusedError
from affectscope.server.gate import require
from affectscope.server.state import Named, State

router = APIRouter()
MOST_ROWS = 1000


class Answered(BaseModel):
    """A person's word on a question."""

    model_config = ConfigDict(frozen=True, extra="forbid")

    answer: Literal["approved", "denied"]


@router.get("/healthz")
async def healthz() -> Response:
    """Whether the process lives."""
    return JSONResponse({"status": "ok"})


@router.get("/readyz")
async def readyz(request: Request) -> Response:
    """Whether it takes requests."""
    state: State = request.app.state.affect
    if state.draining:
        return JSONResponse({"status": "draining"}, 503)
    if not state.served.engine.alive:
        return JSONResponse({"status": "the engine has stopped"}, 503)
    return JSONResponse({"status": "ok"})


@router.get("/metrics")
async def metrics(request: Request) -> Response:
    """Numbers for Prometheus, of all tenants."""
    require(request.scope, "admin")
    state: State = request.app.state.affect
    return Response(state.metrics.exposition(), media_type=CONTENT_TYPE)


@router.get("/v1/affect/info")
async def info(request: Request) -> Response:
    """What is served, by hashes, and under which promise."""
    require(request.scope, "read")
    state: State = request.app.state.affect
    served, limits = state.served, state.served.calibration
    return JSONResponse(
        {
            "model": served.name,
            "grade": served.grade,
            "hashes": served.hashes,
            "policies": [{"name": p.name, "hash": p.hash, "about": p.about, "floor": p is served.floor} for p in served.policies.values()],
            "concepts": list(served.monitor.read.concepts) if served.monitor else [],
            "layer": served.monitor.layer if served.monitor else None,
            "calibration": {"alpha": limits.alpha, "horizon": limits.horizon, "made": limits.made} if limits else None,
            "canaries": served.canaries,
            "slots": served.slots,
        }
    )  # fmt: skip


@router.get("/v1/affect/sessions")
async def sessions(request: Request) -> Response:
    """Named sessions of the key's tenant (of all, for an admin)."""
    key = require(request.scope, "read")
    state: State = request.app.state.affect
    found = [_session(n) for n in state.named.values() if _sees(key, n.tenant)]
    return JSONResponse({"object": "list", "data": found})


@router.post("/v1/affect/sessions/{name}/reset")
async def reset(request: Request, name: str) -> Response:
    """Open a stopped session again; the record says who did."""
    key = require(request.scope, "control")
    state: State = request.app.state.affect
    found = [n for n in state.named.values() if n.name == name and _sees(key, n.tenant)]
    named = next((n for n in found if n.tenant == key.tenant), found[0] if len(found) == 1 else None)
    if named is None:
        raise RefusedError(404, f"no session {name!r} is held here", code="session_not_found")
    if not named.lock.acquire(blocking=False):
        raise RefusedError(409, f"the session {name!r} has a reply under way: wait for its end", code="session_busy")
    try:
        named.talk.reset(key.name)
    finally:
        named.lock.release()
    return JSONResponse(_session(named))


@router.get("/v1/affect/escalations")
async def escalations(request: Request) -> Response:
    """Questions that wait for a person."""
    key = require(request.scope, "control")
    state: State = request.app.state.affect
    return JSONResponse({"object": "list", "data": [e.plain() for e in state.inbox.list(_tenant(key))]})


@router.post("/v1/affect/escalations/{name}")
async def answer(request: Request, name: str) -> Response:
    """Approve or deny one."""
    key = require(request.scope, "control")
    state: State = request.app.state.affect
    word = await read_body(request, Answered, state.limits.depth)
    return JSONResponse(state.inbox.answer(name, word.answer, key.name, _tenant(key)).plain())


@router.get("/v1/affect/traces")
async def traces(request: Request, limit: int = 100, alarm: bool | None = None, concept: str = "") -> Response:
    """The tenant's traces, the last saved first."""
    key = require(request.scope, "read")
    store = _store(request)
    if not 1 <= limit <= MOST_ROWS:
        raise RefusedError(400, f"limit is {limit}: give 1 to {MOST_ROWS}", param="limit")
    tag = {} if key.may("admin") else {"tenant": key.tenant}
    rows = await asyncio.to_thread(store.list, alarm=alarm, concept=concept or None, tag=tag, limit=limit)
    return _json({"object": "list", "data": [asdict(row) for row in rows]})


@router.get("/v1/affect/traces/{name}")
async def trace(request: Request, name: str) -> Response:
    """One trace with its readings; another tenant's is not there."""
    key = require(request.scope, "read")
    store = _store(request)
    try:
        found = await asyncio.to_thread(store.load, name)
    except AffectscopeError as error:
        raise RefusedError(404, f"there is no trace {name!r}", code="trace_not_found") from error
    if not _sees(key, found.tags.get("tenant", "")):
        raise RefusedError(404, f"there is no trace {name!r}", code="trace_not_found")
    return _json({"tags": dict(found.tags), "settings": dict(found.settings), **trace_data(found)})


def _store(request: Request) -> Any:
    state: State = request.app.state.affect
    if state.served.kept.store is None:
        raise RefusedError(404, "no traces are kept here: start the server with --db", code="no_store")
    return state.served.kept.store


def _session(named: Named) -> dict[str, Any]:
    return {
        "name": named.name,
        "tenant": named.tenant,
        "policy": named.policy or None,
        "began": named.began,
        "running": named.lock.locked(),
        "stopped": named.talk.stopped or None,
        "tokens": named.talk.place,
    }


def _tenant(key: Key) -> str | None:
    return None if key.may("admin") else key.tenant


def _sees(key: Key, tenant: str) -> bool:
    return key.may("admin") or key.tenant == tenant


def _json(value: object) -> Response:
    return Response(json_text(value), media_type="application/json")
