"""Errors in the shape that OpenAI's clients read: ``{"error": {"message", "type", "param", "code"}}``."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

TYPES = {
    400: "invalid_request_error",
    401: "authentication_error",
    403: "permission_error",
    404: "invalid_request_error",
    405: "invalid_request_error",
    408: "invalid_request_error",
    409: "conflict_error",
    413: "invalid_request_error",
    422: "invalid_request_error",
    429: "rate_limit_error",
    503: "service_unavailable_error",
}
"""The ``type`` that goes with a status; ``server_error`` for any other."""


LONGEST = 500
"""Characters of a message."""
LEFT = 499
"""Status of a request whose client left, for the numbers: nobody reads it."""


class RefusedError(Exception):
    """A request that is not served: a status, and what went wrong with its remedy.

    Args:
        param: the field at fault, as ``messages.0.content``.
        code: for programs, as ``model_not_found``.
        headers: further headers of the answer, as ``Retry-After``.
    """

    def __init__(
        self, status: int, message: str, *, param: str = "", code: str = "", headers: Mapping[str, str] | None = None
    ) -> None:
        super().__init__(message)
        self.status, self.message, self.param, self.code = status, message, param, code
        self.headers = dict(headers or {})

    @property
    def body(self) -> dict[str, Any]:
        """What the answer holds."""
        return body(self.status, self.message, self.param, self.code)


def body(status: int, message: str, param: str = "", code: str = "") -> dict[str, Any]:
    """An error as OpenAI's clients read it: one line of bounded length, whatever of a request stands in it."""
    kind = TYPES.get(status, "server_error")
    return {"error": {"message": _line(message), "type": kind, "param": _line(param) or None, "code": code or None}}


def _line(text: str) -> str:
    """Without what would break a line, and without its middle where it is long: the remedy stands at the end."""
    whole = "".join(c if c.isprintable() else " " for c in text[:LONGEST] + text[LONGEST:][-LONGEST:])
    return whole if len(whole) <= LONGEST else f"{whole[: LONGEST // 2]} … {whole[-LONGEST // 2 :]}"
