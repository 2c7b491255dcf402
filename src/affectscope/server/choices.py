"""One choice of one request: wait for a place, run the talk in its thread, keep the trace, and tell what came of it."""

from __future__ import annotations

import asyncio
import time
from collections.abc import AsyncGenerator, Iterator, Sequence
from contextlib import aclosing
from dataclasses import dataclass, field
from typing import Any

import numpy as np

from affectscope.errors import AffectscopeError
from affectscope.integrations.telemetry import Call
from affectscope.monitoring.monitor import Reading
from affectscope.monitoring.trace import MISSING, restore
from affectscope.server.admission import Ticket
from affectscope.server.api_keys import Key
from affectscope.server.asking import Asked
from affectscope.server.deltas import Assembler, Delta
from affectscope.server.errors import RefusedError
from affectscope.server.floor import retracts
from affectscope.server.replies import Each, LeftError, Reply
from affectscope.server.schema import VERSION
from affectscope.server.state import Named, State
from affectscope.server.telling import ended


@dataclass
class Choice:
    """A reply that is wanted and how it went. ``columns`` are the concepts that were asked for, in the monitor's order; ``told`` is
    the request that it is choice ``index`` of, for telemetry."""

    state: State
    key: Key
    asked: Asked
    ticket: Ticket
    columns: Sequence[int] = ()
    told: Call = field(default_factory=Call)
    index: int = 0
    assembler: Assembler = field(init=False)
    trace: str = ""
    prompt: int = 0  # prompt tokens that were read
    tokens: int = 0  # tokens that the model wrote, also those that were taken back
    moments: dict[int, float] = field(default_factory=dict)  # when each of them was read, by position
    _named: Named | None = None
    _last: Reading | None = None
    _first: float = 0.0
    _began: float = 0.0
    _since: int = 0

    def __post_init__(self) -> None:
        affect = self.asked.affect
        policy = self.state.served.policy(affect.policy if affect else "")
        # Who does not read what is taken back must not be sent it.
        whole = policy is not None and retracts(policy) and affect is None
        self.assembler = Assembler(self.asked.sampling.stop, self.asked.tools, whole, self.columns)

    async def deltas(self) -> AsyncGenerator[Delta, None]:
        """What may be sent, as it comes. When it ends the trace is kept.

        Raises:
            RefusedError: the talk is stopped or under way, or something in it failed.
        """
        async with self.ticket:
            affect = self.asked.affect
            self._named = self.state.talk(self.key, affect.session if affect else "", affect.policy if affect else "")
            try:
                if affect is not None and affect.steer is not None:  # a line goes to the disk
                    await asyncio.to_thread(self._prepare)
                else:
                    self._prepare()
            except BaseException:
                self.state.done(self._named)
                raise
            self._began = time.time()
            reply = Reply(self._work, self._at_end, f"reply {self._named.name[:12]}")
            self._named.gone = lambda: reply.left
            try:
                async with aclosing(reply.items()) as items:
                    async for delta in items:
                        yield delta
            except AffectscopeError as error:
                raise RefusedError(400 if self.state.served.engine.alive else 503, str(error)) from error
            finally:
                reply.leave()
                await reply.ended()

    def _prepare(self) -> None:
        """Before the model runs: whether it may, and a dose by hand.

        Raises:
            RefusedError: the session is stopped, or the dose is none that can be given.
        """
        assert self._named is not None
        talk, steer = self._named.talk, self.asked.affect.steer if self.asked.affect else None
        if why := talk.stopped:
            raise RefusedError(403, f"the session is stopped ({why}): a person must reset it", param="affect.session", code="session_stopped")  # fmt: skip
        if steer is None:
            return
        session, s_milli = self._named.name, round(1000 * steer.s)
        self.state.controlled("steer", self.key, session=session, concept=steer.concept, s_milli=s_milli)
        try:
            talk.dose(steer.concept, steer.s, self.key.name)
        except AffectscopeError as error:
            self.state.controlled("steer refused", self.key, session=session, concept=steer.concept, s_milli=s_milli)
            raise RefusedError(400, str(error), param="affect.steer", code="steer_refused") from error

    def summary(self) -> dict[str, Any]:
        """The vendor object at the end of a reply."""
        assert self._named is not None
        made: dict[str, Any] = {
            "v": VERSION,
            "session": self._named.name,
            "policy": self._named.policy or None,
            "trace": self.trace or None,
            "finished": self.assembler.finished,
            "stopped": self._named.talk.stopped or None,
            "decisions": self.assembler.happened,
        }
        if self.columns and self.state.served.monitor is not None:
            names = self.state.served.monitor.read.concepts
            units = np.array([r.z[0] for r in self.assembler.readings if (r.z != MISSING).all()])
            made["summary"] = {
                names[i]: {"mean": float(z.mean()), "max": float(z.max())} if len(z := restore(units[:, i]) if len(units) else units) else None
                for i in self.columns
            }  # fmt: skip
        return made

    def _work(self, each: Each) -> Iterator[Delta]:
        """In the reply's thread: the talk's pieces as deltas, and its tool call before the barrier."""
        assert self._named is not None
        talk, live, before = self._named.talk, self._named.live, time.monotonic()

        def seen(reading: Reading) -> None:
            nonlocal before
            self._last = reading
            self.state.hub.read(live, reading)
            if reading.step.generated:
                now = time.monotonic()
                if self.tokens:
                    self.state.metrics.token.observe(now - before)
                before = now
                self.moments[reading.step.position] = time.time()
                self.tokens += 1
            else:
                self.prompt += 1
            each(reading)

        self._since = talk.place
        for piece in talk.pieces(self.asked.messages, self.asked.sampling, self.asked.logprobs, seen):
            for delta in self.assembler.push(piece):
                if not self._first and delta.text:
                    self._first = time.time()
                yield delta
        call = self.assembler.tool_call()
        if call is None:
            yield from self.assembler.close()
            return
        allowed, why = talk.barrier(call, self.assembler.said)
        yield from self.assembler.close(call, "" if allowed else f"the call of {call.name} was held: {why}")

    def _at_end(self, error: BaseException | None) -> None:
        """In the reply's thread, however it ended: keep the trace, count, and let the talk go."""
        assert self._named is not None
        talk, metrics, made = self._named.talk, self.state.metrics, None
        try:
            left = error is None or isinstance(error, LeftError)
            finished = self.assembler.finished or ("left" if left else type(error).__name__)
            made = talk.trace(finished, (self._began, time.time()), self._since)
            if made is not None and self.state.served.kept.store is not None and len(made):
                try:
                    self.state.served.kept.store.save(made)
                    self.trace = self._named.live.trace = made.id
                except AffectscopeError as lost:
                    metrics.audit_errors.inc()
                    error = RefusedError(503, f"the trace could not be kept: {lost}", code="trace_lost")
                    raise error from lost
        finally:
            try:
                self._count()
                self.told.choice(ended(self, self._named, made, error))
            finally:
                self.state.done(self._named)

    def _count(self) -> None:
        assert self._named is not None
        metrics, served = self.state.metrics, self.state.served
        z: dict[str, float] = {}
        if self._last is not None and served.monitor is not None:
            row = restore(self._last.z[0])
            z = dict(zip(served.monitor.read.concepts, map(float, row), strict=True))
        metrics.read(self.tokens, self.prompt, z)
        for event in self._named.talk.events:
            if event.position < self._since:
                continue
            if event.kind == "alarm":
                metrics.alarms.labels(event.detail["rule"]).inc()
            elif event.kind == "fault":
                metrics.faults.labels(event.detail["fault"]).inc()
            elif event.kind == "decision":
                for act in event.detail["acts"]:
                    metrics.actions.labels(act["action"], act["verdict"]).inc()
        metrics.duration.observe(time.time() - self._began)
        if self._first:
            metrics.first.observe(self._first - self._began)
