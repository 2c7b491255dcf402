"""A connection that may not dawdle: a request must come whole in time, and a reader must take what is sent to it.

uvicorn waits for ever for the end of a request, and for a reader whose buffer is full: strangers could hold all connections with one
byte a minute, and a reader its place with none. Here a request and a full buffer have one deadline each, and of the connections whose
request is on its way the oldest makes room when they are too many. So somebody who asks at once is always heard.
"""

from __future__ import annotations

import asyncio
from typing import ClassVar

import h11
from uvicorn.protocols.http.h11_impl import H11Protocol

from affectscope.files import json_text
from affectscope.server.errors import body
from affectscope.server.state import Limits


class Patient(H11Protocol):
    """One connection; :func:`patient` gives the limits."""

    patience: ClassVar[float]
    half_open: ClassVar[int]
    waiting: ClassVar[dict[Patient, None]]
    """Those whose request is on its way, the oldest first."""
    _late: asyncio.TimerHandle | None = None
    _stuck: asyncio.TimerHandle | None = None

    def connection_made(self, transport: asyncio.Transport) -> None:  # type: ignore[override]
        """It begins."""
        super().connection_made(transport)
        self._look()

    def connection_lost(self, exc: Exception | None) -> None:
        """It is over."""
        self._arrived()
        self._taken()
        super().connection_lost(exc)

    def handle_events(self) -> None:
        """Something came, or a reply is out and what came meanwhile is looked at."""
        super().handle_events()
        self._look()

    def pause_writing(self) -> None:
        """The reader's buffers are full."""
        super().pause_writing()
        self._stuck = self.loop.call_later(self.patience, self.transport.abort)

    def resume_writing(self) -> None:
        """The reader takes again."""
        self._taken()
        super().resume_writing()

    def _look(self) -> None:
        if not self._half_open():
            self._arrived()
        elif self._late is None:
            self._late = self.loop.call_later(self.patience, self._cut)
            self.waiting[self] = None
            if len(self.waiting) > self.half_open:
                next(iter(self.waiting))._cut()

    def _half_open(self) -> bool:
        """Whether a request is on its way; between two of them the connection is idle, which uvicorn ends by itself."""
        if self.conn.their_state is h11.SEND_BODY:
            return True
        return self.conn.their_state is h11.IDLE and (self.cycle is None or bool(self.conn.trailing_data[0]))

    def _arrived(self) -> None:
        self.waiting.pop(self, None)
        if self._late is not None:
            self._late.cancel()
            self._late = None

    def _taken(self) -> None:
        if self._stuck is not None:
            self._stuck.cancel()
            self._stuck = None

    def _cut(self) -> None:
        """Say so, where nothing was answered yet, and end it."""
        self._arrived()
        if self.transport.is_closing():
            return
        if self.conn.our_state in (h11.IDLE, h11.SEND_RESPONSE):
            if self.cycle is not None:  # whoever waits for the rest of this body is told that nobody is there
                self.cycle.disconnected = True
                self.cycle.message_event.set()
            told = json_text(body(408, f"the request did not come whole within {self.patience:g} s: send it at once", code="request_timeout")).encode()  # fmt: skip
            headers = [
                ("content-type", "application/json"),
                ("content-length", str(len(told))),
                ("connection", "close"),
            ]
            for event in (
                h11.Response(status_code=408, headers=headers, reason=b"Request Timeout"),
                h11.Data(data=told),
                h11.EndOfMessage(),
            ):
                self.transport.write(self.conn.send(event) or b"")
        self.transport.close()


def patient(limits: Limits) -> type[Patient]:
    """The class of one server's connections."""
    return type("Connection", (Patient,), {"patience": limits.patience, "half_open": limits.half_open, "waiting": {}})
