"""What all requests share: the served model, places, named talks, questions for people, and numbers."""

from __future__ import annotations

import asyncio
import threading
import time
from collections import Counter, OrderedDict
from collections.abc import Callable
from dataclasses import dataclass, field
from datetime import UTC, datetime
from pathlib import Path
from uuid import uuid4

from affectscope.guarding.policy import Policy
from affectscope.guarding.session import Question
from affectscope.integrations.prometheus import Metrics
from affectscope.integrations.telemetry import Telemetry
from affectscope.server.admission import Admission
from affectscope.server.api_keys import ApiKeys, Key
from affectscope.server.atlas import Atlas
from affectscope.server.control_log import ControlLog
from affectscope.server.errors import RefusedError
from affectscope.server.hub import Hub, Live
from affectscope.server.inbox import Inbox
from affectscope.server.served import Served
from affectscope.server.sign_in import SignIns
from affectscope.server.talks import Talk

_LAST = 10.0
DEFAULT_CONCEPTS = ("desperate", "panicked", "hostile", "calm")
"""Shown live where there is no policy to say what matters."""


@dataclass(frozen=True)
class Limits:
    """What no request may exceed.

    Args:
        longest: tokens of one reply.
        waiting: replies that may wait for a place.
        body: bytes of a request.
        depth: of its JSON.
        per_minute: requests of one key; 0 for no limit.
        talks: named talks of one tenant that are held; the one idle longest goes first.
        session: tokens that a named talk may read; all its readings are kept while it is open.
        idle: seconds after which a named talk that nobody goes on with is closed.
        onlookers: live streams, of all tenants together; a quarter of them for one.
        patience: seconds in which a request must have come whole, and in which a reader must take what waits for it.
        half_open: connections whose request is on its way; the oldest makes room.
        drain: seconds that running replies have to end when the server is told to stop.
    """

    longest: int = 1024
    waiting: int = 64
    body: int = 4 * 2**20
    depth: int = 64
    per_minute: int = 0
    talks: int = 1024
    session: int = 131_072
    idle: float = 3600.0
    onlookers: int = 64
    patience: float = 60.0
    half_open: int = 256
    drain: float = 30.0


@dataclass
class Named:
    """A talk that goes on from request to request. ``lock``: one reply at a time."""

    talk: Talk
    tenant: str
    name: str
    policy: str
    live: Live
    began: float = field(default_factory=time.time)
    used: float = field(default_factory=time.monotonic)
    lock: threading.Lock = field(default_factory=threading.Lock)
    gone: Callable[[], bool] = lambda: False  # whether nobody waits for the reply under way


