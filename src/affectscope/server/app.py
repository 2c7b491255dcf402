"""The application: routes behind the gate, errors in one shape, and an end that loses nothing."""

from __future__ import annotations

import asyncio
import time
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from importlib.metadata import version
from typing import Any

from fastapi import FastAPI, Request
from fastapi.exceptions import RequestValidationError
from starlette.exceptions import HTTPException
from starlette.responses import JSONResponse, Response

from affectscope.errors import AffectscopeError
from affectscope.server import (
    routes_affect,
    routes_history,
    routes_live,
    routes_openai,
    routes_proxy,
    routes_ui,
    routes_vectors,
)
from affectscope.server.errors import RefusedError, body
from affectscope.server.gate import Gate
from affectscope.server.openapi import describe
from affectscope.server.state import State

_LOOK = 0.1


def build(state: State) -> FastAPI:
    """The application of a state, for any ASGI server."""

    @asynccontextmanager
    async def life(_app: FastAPI) -> AsyncIterator[None]:
        yield
        await drain(state)
        if state.served.upstream is not None:
            await state.served.upstream.close()

    app = FastAPI(
        title="affectscope",
        version=version("affectscope"),
        lifespan=life,
        docs_url=None,
        redoc_url=None,
        openapi_url="/openapi.json",
        redirect_slashes=False,  # it would lead to whichever host the request named
        # FastAPI's own would send addresses, and what errors say: anybody's text.
        telemetry={"tracing": False, "metrics": False, "logs": False, "auto_configure": False},
    )
    app.state.affect = state
    openai = routes_openai if state.served.upstream is None else routes_proxy
    for part in (openai, routes_affect, routes_history, routes_live, routes_vectors, routes_ui):
        app.include_router(part.router)
    describe(app)
    app.add_exception_handler(RefusedError, _refused)
    app.add_exception_handler(AffectscopeError, _bad)
    app.add_exception_handler(RequestValidationError, _invalid)
    app.add_exception_handler(HTTPException, _http)
    app.add_middleware(Gate, state=state)
    return app


async def drain(state: State) -> None:
    """Take nothing more, let what runs end within its time, then close every record and the model."""
    state.begin_drain()
    while (state.live or state.admission.queued) and time.monotonic() < state.drained_by:
        await asyncio.sleep(_LOOK)
    await asyncio.to_thread(state.close)


def _refused(_request: Request, error: Any) -> Response:
    return JSONResponse(error.body, error.status, error.headers)


def _bad(_request: Request, error: Any) -> Response:
    return JSONResponse(body(400, str(error)), 400)


def _invalid(_request: Request, error: Any) -> Response:
    first = error.errors()[0]
    where = ".".join(map(str, first["loc"][1:]))
    return JSONResponse(body(400, f"{where}: {first['msg']}", where, "invalid_value"), 400)


def _http(_request: Request, error: Any) -> Response:
    said = {404: "there is no such route: see /openapi.json", 405: "this route has another method"}
    return JSONResponse(body(error.status_code, said.get(error.status_code, str(error.detail))), error.status_code, error.headers)  # fmt: skip
