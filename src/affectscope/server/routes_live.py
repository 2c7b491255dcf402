"""What happens now, as server-sent events on paths of their own: all conversations, and one of them token by token."""

from __future__ import annotations

import asyncio
import time
from collections.abc import AsyncIterator, Callable
from typing import Annotated, Any

import numpy as np
from fastapi import APIRouter, Path, Request
from starlette.responses import Response, StreamingResponse

from affectscope.files import json_text
from affectscope.monitoring.monitor import POLICY, Reading
from affectscope.monitoring.trace import Event, restore
from affectscope.server.api_keys import Key
from affectscope.server.errors import RefusedError
from affectscope.server.gate import header, require, sees, tenant_of
from affectscope.server.hub import Live, fixed
from affectscope.server.openapi import EVENTS, OfTenant, answers
from affectscope.server.state import State

router = APIRouter(prefix="/v1/affect")
TICK = 0.1
"""Seconds between looks."""
SHARE = 4
"""A tenant may have one in so many of the places for onlookers."""
_ALIVE, _LOOK = 10.0, 1.0
MOST_STEPS = 256
"""Tokens of one message: who comes late gets the past in pieces."""


@router.get("/live", **answers(None, media=EVENTS))
async def wall(request: Request) -> Response:
    """All conversations of the key's tenant (of all, for an admin), as they change.

    The first message names the ``concepts``. Then ``new`` conversations, ``rows`` of those that changed (number, phase, tokens, level, rule,
    alarms, acts, z by concept), numbers that are ``gone``, and ``server``: replies that run and wait, and questions for a person.
    """
    key = require(request.scope, "read")
    state: State = request.app.state.affect
    view, told = state.hub.view(tenant_of(key)), dict[str, int]()

    def more() -> dict[str, Any]:
        nonlocal told
        asked = len(state.inbox.list(tenant_of(key))) if key.may("control") else 0
        now = {"running": state.admission.busy, "queued": state.admission.queued, "questions": asked}
        found = view.next() | ({"server": now} if now != told else {})
        told = now
        return found

    return _stream(request, state, key, {"concepts": list(state.hub.concepts)}, more)


@router.get("/live/{name}", **answers(None, 404, media=EVENTS))
async def session(
    request: Request,
    name: Annotated[str, Path(description="Of the conversation.")],
    tenant: OfTenant = "",
) -> Response:
    """One conversation: what was read so far and then each token, with decisions and actions between them.

    The first message holds ``session`` and ``trace`` (as of ``/v1/affect/traces/ID``, without tokens). Then ``steps`` (token, role, phase,
    generated, z by concept, events), ``happened``, and ``row`` as on the wall. Tokens are null where content is not kept.
    """
    key = require(request.scope, "read")
    state: State = request.app.state.affect
    live = state.hub.find(name, tenant or key.tenant) if sees(key, tenant or key.tenant) else None
    live = live or (state.hub.find(name, None) if key.may("admin") and not tenant else None)
    if live is None:
        raise RefusedError(404, f"no conversation {name!r} runs here: its traces may be kept", code="session_not_found")
    monitor = state.served.monitor
    trace = {
        "id": live.name,
        "layer": monitor.layer if monitor else None,
        "unit": "z",
        "concepts": list(monitor.read.concepts) if monitor else [],
        "watch": list(state.hub.concepts),
    }
    first = {"session": fixed(live), "trace": trace, "content": state.served.kept.content}
    return _stream(request, state, key, first, _Steps(state, live).next)


class _Steps:
    """What one onlooker has been told of a conversation."""

    def __init__(self, state: State, live: Live) -> None:
        self._state, self._live = state, live
        self._version, self._tokens, self._happened = 0, 0, 0
        read = state.served.monitor.read if state.served.monitor else None
        self._probe = read.probes.index(POLICY) if read is not None and POLICY in read.probes else 0

    def next(self) -> dict[str, Any] | None:
        """What is new since; {} where nothing is, and None when it is over and all is told."""
        watch = self._live.talk.watch
        version = self._live.version
        readings = watch.readings[self._tokens : self._tokens + MOST_STEPS] if watch is not None else []
        happened = list(self._live.talk.happened[self._happened :])
        if version == self._version and not readings and not happened:
            return None if self._live.phase == "ended" else {}
        self._version = version
        self._tokens += len(readings)
        self._happened += len(happened)
        found: dict[str, Any] = {"row": self._state.hub.rows([self._live])[0], "trace": self._live.trace or None}
        if readings:
            found["steps"] = [self._step(reading) for reading in readings]
        if happened:
            found["happened"] = [plain(event) for event in happened]
        return found

    def _step(self, reading: Reading) -> dict[str, Any]:
        step, z = reading.step, np.round(restore(reading.z[self._probe]).astype(float), 2).tolist()
        return {
            "token": step.text if self._state.served.kept.content else None,
            "role": step.role,
            "phase": step.phase,
            "generated": step.generated,
            "z": [value if value == value else None for value in z],
            "events": [plain(event) for event in reading.events],
        }


def plain(event: Event) -> dict[str, Any]:
    """An event as pages take it."""
    return {"position": event.position, "kind": event.kind, "detail": dict(event.detail)}


def _stream(
    request: Request, state: State, key: Key, first: dict[str, Any], more: Callable[[], dict[str, Any] | None]
) -> Response:
    cookie, mine = header(request.scope, "cookie") if "csrf" in request.scope["state"] else "", key.tenant
    count, most = state.onlookers.total(), state.limits.onlookers
    # A tenant's share leaves room for others.
    if count >= most or state.onlookers[mine] >= max(1, most // SHARE):
        raise RefusedError(429, f"{state.onlookers[mine]} of this tenant's pages look on already, {count} in all: close one", code="too_many_onlookers", headers={"Retry-After": "10"})  # fmt: skip

    def holds() -> bool:
        """Whether the key is still the same, and the browser still signed in."""
        return state.keys.named(key.name) == key and (not cookie or state.sign_ins.find(cookie) is not None)

    async def lines() -> AsyncIterator[str]:
        state.onlookers[mine] += 1
        try:
            yield f"data: {json_text(first)}\n\n"
            said = looked = time.monotonic()
            while not state.draining:
                now = time.monotonic()
                if now - looked > _LOOK:
                    looked = now
                    if not holds():
                        return
                found = more()
                if found is None:
                    yield f"data: {json_text({'over': True})}\n\n"  # or a browser would come back and ask for it all again
                    return
                if found:
                    said = now
                    yield f"data: {json_text(found)}\n\n"
                elif now - said > _ALIVE:
                    said = now
                    yield ": still here\n\n"
                await asyncio.sleep(TICK)
        finally:
            state.onlookers[mine] -= 1

    return StreamingResponse(lines(), media_type="text/event-stream", headers={"X-Accel-Buffering": "no"})
