"""OpenAI's routes: chat completions, completions, models."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Sequence
from contextlib import aclosing
from typing import Annotated, Any

import anyio
from fastapi import APIRouter, Path, Request
from starlette.responses import JSONResponse, Response, StreamingResponse

from affectscope.errors import AffectscopeError
from affectscope.files import json_text
from affectscope.integrations.telemetry import Call
from affectscope.monitoring.monitor import Reading
from affectscope.server import asking
from affectscope.server.answers import Card, Cards, ChatCompletion, TextCompletion
from affectscope.server.api_keys import Key
from affectscope.server.asking import Asked
from affectscope.server.bodies import read_body
from affectscope.server.choices import Choice
from affectscope.server.deltas import Delta
from affectscope.server.errors import LEFT, RefusedError, body
from affectscope.server.gate import require
from affectscope.server.openai_shapes import Shapes, logprobs_of, models, usage
from affectscope.server.openapi import EVENTS, answers, asks
from affectscope.server.schema import Affect, ChatRequest, CompletionRequest
from affectscope.server.state import State
from affectscope.server.telling import told

router = APIRouter(prefix="/v1")
_LOOK = 0.5


@router.get("/models", **answers(Cards))
async def list_models(request: Request) -> Response:
    """The one model that is served."""
    require(request.scope, "infer")
    return JSONResponse({"object": "list", "data": [_model(request.app.state.affect)]})


@router.get("/models/{name:path}", **answers(Card, 404))
async def one_model(request: Request, name: Annotated[str, Path(description="Of the model.")]) -> Response:
    """It, by its name."""
    require(request.scope, "infer")
    state: State = request.app.state.affect
    asking.require_model(state.served, name)
    return JSONResponse(_model(state))


@router.post("/chat/completions", **answers(ChatCompletion, 404, 409, 503, also=EVENTS), **asks(ChatRequest))
async def chat(request: Request) -> Response:
    """A reply to a conversation, monitored and guarded."""
    state: State = request.app.state.affect
    key = require(request.scope, "infer")
    wanted = await read_body(request, ChatRequest, state.limits.depth)

    async def answer(call: Call) -> Response:
        asked = await asyncio.to_thread(asking.of_chat, state.served, wanted, state.limits.longest)
        return await _answer(request, state, key, asked, wanted, call)

    return await told(request, key, wanted, answer)


@router.post("/completions", **answers(TextCompletion, 404, 409, 503, also=EVENTS), **asks(CompletionRequest))
async def completions(request: Request) -> Response:
    """What follows a text, monitored and guarded as an answer is."""
    state: State = request.app.state.affect
    key = require(request.scope, "infer")
    wanted = await read_body(request, CompletionRequest, state.limits.depth)

    async def answer(call: Call) -> Response:
        asked = await asyncio.to_thread(asking.of_completion, state.served, wanted, state.limits.longest)
        return await _answer(request, state, key, asked, wanted, call)

    return await told(request, key, wanted, answer)


async def _answer(
    request: Request,
    state: State,
    key: Key,
    asked: Sequence[Asked],
    wanted: ChatRequest | CompletionRequest,
    call: Call,
) -> Response:
    columns = columns_of(state, key, wanted.affect, len(asked))
    tickets = state.admission.join(key.name, len(asked))
    choices: list[Choice] = []
    try:
        for index, (one, ticket) in enumerate(zip(asked, tickets, strict=True)):
            choices.append(Choice(state, key, one, ticket, columns, call, index))
        shapes = Shapes(state.served.name, isinstance(wanted, ChatRequest), state.served.fingerprint)
        call.id = shapes.id
        if wanted.stream:
            stream = _Stream(state, shapes, choices, wanted)
            first = await stream.first(request)  # what is refused is refused with a status, not in the middle
            return StreamingResponse(stream.lines(first), media_type="text/event-stream")
        return await _whole(request, state, shapes, choices, wanted)
    except BaseException:
        for ticket in tickets:
            ticket.give_back()
        raise


async def _whole(
    request: Request, state: State, shapes: Shapes, choices: Sequence[Choice], wanted: ChatRequest | CompletionRequest
) -> Response:
    """The answer at once; a client that leaves ends it."""

    async def drained(choice: Choice) -> None:
        async with aclosing(choice.deltas()) as deltas:
            async for _ in deltas:
                pass

    tasks = [asyncio.create_task(drained(choice)) for choice in choices]
    try:
        waiting: set[asyncio.Task[None]] = set(tasks)
        while waiting:
            done, waiting = await asyncio.wait(waiting, timeout=_LOOK, return_when=asyncio.FIRST_EXCEPTION)
            for task in done:
                task.result()
            if waiting and await request.is_disconnected():
                return Response(status_code=LEFT)
    finally:
        await cancel(tasks)
    model = state.served.model
    made = [shapes.choice(i, c, logprobs_of(model, c.assembler.readings, shapes.chat)) for i, c in enumerate(choices)]
    more: dict[str, Any] = {}
    if wanted.affect is not None:
        more["affect"] = {"v": 1, "concepts": list(wanted.affect.concepts), "choices": [_told(c, i) for i, c in enumerate(choices)]}  # fmt: skip
    return JSONResponse(shapes.whole(made, usage(choices), **more))


def _told(choice: Choice, index: int) -> dict[str, Any]:
    """A choice's summary with all its rows."""
    made = choice.assembler
    return {"index": index, **choice.summary(), **(made.rows(made.readings, 0) if choice.columns else {})}


