"""What all requests share: the served model, places, named talks, questions for people, and numbers."""

from __future__ import annotations

import threading
import time
from collections import OrderedDict
from dataclasses import dataclass, field
from datetime import UTC, datetime
from uuid import uuid4

from affectscope.integrations.prometheus import Metrics
from affectscope.server.admission import Admission
from affectscope.server.api_keys import ApiKeys, Key
from affectscope.server.errors import RefusedError
from affectscope.server.inbox import Inbox
from affectscope.server.served import Served
from affectscope.server.talks import Talk


@dataclass(frozen=True)
class Limits:
    """What no request may exceed.

    Args:
        longest: tokens of one reply.
        waiting: replies that may wait for a place.
        body: bytes of a request.
        depth: of its JSON.
        per_minute: requests of one key; 0 for no limit.
        talks: named talks that are held; the one idle longest goes first.
        idle: seconds after which a named talk that nobody goes on with is closed.
        drain: seconds that running replies have to end when the server is told to stop.
    """

    longest: int = 1024
    waiting: int = 64
    body: int = 4 * 2**20
    depth: int = 64
    per_minute: int = 0
    talks: int = 1024
    idle: float = 3600.0
    drain: float = 30.0


@dataclass
class Named:
    """A talk that goes on from request to request. ``lock``: one reply at a time."""

    talk: Talk
    tenant: str
    name: str
    policy: str
    began: float = field(default_factory=time.time)
    used: float = field(default_factory=time.monotonic)
    lock: threading.Lock = field(default_factory=threading.Lock)


class State:
    """Of one server."""

    def __init__(self, served: Served, keys: ApiKeys, limits: Limits | None = None) -> None:
        self.served, self.keys, self.limits = served, keys, limits or Limits()
        self.began, self.draining = time.time(), False
        self.admission = Admission(served.slots, self.limits.waiting)
        concepts = served.floor.watch_list if served.floor else ()
        self.metrics = Metrics(served.name, served.hashes, concepts)
        self.metrics.before(self._gauges)
        self.inbox = Inbox()
        self.named: OrderedDict[tuple[str, str], Named] = OrderedDict()
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

    def talk(self, key: Key, session: str, policy: str) -> Named:
        """The talk of a request, locked for it: a named one goes on, and one without a name is new.

        Raises:
            RefusedError: 409 where another reply of it is under way, or it began under another policy.
        """
        self._forget_idle()
        place = (key.tenant, session or uuid4().hex)
        wanted = self.served.policy(policy)
        named = self.named.get(place) if session else None
        if named is None:
            tags = {"tenant": key.tenant, "key": key.name, "talk": place[1]}
            name = wanted.name if wanted else ""
            leaving = [False]
            talk = self.served.begin(
                wanted, tags, lambda q: self.inbox.ask(key.tenant, place[1], q, lambda: leaving[0] or self.draining)
            )
            named = Named(talk, key.tenant, place[1], name)
            if session:
                self.named[place] = named
        elif policy and policy != named.policy:
            raise RefusedError(409, f"the session {session!r} began under policy {named.policy!r}: a talk keeps its policy", param="affect.policy", code="policy_fixed")  # fmt: skip
        if not named.lock.acquire(blocking=False):
            raise RefusedError(409, f"the session {session!r} has a reply under way: wait for its end", param="affect.session", code="session_busy")  # fmt: skip
        named.used = time.monotonic()
        return named

    def done(self, named: Named) -> None:
        """The reply is over; a talk without a name with it."""
        named.used = time.monotonic()
        named.lock.release()
        if self.named.get((named.tenant, named.name)) is not named:
            named.talk.close()

    def close(self) -> None:
        """Close every talk's record, then the model."""
        for named in self.named.values():
            named.talk.close()
        self.named.clear()
        self.served.close()

    def _forget_idle(self) -> None:
        """Close named talks that nobody went on with, and the oldest where there are too many; never one that runs."""
        now = time.monotonic()
        for place, named in list(self.named.items()):
            old = now - named.used > self.limits.idle or len(self.named) >= self.limits.talks
            if old and not named.talk.stopped and named.lock.acquire(blocking=False):
                del self.named[place]
                named.lock.release()
                named.talk.close()

    def _gauges(self) -> None:
        self.metrics.running.set(self.admission.busy)
        self.metrics.queued.set(self.admission.queued)
        waiting = self.inbox.list()
        self.metrics.pending.set(len(waiting))
        self.metrics.oldest.set(time.time() - waiting[0].asked if waiting else 0)
        if self.served.calibration is not None:
            made = datetime.fromisoformat(self.served.calibration.made).astimezone(UTC)
            self.metrics.calibrated.set((datetime.now(UTC) - made).total_seconds())