class State:
    """Of one server.

    Args:
        control: gets every control call.
        report: the page of an audit, shown beside the vectors.
    """

    def __init__(
        self,
        served: Served,
        keys: ApiKeys,
        limits: Limits | None = None,
        control: ControlLog | None = None,
        report: Path | None = None,
    ) -> None:
        self.served, self.keys, self.limits = served, keys, limits or Limits()
        self.began, self.draining = time.time(), False
        self.report = report
        self.admission = Admission(served.slots, self.limits.waiting)
        concepts = served.floor.watch_list if served.floor else ()
        self.metrics = Metrics(served.name, served.hashes, concepts)
        self.metrics.before(self._gauges)
        self.telemetry = Telemetry()
        self.inbox = Inbox()
        rules = served.floor.rules.values() if served.floor else ()
        watched = dict.fromkeys(concept for part in rules for concept in part.concepts)  # those of the first rule first
        self.hub = Hub(served.monitor, tuple(watched) or DEFAULT_CONCEPTS)
        self.atlas = Atlas(served)
        self.onlookers, self.replaying = Counter[str](), asyncio.Semaphore(1)
        self.sign_ins, self.control = SignIns(keys), control or ControlLog(None)
        self.named: OrderedDict[tuple[str, str], Named] = OrderedDict()
        self.drained_by = float("inf")
        self._live, self._counted = 0, threading.Lock()
        self._buckets: dict[str, tuple[float, float]] = {}

    def spend(self, key: Key) -> None:
        """Count a request of a key.

        Raises:
            RefusedError: 429 where it has had as many in the last minute as it may.
        """
        most = self.limits.per_minute
        if not most:
            return
        now = time.monotonic()
        left, then = self._buckets.get(key.name, (float(most), now))
        left = min(float(most), left + (now - then) * most / 60)
        if left < 1:
            wait = str(max(1, round((1 - left) * 60 / most)))
            raise RefusedError(429, f"the key {key.name!r} may ask {most} times a minute: try again in {wait} s", code="rate_limit_exceeded", headers={"Retry-After": wait})  # fmt: skip
        self._buckets[key.name] = (left - 1, now)

    def controlled(self, what: str, key: Key, **facts: str | int) -> None:
        """Record a control call of a key before it takes effect.

        Raises:
            RefusedError: 503 where that cannot be written: then nothing is done.
        """
        try:
            self.control.write(what, key.name, key.tenant, **facts)
        except OSError as error:
            self.metrics.audit_errors.inc()
            raise RefusedError(503, f"the log of control calls cannot be written ({error.strerror}): nothing was done", code="control_log") from error  # fmt: skip

    def talk(self, key: Key, session: str, policy: str) -> Named:
        """The talk of a request, locked for it: a named one goes on, and one without a name is new.

        Raises:
            RefusedError: 409 where another reply of it is under way, or it began under another policy; 429 where the tenant
                holds as many as it may and all of them run or are stopped.
        """
        place = (key.tenant, session or uuid4().hex)
        wanted = self.served.policy(policy)
        named = self.named.get(place) if session else None
        if named is None:
            self._make_room(key.tenant)
            named = self._begun(key, place, wanted)
            if session:
                self.named[place] = named
        elif policy and policy != named.policy:
            raise RefusedError(409, f"the session {session!r} began under policy {named.policy!r}: a talk keeps its policy", param="affect.policy", code="policy_fixed")  # fmt: skip
        elif named.talk.place > self.limits.session:
            raise RefusedError(400, f"the session {session!r} has read {named.talk.place} tokens: begin another", param="affect.session", code="session_too_long")  # fmt: skip
        if not named.lock.acquire(blocking=False):
            raise RefusedError(409, f"the session {session!r} has a reply under way: wait for its end", param="affect.session", code="session_busy")  # fmt: skip
        if session:
            self.named.move_to_end(place)
        named.used, named.gone = time.monotonic(), lambda: False
        self.hub.changed(named.live, "running")
        with self._counted:
            self._live += 1
        return named

    def done(self, named: Named) -> None:
        """The reply is over; a talk without a name with it."""
        alone = self.named.get((named.tenant, named.name)) is not named
        named.used = time.monotonic()
        try:
            if alone:
                self._end(named)
            else:
                self.hub.changed(named.live, "stopped" if named.talk.stopped else "idle")
        finally:
            named.lock.release()
            with self._counted:
                self._live -= 1

    @property
    def live(self) -> int:
        """Replies whose threads run."""
        return self._live

    def begin_drain(self) -> None:
        """Take nothing more; what runs has its time from now on."""
        self.draining = self.admission.closed = True
        self.drained_by = min(self.drained_by, time.monotonic() + self.limits.drain)

    def close(self) -> None:
        """End the engine, wait for the threads that it fed, and close every talk's record and the store."""
        self.served.engine.close()
        until = time.monotonic() + _LAST
        while self._live and time.monotonic() < until:
            time.sleep(0.02)
        for named in list(self.named.values()):
            self._end(named)
        self.named.clear()
        self.served.close()
        self.control.close()
        self.telemetry.close()

    def _begun(self, key: Key, place: tuple[str, str], policy: Policy | None) -> Named:
        tags, made = {"tenant": key.tenant, "key": key.name, "talk": place[1]}, list[Named]()

        def ask(question: Question) -> str | None:
            self.hub.changed(made[0].live, "waiting")
            try:
                return self.inbox.ask(key.tenant, place[1], question, lambda: self.draining or made[0].gone())
            finally:
                self.hub.changed(made[0].live, "running")

        talk, name = self.served.begin(policy, tags, ask), policy.name if policy else ""
        made.append(Named(talk, *place, name, self.hub.open(*place, name, talk)))
        return made[0]

    def _end(self, named: Named) -> None:
        self.hub.close(named.live)
        named.talk.close()

    def _make_room(self, tenant: str) -> None:
        """Close talks that nobody went on with, and the tenant's idle longest where it has too many; never one that runs or
        is stopped, for a stop holds until a person says otherwise."""
        now = time.monotonic()
        mine = sum(n.tenant == tenant for n in self.named.values())
        for place, named in list(self.named.items()):
            idle = now - named.used > self.limits.idle
            if not idle and not (named.tenant == tenant and mine >= self.limits.talks):
                continue
            if not named.talk.stopped and named.lock.acquire(blocking=False):
                del self.named[place]
                named.lock.release()
                self._end(named)
                mine -= named.tenant == tenant
        if mine >= self.limits.talks:
            raise RefusedError(429, f"{mine} sessions of this tenant run or are stopped: reset some", param="affect.session", code="too_many_sessions", headers={"Retry-After": "60"})  # fmt: skip

    def _gauges(self) -> None:
        self.metrics.running.set(self.admission.busy)
        self.metrics.queued.set(self.admission.queued)
        waiting = self.inbox.list()
        self.metrics.pending.set(len(waiting))
        self.metrics.oldest.set(time.time() - waiting[0].asked if waiting else 0)
        if self.served.calibration is not None:
            made = datetime.fromisoformat(self.served.calibration.made).astimezone(UTC)
            self.metrics.calibrated.set((datetime.now(UTC) - made).total_seconds())
