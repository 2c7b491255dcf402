"""A request's body as one of our models, with an error that names the field at fault."""

from __future__ import annotations

import json
import re
from typing import Any, TypeVar

from pydantic import BaseModel, ValidationError
from starlette.requests import ClientDisconnect, Request

from affectscope.errors import dotted, first_problem
from affectscope.server.errors import LEFT, RefusedError

Body = TypeVar("Body", bound=BaseModel)
# Possessive, so that a string which never closes is looked at once.
_STRINGS = re.compile(r'"(?:[^"\\]++|\\.)*+(?:"|\\?\Z)', re.DOTALL)
_BRACKETS = re.compile(r"[\[\]{}]")
MOST_PARTS = 20_000
"""Objects and arrays of a body. Whoever parses more of them keeps all others waiting."""


async def read_body(request: Request, kind: type[Body], depth: int) -> Body:
    """The body.

    Args:
        depth: brackets that may stand in each other; more would exhaust whoever parses it.

    Raises:
        RefusedError: 400 for what is no JSON or does not fit, 415 for another content type.
    """
    return validated((await read_json(request, depth))[1], kind)


async def read_json(request: Request, depth: int) -> tuple[bytes, Any]:
    """The body as it was sent, and what it holds.

    Raises:
        RefusedError: as :func:`read_body`.
    """
    media = request.headers.get("content-type", "").partition(";")[0].strip().lower()
    if media != "application/json":
        raise RefusedError(415, f"the body is {media or 'of no type'}: send application/json", code="unsupported_media_type")  # fmt: skip
    try:
        raw = await request.body()
    except ClientDisconnect as error:
        raise RefusedError(LEFT, "the client left", code="client_left") from error
    try:
        text = raw.decode("utf-8")
    except UnicodeDecodeError as error:
        raise RefusedError(400, "the body is no UTF-8: send JSON as UTF-8", code="invalid_json") from error
    brackets = _BRACKETS.findall(_STRINGS.sub("", text))
    if len(brackets) > 2 * MOST_PARTS:
        raise RefusedError(400, f"the body holds more than {MOST_PARTS} objects and arrays: send fewer", code="invalid_json")  # fmt: skip
    if _depth(brackets) > depth:
        raise RefusedError(400, f"the body nests deeper than {depth}: flatten it", code="invalid_json")
    try:
        given = strict(text)
    except (ValueError, RecursionError) as error:
        raise RefusedError(400, f"the body is no JSON: {error}", code="invalid_json") from error
    if not writable(given):
        raise RefusedError(
            400, "the body holds half a character (a lone surrogate): send whole ones", code="invalid_json"
        )
    return raw, given


def validated(given: object, kind: type[Body]) -> Body:
    """What a body holds as one of our models.

    Raises:
        RefusedError: 400, with the field at fault.
    """
    try:
        return kind.model_validate(given)
    except ValidationError as error:
        where, why = first_problem(error)
        raise RefusedError(400, f"{dotted(where) or 'the body'}: {why}", param=dotted(where), code="invalid_value") from error  # fmt: skip


def strict(text: str) -> Any:
    """JSON as its standard has it: Python's own reader takes NaN and the infinities too.

    Raises:
        ValueError: it is none, with what is wrong with it.
        RecursionError: it nests too deep.
    """
    try:
        return json.loads(text, parse_constant=_no_number)
    except json.JSONDecodeError:
        raise
    except ValueError as error:
        raise ValueError(str(error) if "JSON" in str(error) else "it holds a number of too many digits") from error


def _no_number(name: str) -> None:
    raise ValueError(f"{name} is no number of JSON")


def writable(value: object) -> bool:
    """Whether a value can be written as UTF-8: half a surrogate pair, which JSON can escape, cannot."""
    try:
        json.dumps(value, ensure_ascii=False).encode()
    except (UnicodeEncodeError, RecursionError):
        return False
    return True


def _depth(brackets: list[str]) -> int:
    """How deep they stand in each other at most."""
    most = now = 0
    for bracket in brackets:
        now += 1 if bracket in "[{" else -1
        most = max(most, now)
    return most
