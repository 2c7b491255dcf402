"""What is told of a request to whoever watches from outside: around its answer, and at the end of each choice. Never a text."""

from __future__ import annotations

from collections.abc import AsyncIterable, AsyncIterator, Awaitable, Callable, Mapping, Sequence
from contextlib import aclosing
from typing import TYPE_CHECKING, Any, Literal, cast

import numpy as np
from starlette.requests import Request
from starlette.responses import Response, StreamingResponse

from affectscope.integrations.telemetry import Acted, Alarm, Call, Ended, Wanted
from affectscope.monitoring.detectors import Rule
from affectscope.monitoring.trace import Event, Trace, restore
from affectscope.server.api_keys import Key
from affectscope.server.errors import LEFT, RefusedError
from affectscope.server.replies import LeftError
from affectscope.server.schema import ChatRequest, CompletionRequest

if TYPE_CHECKING:
    from affectscope.server.choices import Choice
    from affectscope.server.state import Named, State

CLIENT_LEFT = "client_left"
_CONTEXT = ("traceparent", "tracestate")


async def told(
    request: Request, key: Key, wanted: ChatRequest | CompletionRequest, answer: Callable[[Call], Awaitable[Response]]
) -> Response:
    """The answer of a request, told of from here to its last byte.

    Raises:
        Exception: what ``answer`` raises.
    """
    call = request.app.state.affect.telemetry.begin(_wanted(request, key, wanted))
    try:
        response = await answer(call)
    except BaseException as error:
        call.end(cause(error))
        raise
    if isinstance(response, StreamingResponse):
        response.body_iterator = _until_its_end(call, response.body_iterator)
    else:
        call.end(CLIENT_LEFT if response.status_code == LEFT else "")
    return response


async def _until_its_end(call: Call, lines: AsyncIterable[Any]) -> AsyncIterator[Any]:
    failed = CLIENT_LEFT  # until the last line was taken
    try:
        async with aclosing(cast(Any, lines)) as items:
            async for line in items:
                yield line
        failed = ""
    finally:
        call.end(failed)


def cause(error: BaseException) -> str:
    """A word for an error, of few: a refusal's code or status, else the name of its class. Never what it says."""
    if isinstance(error, RefusedError):
        return error.code or str(error.status)
    return type(error).__name__


def _wanted(request: Request, key: Key, wanted: ChatRequest | CompletionRequest) -> Wanted:
    state: State = request.app.state.affect
    chat = isinstance(wanted, ChatRequest)
    operation: Literal["chat", "text_completion"] = "chat" if chat else "text_completion"
    return Wanted(
        operation,
        model=wanted.model if wanted.model == state.served.name else "",
        tenant=key.tenant,
        headers={name: request.headers[name] for name in _CONTEXT if name in request.headers},
        address=request.scope.get("server"),
        choices=wanted.n or 1,
        stream=bool(wanted.stream),
        temperature=wanted.temperature,
        top_p=wanted.top_p,
        max_tokens=wanted.longest if isinstance(wanted, ChatRequest) else wanted.max_tokens,
        seed=wanted.seed,
    )


def ended(choice: Choice, named: Named, made: Trace | None, error: BaseException | None) -> Ended:
    """A choice at its end. ``made``: its trace; ``error``: what ended it before its time."""
    moments, rules = choice.moments, choice.state.served.monitor.rules if choice.state.served.monitor else ()
    return Ended(
        choice.index,
        prompt=choice.asked.prompt,
        tokens=choice.tokens,
        reason=choice.assembler.reason if choice.assembler.finished else "",
        error="" if error is None or isinstance(error, LeftError) else cause(error),
        first=min(moments.values(), default=0.0),
        last=max(moments.values(), default=0.0),
        policy=named.policy,
        trace=choice.trace,
        means=_means(made, _watched(choice, named)) if made is not None else {},
        alarms=[_alarm(e, rules) for e in made.events if e.kind == "alarm"] if made is not None else [],
        acted=_acted(made, moments) if made is not None else [],
    )


def _watched(choice: Choice, named: Named) -> Sequence[str]:
    """The policy's watch-list, and what the request asks for besides."""
    served = choice.state.served
    policy = served.policies.get(named.policy)
    asked = [served.monitor.read.concepts[i] for i in choice.columns] if served.monitor else []
    return list(dict.fromkeys([*(policy.watch_list if policy else ()), *asked]))


def _means(made: Trace, concepts: Sequence[str]) -> dict[str, float]:
    """Mean z of the generated tokens, by concept; none of a concept that was nowhere read."""
    z = restore(made.z[0, made.generated][:, [made.concepts.index(c) for c in concepts]])
    read = ~np.isnan(z)
    return {c: float(z[read[:, i], i].mean()) for i, c in enumerate(concepts) if read[:, i].any()}


def _alarm(event: Event, rules: Sequence[Rule]) -> Alarm:
    rule = event.detail["rule"]
    weighed = next((r.weights for r in rules if r.name == rule), {})
    return Alarm(rule, event.position, tuple(c for c, weight in weighed.items() if weight))


def _acted(made: Trace, moments: Mapping[int, float]) -> list[Acted]:
    """What decisions did. It lasts from the token before to its own; what stands before the barrier comes after the last token."""
    found = []
    for event in made.events:
        acts, reason = (event.detail["acts"], event.detail["reason"]) if event.kind == "decision" else ((), "")
        for act in acts:
            tool = not act["rule"] and reason.startswith("tool")
            earlier = [moment for position, moment in moments.items() if position < event.position or tool]
            began = max(earlier, default=made.started)
            until = made.ended if tool else moments.get(event.position, made.ended)
            found.append(
                Acted(act["rule"], act["action"], act["verdict"], event.position, began, max(began, until), tool)
            )
    return found
