"""The vectors that are served, and the report of their audit."""

from __future__ import annotations

import asyncio
from typing import Annotated

from fastapi import APIRouter, Path, Request
from starlette.responses import JSONResponse, Response

from affectscope.server.answers import Atlas, Concept
from affectscope.server.gate import require
from affectscope.server.openapi import answers
from affectscope.server.state import State

router = APIRouter(prefix="/v1/affect")


@router.get("/vectors", **answers(Atlas, 404))
async def vectors(request: Request) -> Response:
    """A map of the concepts at the layer that is read, and what the vectors were made from."""
    require(request.scope, "read")
    state: State = request.app.state.affect
    return JSONResponse(await asyncio.to_thread(lambda: state.atlas.overview))


@router.get("/vectors/{concept}", **answers(Concept, 404))
async def concept(request: Request, concept: Annotated[str, Path(description="Its name.")]) -> Response:
    """One concept: its nearest and farthest, and the tokens that its direction pushes up and down."""
    require(request.scope, "read")
    state: State = request.app.state.affect
    return JSONResponse(await asyncio.to_thread(state.atlas.concept, concept))