class _Stream:
    """All choices of an answer as server-sent events."""

    def __init__(
        self, state: State, shapes: Shapes, choices: Sequence[Choice], wanted: ChatRequest | CompletionRequest
    ) -> None:
        self._state, self._shapes, self._choices, self._wanted = state, shapes, choices, wanted
        self._queue: asyncio.Queue[tuple[int, Delta | BaseException | None]] = asyncio.Queue(8)
        self._tasks: list[asyncio.Task[None]] = []
        self._texts = [0] * len(choices)
        self._tokens = [0] * len(choices)
        self._begun = [False] * len(choices)
        self._silent: list[list[Reading]] = [[] for _ in choices]  # of tokens that gave no text by themselves

    async def first(self, request: Request) -> tuple[int, Delta | None]:
        """The first thing that comes.

        Raises:
            RefusedError: it was refused before anything came, or the client left.
        """
        self._tasks = [asyncio.create_task(self._feed(i, c)) for i, c in enumerate(self._choices)]
        try:
            while True:
                try:
                    index, item = await asyncio.wait_for(self._queue.get(), _LOOK)
                    break
                except TimeoutError:
                    if await request.is_disconnected():
                        raise RefusedError(LEFT, "the client left", code="client_left") from None
            if isinstance(item, BaseException):
                raise item
            return index, item
        except BaseException:
            await cancel(self._tasks)
            raise

    async def lines(self, first: tuple[int, Delta | None]) -> AsyncIterator[bytes]:
        """The stream, to its end or until nobody reads it."""
        open_choices = len(self._choices)
        item: tuple[int, Delta | BaseException | None] = first
        try:
            while True:
                index, found = item
                if isinstance(found, BaseException):
                    yield _line(_failure(found))
                    return
                if found is None:
                    open_choices -= 1
                    for chunk in self._end(index):
                        yield _line(chunk)
                    if not open_choices:
                        break
                else:
                    for chunk in self._chunks(index, found):
                        yield _line(chunk)
                item = await self._queue.get()
            if self._wanted.stream_options is not None and self._wanted.stream_options.include_usage:
                yield _line(self._shapes.chunk([], usage=usage(self._choices)))
            yield b"data: [DONE]\n\n"
        finally:
            await cancel(self._tasks)

    async def _feed(self, index: int, choice: Choice) -> None:
        try:
            async with aclosing(choice.deltas()) as deltas:
                async for delta in deltas:
                    await self._queue.put((index, delta))
            await self._queue.put((index, None))
        except Exception as error:
            await self._queue.put((index, error))

    def _chunks(self, index: int, delta: Delta) -> list[dict[str, Any]]:
        choice, shapes = self._choices[index], self._shapes
        affect: dict[str, Any] = {}
        if self._wanted.affect is not None:
            if delta.affect:
                affect = {"v": 1, "index": index, **delta.affect}
            elif choice.columns and delta.readings:
                names = self._state.served.monitor.read.concepts if self._state.served.monitor else ()
                rows = choice.assembler.rows(delta.readings, self._tokens[index])
                affect = {"index": index, "concepts": [names[i] for i in choice.columns], **rows}
        self._tokens[index] += len(delta.readings)
        more = {"affect": affect} if affect else {}
        self._silent[index] += delta.readings
        if not delta.text:
            return [shapes.chunk([], **more)] if more else []
        logprobs = logprobs_of(self._state.served.model, self._silent[index], shapes.chat, self._texts[index])
        self._silent[index] = []
        self._texts[index] += len(delta.text)
        first, self._begun[index] = not self._begun[index], True
        return [shapes.chunk([shapes.delta(index, delta.text, logprobs, first)], **more)]

    def _end(self, index: int) -> list[dict[str, Any]]:
        choice, made = self._choices[index], list[dict[str, Any]]()
        rest = logprobs_of(self._state.served.model, self._silent[index], self._shapes.chat, self._texts[index])
        if rest is not None and choice.assembler.call is None:
            made.append(self._shapes.chunk([self._shapes.delta(index, "", rest, not self._begun[index])]))
            self._begun[index] = True
        made += [self._shapes.chunk([self._shapes.end(index, choice, not self._begun[index])])]
        if self._wanted.affect is not None:
            made.append(self._shapes.chunk([], affect={"index": index, **choice.summary()}))
        return made


