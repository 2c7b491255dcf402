"""Our own routes: what is served, sessions, questions for people; and what an operator's tools look at."""

from __future__ import annotations

import asyncio
from typing import Annotated, Any, Literal

from fastapi import APIRouter, Path, Request
from pydantic import BaseModel, ConfigDict
from starlette.responses import JSONResponse, Response

from affectscope.integrations.prometheus import CONTENT_TYPE
from affectscope.server.answers import Escalation, Escalations, Info, Session, Sessions, Status
from affectscope.server.bodies import read_body
from affectscope.server.errors import RefusedError
from affectscope.server.gate import require, sees, tenant_of
from affectscope.server.openapi import TEXT, OfTenant, answers, asks
from affectscope.server.state import Named, State

router = APIRouter()


class Answered(BaseModel):
    """A person's word on a question."""

    model_config = ConfigDict(frozen=True, extra="forbid")

    answer: Literal["approved", "denied"]


@router.get("/healthz", **answers(Status))
async def healthz() -> Response:
    """Whether the process lives."""
    return JSONResponse({"status": "ok"})


@router.get("/readyz", responses={200: {"model": Status}, 503: {"model": Status}})
async def readyz(request: Request) -> Response:
    """Whether it takes requests."""
    state: State = request.app.state.affect
    if state.draining:
        return JSONResponse({"status": "draining"}, 503)
    if not state.served.engine.alive:
        return JSONResponse({"status": "the engine has stopped"}, 503)
    if state.served.upstream is not None and not await state.served.upstream.reachable():
        return JSONResponse({"status": "the engine behind cannot be reached"}, 503)
    return JSONResponse({"status": "ok"})


@router.get("/metrics", **answers(None, media=TEXT))
async def metrics(request: Request) -> Response:
    """Numbers for Prometheus, of all tenants."""
    require(request.scope, "admin")
    state: State = request.app.state.affect
    return Response(state.metrics.exposition(), media_type=CONTENT_TYPE)


@router.get("/v1/affect/info", **answers(Info))
async def info(request: Request) -> Response:
    """What is served, by hashes, and under which promise."""
    require(request.scope, "read")
    state: State = request.app.state.affect
    served, limits = state.served, state.served.calibration
    return JSONResponse(
        {
            "model": served.name,
            "mode": served.mode,
            "reader": served.name if served.upstream else None,
            "grade": served.grade,
            "hashes": served.hashes,
            "policies": [{"name": p.name, "hash": p.hash, "about": p.about, "floor": p is served.floor, "s_max": min(p.limits.s_max, served.s_max)} for p in served.policies.values()],
            "concepts": list(served.monitor.read.concepts) if served.monitor else [],
            "layer": served.monitor.layer if served.monitor else None,
            "calibration": {"alpha": limits.alpha, "horizon": limits.horizon, "made": limits.made} if limits else None,
            "canaries": served.canaries,
            "slots": served.slots,
            "s_max": served.s_max,
            "content": served.kept.content,
            "traces": served.kept.store is not None,
            "report": state.report is not None,
            "watched": list(state.hub.concepts),
            "rule_concepts": sorted({c for p in served.policies.values() for c in p.watch_list}),
        }
    )  # fmt: skip


@router.get("/v1/affect/sessions", **answers(Sessions))
async def sessions(request: Request) -> Response:
    """Named sessions of the key's tenant (of all, for an admin)."""
    key = require(request.scope, "read")
    state: State = request.app.state.affect
    found = [_session(n) for n in state.named.values() if sees(key, n.tenant)]
    return JSONResponse({"object": "list", "data": found})


@router.post("/v1/affect/sessions/{name}/reset", **answers(Session, 404, 409))
async def reset(
    request: Request,
    name: Annotated[str, Path(description="Of the session.")],
    tenant: OfTenant = "",
) -> Response:
    """Open a stopped session again; the record says who did."""
    key = require(request.scope, "control")
    state: State = request.app.state.affect
    found = [n for n in state.named.values() if n.name == name and sees(key, n.tenant) and tenant in ("", n.tenant)]
    named = next((n for n in found if n.tenant == key.tenant), found[0] if len(found) == 1 else None)
    if named is None:
        raise RefusedError(404, f"no session {name!r} is held here", code="session_not_found")
    if not named.lock.acquire(blocking=False):
        raise RefusedError(409, f"the session {name!r} has a reply under way: wait for its end", code="session_busy")
    try:
        await asyncio.to_thread(state.controlled, "reset", key, session=name, of=named.tenant)
        named.talk.reset(key.name)
        state.hub.changed(named.live, "idle")
    finally:
        named.lock.release()
    return JSONResponse(_session(named))


@router.get("/v1/affect/escalations", **answers(Escalations))
async def escalations(request: Request) -> Response:
    """Questions that wait for a person."""
    key = require(request.scope, "control")
    state: State = request.app.state.affect
    return JSONResponse({"object": "list", "data": [e.plain() for e in state.inbox.list(tenant_of(key))]})


@router.post("/v1/affect/escalations/{name}", **answers(Escalation, 404, 409), **asks(Answered))
async def answer(request: Request, name: Annotated[str, Path(description="Of the question.")]) -> Response:
    """Approve or deny one."""
    key = require(request.scope, "control")
    state: State = request.app.state.affect
    word = await read_body(request, Answered, state.limits.depth)
    state.inbox.require(name, tenant_of(key))
    await asyncio.to_thread(state.controlled, word.answer, key, escalation=name)
    return JSONResponse(state.inbox.answer(name, word.answer, key.name, tenant_of(key)).plain())


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
