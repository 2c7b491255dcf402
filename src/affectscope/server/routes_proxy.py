"""OpenAI's routes in front of another engine: requests and answers pass as they are, and the text is read beside them.

Whatever the engine behind can do works, for nothing is understood here but the words. With ``affect`` in a request the readings come
in chunks of their own; without it a client gets what the engine behind sent, and the reading goes on behind the answer.
"""

from __future__ import annotations

import asyncio
import json
from collections.abc import Coroutine
from typing import Annotated, Any, TypeVar
from urllib.parse import quote

import httpx
from fastapi import APIRouter, Path, Request
from starlette.background import BackgroundTask
from starlette.responses import Response, StreamingResponse

from affectscope.files import json_text
from affectscope.server.answers import Foreign
from affectscope.server.bodies import read_json, validated
from affectscope.server.errors import LEFT, RefusedError
from affectscope.server.gate import require
from affectscope.server.openapi import EVENTS, answers, asks
from affectscope.server.passing import Passed, Passing, Readings
from affectscope.server.routes_openai import cancel, columns_of
from affectscope.server.state import State
from affectscope.server.upstream import Upstream

router = APIRouter(prefix="/v1")
Found = TypeVar("Found")
_LOOK = 0.5


@router.get("/models", **answers(Foreign, 502, 504))
async def list_models(request: Request) -> Response:
    """The models of the engine behind, as it tells them."""
    require(request.scope, "infer")
    return await _looked_up(request, "/models")


@router.get("/models/{name:path}", **answers(Foreign, 404, 502, 504))
async def one_model(request: Request, name: Annotated[str, Path(description="Of the model.")]) -> Response:
    """One of them."""
    require(request.scope, "infer")
    if any(part in ("", ".", "..") for part in name.split("/")):
        raise RefusedError(404, f"the model {name!r} is not served here", param="model", code="model_not_found")
    return await _looked_up(request, f"/models/{quote(name)}")


@router.post("/chat/completions", **answers(Foreign, 404, 409, 502, 503, 504, also=EVENTS), **asks(Passed))
async def chat(request: Request) -> Response:
    """A reply of the engine behind to a conversation, read again by another model."""
    return await _answer(request, "/chat/completions", True)


@router.post("/completions", **answers(Foreign, 404, 409, 502, 503, 504, also=EVENTS), **asks(Passed))
async def completions(request: Request) -> Response:
    """What follows a text by the engine behind, read again by another model."""
    return await _answer(request, "/completions", False)


async def _answer(request: Request, path: str, chat: bool) -> Response:
    state: State = request.app.state.affect
    key = require(request.scope, "infer")
    raw, given = await read_json(request, state.limits.depth)
    wanted = validated(given, Passed)
    if wanted.affect is not None and wanted.affect.steer is not None:
        raise RefusedError(400, "the engine behind cannot be steered: leave affect.steer out", param="affect.steer", code="steer_refused")  # fmt: skip
    columns = columns_of(state, key, wanted.affect, wanted.replies)
    if "affect" in given:
        raw = json.dumps({name: value for name, value in given.items() if name != "affect"}).encode()
    readings = Readings(state, key, wanted, chat, columns)
    upstream = _upstream(state)
    try:
        if wanted.affect is not None and wanted.affect.session:
            await _while_there(request, readings.begun())  # what a session refuses is refused with a status
        answer = await _while_there(request, upstream.ask("POST", path + _query(request), request.headers.items(), raw))
        if answer.status_code < 400 and answer.headers.get("content-type", "").startswith(EVENTS):
            passing = Passing(upstream, answer, readings)
            # Closed again in the end, for a client that left at once never has the stream begun.
            return StreamingResponse(passing.lines(), answer.status_code, upstream.headers_back(answer), background=BackgroundTask(passing.close))  # fmt: skip
        return await _whole(request, upstream, answer, readings)
    except BaseException:
        await readings.leave()
        raise


async def _whole(request: Request, upstream: Upstream, answer: httpx.Response, readings: Readings) -> Response:
    """An answer at once; with the readings in it where they are asked for."""
    raw = await _while_there(request, upstream.whole(answer))
    headers = upstream.headers_back(answer)
    if answer.status_code >= 400:
        await readings.leave()
        return Response(raw, answer.status_code, headers)
    try:
        made = json.loads(raw)
    except (ValueError, RecursionError):
        made = None
    if not isinstance(made, dict):
        kind = answer.headers.get("content-type", "something of no type")[:80]
        raise RefusedError(502, f"the engine behind sent {kind} and no JSON object: see that --upstream is the base URL of its API, often with /v1", code="upstream_garbage")  # fmt: skip
    readings.hear(made)
    readings.end()
    if not readings.asked:
        return Response(raw, answer.status_code, headers)
    await _while_there(request, readings.over())
    return Response(json_text({**made, "affect": readings.whole()}), answer.status_code, headers)


async def _looked_up(request: Request, path: str) -> Response:
    upstream = _upstream(request.app.state.affect)
    answer = await upstream.ask("GET", path + _query(request), request.headers.items())
    return Response(await upstream.whole(answer), answer.status_code, upstream.headers_back(answer))


async def _while_there(request: Request, wanted: Coroutine[Any, Any, Found]) -> Found:
    """What is waited for, given up when the client leaves.

    Raises:
        RefusedError: it left.
    """
    task = asyncio.create_task(wanted)
    try:
        while True:
            done, _ = await asyncio.wait({task}, timeout=_LOOK)
            if done:
                return task.result()
            if await request.is_disconnected():
                raise RefusedError(LEFT, "the client left", code="client_left")
    finally:
        await cancel([task])


def _query(request: Request) -> str:
    return f"?{request.url.query}" if request.url.query else ""


def _upstream(state: State) -> Upstream:
    assert state.served.upstream is not None  # these routes stand in no other application
    return state.served.upstream
