"""A conversation as the server holds it, in three grades: guarded, watched only, and not read at all (what a bench compares with)."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from typing import Any, Protocol

from affectscope.concepts.neutral import Message
from affectscope.engines.base import Engine, Request, Sampling
from affectscope.guarding.guard import Guarded
from affectscope.guarding.session import Piece
from affectscope.guarding.tools import Call
from affectscope.monitoring.conversation import Conversation
from affectscope.monitoring.monitor import Monitor, Reading
from affectscope.monitoring.recording import trace_of
from affectscope.monitoring.trace import Event, Trace
from affectscope.server.replies import Each


class Talk(Protocol):
    """One conversation; its replies come one after the other, each from one thread."""

    def pieces(
        self, messages: Sequence[Message] | str, sampling: Sampling, logprobs: int | None, each: Each
    ) -> Iterator[Piece]:
        """Answer, or go on with a text; ``each`` is given every reading and may raise to end it."""

    @property
    def stopped(self) -> str:
        """Why it is stopped; empty while it is not."""

    @property
    def place(self) -> int:
        """Position of the next reading."""

    @property
    def events(self) -> Sequence[Event]:
        """Alarms, faults, decisions and actions so far."""

    def barrier(self, call: Call, said: str) -> tuple[bool, str]:
        """Whether a tool call may leave, and why not."""

    def trace(self, finished: str, times: tuple[float, float], since: int) -> Trace | None:
        """Readings from a position on, to be kept."""

    def reset(self, by: str) -> None:
        """A person opens it again."""

    def close(self) -> None:
        """It is over; so is its record."""


class GuardedTalk:
    """Behind a policy."""

    def __init__(self, guarded: Guarded, tags: Mapping[str, str]) -> None:
        self.guarded, self._tags = guarded, dict(tags)

    def pieces(
        self, messages: Sequence[Message] | str, sampling: Sampling, logprobs: int | None, each: Each
    ) -> Iterator[Piece]:
        """See :class:`Talk`."""
        session = self.guarded.session
        session.sampling, session.logprobs, session.each, session.total = sampling, logprobs, each, True
        return session.stream(messages)

    @property
    def stopped(self) -> str:
        """See :class:`Talk`."""
        return self.guarded.session.stopped

    @property
    def place(self) -> int:
        """See :class:`Talk`."""
        return len(self.guarded.session.conversation.watch.readings)

    @property
    def events(self) -> Sequence[Event]:
        """See :class:`Talk`."""
        session = self.guarded.session
        return [*session.conversation.watch.events, *session.recorder.happened]

    def barrier(self, call: Call, said: str) -> tuple[bool, str]:
        """See :class:`Talk`."""
        decision, _ = self.guarded.session.barrier(call, said)
        return decision.verdict == "allow", decision.reason

    def trace(self, finished: str, times: tuple[float, float], since: int) -> Trace | None:
        """See :class:`Talk`."""
        return self.guarded.trace(finished, times, since, self._tags)

    def reset(self, by: str) -> None:
        """See :class:`Talk`."""
        self.guarded.session.reset(by)

    def close(self) -> None:
        """See :class:`Talk`."""
        self.guarded.close()


class WatchedTalk:
    """Readings, and alarms where there is a calibration; nothing is done."""

    stopped = ""

    def __init__(
        self, engine: Engine, monitor: Monitor, name: str, settings: Mapping[str, Any], tags: Mapping[str, str],
        keep_content: bool,
    ) -> None:  # fmt: skip
        self._engine, self._name, self._keep = engine, name, keep_content
        self._settings, self._tags = dict(settings), dict(tags)
        self._conversation = Conversation(monitor)

    def pieces(
        self, messages: Sequence[Message] | str, sampling: Sampling, logprobs: int | None, each: Each
    ) -> Iterator[Piece]:
        """See :class:`Talk`."""
        given = messages if isinstance(messages, str) else tuple(messages)
        generation = self._engine.generate(Request(given, sampling, logprobs=logprobs))
        try:
            for reading in self._conversation.read(generation):
                each(reading)
                if reading.step.generated:
                    yield Piece("text", reading.step.text, readings=(reading,))
        except BaseException:
            generation.stop("left")
            raise
        yield Piece("end", generation.finished)

    @property
    def place(self) -> int:
        """See :class:`Talk`."""
        return len(self._conversation.watch.readings)

    @property
    def events(self) -> Sequence[Event]:
        """See :class:`Talk`."""
        return self._conversation.watch.events

    def barrier(self, call: Call, said: str) -> tuple[bool, str]:
        """No guard: everything may leave."""
        return True, ""

    def trace(self, finished: str, times: tuple[float, float], since: int) -> Trace | None:
        """See :class:`Talk`."""
        name = f"{self._name[:20]}-{since:x}"
        return trace_of(self._conversation.watch, name, finished, times, self._settings, self._tags, self._keep, since)

    def reset(self, by: str) -> None:
        """It never stops."""

    def close(self) -> None:
        """Nothing is open."""


class PlainTalk:
    """Not read at all."""

    stopped, place = "", 0
    events: Sequence[Event] = ()

    def __init__(self, engine: Engine) -> None:
        self._engine = engine

    def pieces(
        self, messages: Sequence[Message] | str, sampling: Sampling, logprobs: int | None, each: Each
    ) -> Iterator[Piece]:
        """See :class:`Talk`; the steps stand as readings of nothing."""
        import numpy as np

        given = messages if isinstance(messages, str) else tuple(messages)
        generation, nothing = (
            self._engine.generate(Request(given, sampling, logprobs=logprobs)),
            np.zeros((0, 0), np.int8),
        )
        try:
            for step in generation:
                reading = Reading(step, nothing)
                each(reading)
                if step.generated:
                    yield Piece("text", step.text, readings=(reading,))
        except BaseException:
            generation.stop("left")
            raise
        yield Piece("end", generation.finished)

    def barrier(self, call: Call, said: str) -> tuple[bool, str]:
        """No guard: everything may leave."""
        return True, ""

    def trace(self, finished: str, times: tuple[float, float], since: int) -> Trace | None:
        """Nothing was read."""
        return None

    def reset(self, by: str) -> None:
        """It never stops."""

    def close(self) -> None:
        """Nothing is open."""
