"""What ``/openapi.json`` says of every route: what it answers, what it refuses with, and who may ask.

A route declares its own part where it stands, as ``@router.get("/traces", **answers(Traces, 404))``, and
``**asks(ChatRequest)`` beside it for a body that we read ourselves. What the gate does to all of them, :func:`describe` adds.
"""

from __future__ import annotations

from copy import deepcopy
from typing import Annotated, Any

from fastapi import FastAPI, Query
from pydantic import BaseModel, ConfigDict, Field

from affectscope.server.gate import OPEN

JSON, EVENTS, TEXT = "application/json", "text/event-stream", "text/plain"
OfTenant = Annotated[str, Query(description="Whose it is, for an administrator; the key's own where it is left out.")]
REFUSALS = {
    400: "What was asked cannot be: the message names the field and the remedy.",
    401: "No key of this server.",
    403: "The key lacks the scope, or the session is stopped.",
    404: "There is none of this name here.",
    409: "Something is under way or done already.",
    413: "The request is longer than this server takes.",
    415: "The body is no JSON.",
    429: "Too many at once, or of this key: come again when `Retry-After` says.",
    502: "The engine behind cannot be reached, or failed.",
    503: "The server is shutting down, or a part of it has failed.",
    504: "The engine behind took too long.",
}
"""What a status means, for those that a route may declare."""
ALWAYS = (400, 401, 403, 413, 429)
"""Of every route that needs a key: the gate refuses with them."""
_HEADERS = {401: "WWW-Authenticate", 429: "Retry-After"}
_REF = "#/components/schemas/{model}"
_EVENT = {
    "type": "object",
    "description": "One event: `data` holds a line of JSON.",
    "properties": {"data": {"type": "string"}},
}


class Fault(BaseModel):
    """What went wrong, in one line with its remedy."""

    model_config = ConfigDict(extra="forbid")

    message: str
    type: str
    param: str | None = Field(description="The field at fault, as `messages.0.content`.")
    code: str | None = Field(description="For programs, as `model_not_found`.")


class Refusal(BaseModel):
    """An error as OpenAI's clients read it."""

    model_config = ConfigDict(extra="forbid")

    error: Fault


def answers(kind: type[BaseModel] | None, *refused: int, media: str = JSON, also: str = "") -> dict[str, Any]:
    """What a route answers, for its decorator.

    Args:
        kind: shape of the answer; None for one that is no JSON.
        refused: statuses that it refuses with, beside those of every route.
        media: type of the answer.
        also: another type that it may have.
    """
    about = (kind.__doc__ or "").split("\n")[0] if kind is not None else "As the route says."
    good: dict[str, Any] = {"description": about, "model": kind} if kind is not None else {"description": about}
    good["content"] = {name: {"schema": _EVENT if name == EVENTS else {"type": "string"}} for name in (media, also) if name not in ("", JSON)}  # fmt: skip
    return {"responses": {200: good, **{status: _refusal(status) for status in refused}}}


def asks(kind: type[BaseModel]) -> dict[str, Any]:
    """The body of a route that reads it itself, after the key was seen, for its decorator."""
    schema = kind.model_json_schema(ref_template=_REF)
    return {"openapi_extra": {"requestBody": {"required": True, "content": {JSON: {"schema": schema}}}}}


def describe(app: FastAPI) -> None:
    """Make the application's ``/openapi.json`` whole, once all its routes are in it."""

    def openapi() -> dict[str, Any]:
        if app.openapi_schema is None:
            app.openapi_schema = _completed(deepcopy(FastAPI.openapi(app)))
        return app.openapi_schema

    app.openapi = openapi  # type: ignore[method-assign]


def _refusal(status: int) -> dict[str, Any]:
    told: dict[str, Any] = {"description": REFUSALS[status], "content": {JSON: {"schema": {"$ref": _REF.format(model="Refusal")}}}}  # fmt: skip
    if status in _HEADERS:
        told["headers"] = {_HEADERS[status]: {"schema": {"type": "string"}}}
    return told


def _completed(spec: dict[str, Any]) -> dict[str, Any]:
    """The document with the gate's part, our errors in the place of FastAPI's, and each schema once."""
    shapes: dict[str, Any] = spec.setdefault("components", {}).setdefault("schemas", {})
    for name in ("HTTPValidationError", "ValidationError"):  # wrong parameters get our 400
        shapes.pop(name, None)
    shapes["Refusal"] = _hoisted(Refusal.model_json_schema(ref_template=_REF), shapes)
    told = "A key of this server, `as-…`; what it may do is in its scopes."
    spec["components"]["securitySchemes"] = {"key": {"type": "http", "scheme": "bearer", "description": told}}
    spec["security"] = [{"key": []}]
    for path, methods in spec["paths"].items():
        for operation in methods.values():
            responses = operation["responses"]
            responses.pop("422", None)
            if path in OPEN:
                operation["security"] = []
            else:
                responses.update({str(status): _refusal(status) for status in ALWAYS if str(status) not in responses})
            _drop_empty(responses["200"])
            body = operation.get("requestBody", {}).get("content", {}).get(JSON)
            if body is not None:
                body["schema"] = _hoisted(body["schema"], shapes)
                responses.setdefault("415", _refusal(415))
    return spec


def _hoisted(schema: dict[str, Any], shapes: dict[str, Any]) -> dict[str, Any]:
    """A schema whose parts went among the document's."""
    shapes.update(schema.pop("$defs", {}))
    return schema


def _drop_empty(response: dict[str, Any]) -> None:
    """Leave out JSON of no shape, which FastAPI writes for a route that answers something else."""
    content = response.get("content", {})
    if len(content) > 1 and not content.get(JSON, {"schema": True})["schema"]:
        del content[JSON]