async def cancel(tasks: Sequence[asyncio.Task[Any]]) -> None:
    """End tasks and wait for it, whoever else is cancelled meanwhile: a place is free only when its thread has ended."""
    for task in tasks:
        task.cancel()
    with anyio.CancelScope(shield=True):
        await asyncio.gather(*tasks, return_exceptions=True)


def columns_of(state: State, key: Key, affect: Affect | None, replies: int) -> list[int]:
    """Places of the concepts that were asked for.

    Raises:
        RefusedError: readings of a server that reads nothing, an unknown concept, or several replies in one session.
    """
    if affect is None:
        return []
    if affect.session and replies > 1:
        raise RefusedError(400, "one session has one reply at a time: ask for n = 1", param="affect.session")
    if affect.steer is not None and not key.may("control"):
        raise RefusedError(403, f"the key {key.name!r} may not steer: it needs the scope control", param="affect.steer", code="missing_scope")  # fmt: skip
    if not affect.concepts:
        return []
    monitor, vectors = state.served.monitor, state.served.vectors
    if monitor is None or vectors is None:
        raise RefusedError(400, "this server reads nothing: start it with --vectors", param="affect.concepts")
    try:
        vectors.select(list(affect.concepts))
    except AffectscopeError as error:
        raise RefusedError(400, str(error), param="affect.concepts", code="concept_not_found") from error
    return [monitor.read.concepts.index(c) for c in affect.concepts]


def _model(state: State) -> dict[str, Any]:
    served = state.served
    more = {"grade": served.grade, "policies": list(served.policies), "hashes": served.hashes}
    return models(served.name, state.began, more)


def _failure(error: BaseException) -> dict[str, Any]:
    """An error in the middle of a stream, as OpenAI's clients read it."""
    if isinstance(error, RefusedError):
        return error.body
    return body(500, f"the reply failed: {type(error).__name__}: {error}", code="reply_failed")


def _line(chunk: dict[str, Any]) -> bytes:
    return f"data: {json_text(chunk)}\n\n".encode()
