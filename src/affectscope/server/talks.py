"""A conversation as the server holds it, in three grades: guarded, watched only, and not read at all (what a bench compares with)."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import replace
from typing import Any, Protocol

from affectscope.concepts.neutral import Message
from affectscope.engines.base import Engine, Request, Sampling
from affectscope.errors import AffectscopeError
from affectscope.guarding.dosing import BY_HAND, Dosing, by_hand
from affectscope.guarding.guard import Guarded
from affectscope.guarding.session import Piece
from affectscope.guarding.tools import Call
from affectscope.monitoring.conversation import Conversation
from affectscope.monitoring.monitor import Monitor, Reading, Watch
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
    def watch(self) -> Watch | None:
        """What was read; None where nothing is."""

    @property
    def events(self) -> Sequence[Event]:
        """Alarms, faults, decisions and actions so far."""

    @property
    def happened(self) -> Sequence[Event]:
        """Those of them that no reading brought, in order."""

    def dose(self, concept: str, s: float, by: str) -> None:
        """A person steers it from its next reply on, ``s`` in mean residual norms; 0 ends that.

        Raises:
            AffectscopeError: an unknown concept, a strength beyond the cap, or nothing to steer with.
        """

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
        return len(self.watch.readings)

    @property
    def watch(self) -> Watch:
        """See :class:`Talk`."""
        return self.guarded.session.conversation.watch

    def dose(self, concept: str, s: float, by: str) -> None:
        """See :class:`Talk`."""
        self.guarded.session.dose(concept, s, by)

    @property
    def events(self) -> Sequence[Event]:
        """See :class:`Talk`."""
        return [*self.watch.events, *self.happened]

    @property
    def happened(self) -> Sequence[Event]:
        """See :class:`Talk`."""
        return self.guarded.session.recorder.happened

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
        keep_content: bool, dosing: Dosing | None = None,
    ) -> None:  # fmt: skip
        self._engine, self._name, self._keep = engine, name, keep_content
        self._settings, self._tags = dict(settings), dict(tags)
        self._conversation, self._dosing = Conversation(monitor), dosing
        self.happened: list[Event] = []

    def pieces(
        self, messages: Sequence[Message] | str, sampling: Sampling, logprobs: int | None, each: Each
    ) -> Iterator[Piece]:
        """See :class:`Talk`."""
        given = messages if isinstance(messages, str) else tuple(messages)
        steering = None
        if self._dosing is not None:
            self._dosing.restart()
            _, steering = self._dosing.next()
        generation = self._engine.generate(Request(given, sampling, steering, logprobs=logprobs))
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
        return len(self.watch.readings)

    @property
    def watch(self) -> Watch:
        """See :class:`Talk`."""
        return self._conversation.watch

    def dose(self, concept: str, s: float, by: str) -> None:
        """See :class:`Talk`."""
        if self._dosing is None:
            raise AffectscopeError("no layer of the vectors lies where a dose may enter: extract deeper layers")
        told = by_hand(self._dosing, concept, s)
        self.happened.append(Event(self.place, "action", {"act": "steer", "rule": BY_HAND, "by": by, **told}))

    @property
    def events(self) -> Sequence[Event]:
        """See :class:`Talk`."""
        return [*self.watch.events, *self.happened]

    def barrier(self, call: Call, said: str) -> tuple[bool, str]:
        """No guard: everything may leave."""
        return True, ""

    def trace(self, finished: str, times: tuple[float, float], since: int) -> Trace | None:
        """See :class:`Talk`."""
        name = f"{self._name[:20]}-{since:x}"
        made = trace_of(self.watch, name, finished, times, self._settings, self._tags, self._keep, since)
        dosed = [event for event in self.happened if event.position >= since]
        return replace(made, events=tuple(sorted([*made.events, *dosed], key=lambda e: e.position)))

    def reset(self, by: str) -> None:
        """It never stops."""

    def close(self) -> None:
        """Nothing is open."""


class PlainTalk:
    """Not read at all."""

    stopped, place, watch = "", 0, None
    events: Sequence[Event] = ()
    happened: Sequence[Event] = ()

    def dose(self, concept: str, s: float, by: str) -> None:
        """See :class:`Talk`."""
        raise AffectscopeError("this server reads nothing, and has nothing to steer with: start it with --vectors")

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
