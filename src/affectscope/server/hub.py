"""What runs now, for people who look on: one entry a conversation, read at their own pace and never waited for.

A reply's thread leaves three numbers an entry behind at each token and goes on; whoever looks compares versions. So a wall that
nobody watches costs nothing, and one that is slow misses moments, not conversations. The readings themselves are the talk's own.
"""

from __future__ import annotations

import itertools
import threading
import time
from collections.abc import Sequence
from dataclasses import dataclass, field
from typing import Any, Literal

import numpy as np

from affectscope.monitoring.monitor import POLICY, Monitor, Reading, Watch
from affectscope.monitoring.trace import MISSING, RELEASED, STEP
from affectscope.server.talks import Talk

KEPT_FOR, MOST_ENDED = 30.0, 256
"""Seconds for which a conversation that is over still stands there, and how many of them."""
MOST_CONCEPTS = 8
"""Of the watch-list, on the wall."""
_BELOW = 0.999  # rounded, it must not look like an alarm
Phase = Literal["idle", "running", "waiting", "stopped", "ended"]


@dataclass
class Live:
    """A conversation as it is now. ``version`` grows with every change; ``level`` is the highest statistic of any rule over its
    threshold: 1 is an alarm. ``trace``: of its last reply, once kept."""

    number: int
    tenant: str
    name: str
    policy: str
    talk: Talk
    source: str = ""  # whose text it is, where that is not the model that was read
    began: float = field(default_factory=time.time)
    phase: Phase = "idle"
    version: int = 0
    alarms: int = 0
    acts: int = 0
    counted: int = 0  # events that the two above are of
    level: float = 0.0
    rule: str = ""
    trace: str = ""
    ended: float = 0.0
    reading: Reading | None = None


class Hub:
    """All conversations of a server. For many threads.

    Args:
        monitor: None where nothing is read.
        watch_list: concepts that the wall shows; the first ``MOST_CONCEPTS`` of them.
    """

    def __init__(self, monitor: Monitor | None, watch_list: Sequence[str] = ()) -> None:
        self._monitor = monitor
        known = monitor.read.concepts if monitor is not None else ()
        self.concepts = tuple(c for c in watch_list if c in known)[:MOST_CONCEPTS]
        self._columns = [known.index(c) for c in self.concepts]
        self._probe = monitor.read.probes.index(POLICY) if monitor is not None and POLICY in monitor.read.probes else 0
        self._numbers, self._versions = itertools.count(1), itertools.count(1)
        self._lives: dict[int, Live] = {}
        self._lock = threading.Lock()

    def open(self, tenant: str, name: str, policy: str, talk: Talk, source: str = "") -> Live:
        """A conversation begins."""
        live = Live(next(self._numbers), tenant, name, policy, talk, source)
        with self._lock:
            self._tidy()
            self._lives[live.number] = live
        self.changed(live)
        return live

    def changed(self, live: Live, phase: Phase | None = None) -> None:
        """Something about it is new."""
        if phase is not None:
            live.phase = phase
        live.version = next(self._versions)

    def read(self, live: Live, reading: Reading) -> None:
        """A token of it was read. Called in the reply's thread, at every token: nothing is computed here."""
        live.reading = reading
        live.version = next(self._versions)

    def close(self, live: Live) -> None:
        """It is over, and goes after a while."""
        live.ended = time.monotonic()
        self.changed(live, "ended")

    def find(self, name: str, tenant: str | None) -> Live | None:
        """The conversation of this name: of one tenant, or the only one of all when None; the newest, if several had it."""
        found = [live for live in self._all() if live.name == name and tenant in (None, live.tenant)]
        if len({live.tenant for live in found}) > 1:
            return None
        return found[-1] if found else None

    def view(self, tenant: str | None) -> View:
        """For somebody who looks on: of one tenant, or of all when None."""
        return View(self, tenant)

    def rows(self, lives: Sequence[Live]) -> list[list[Any]]:
        """What changes of conversations: number, phase, tokens, level, rule, alarms, acts, z by concept."""
        shown = self._shown(lives)
        for live in lives:
            self._measure(live)
        return [
            [live.number, live.phase, live.talk.place, round(live.level, 3), live.rule, live.alarms, live.acts, z]
            for live, z in zip(lives, shown, strict=True)
        ]

    def _shown(self, lives: Sequence[Live]) -> list[list[float | None]]:
        """The last reading of each, by the wall's concepts. All at once: a thousand conversations change ten times a second."""
        read = [(place, live.reading.z[self._probe]) for place, live in enumerate(lives) if live.reading is not None]
        found: list[list[float | None]] = [[] for _ in lives]
        if read and self._columns:
            units = np.stack([z for _, z in read])[:, self._columns]
            whole = np.round(units * STEP, 2).tolist()
            for row in np.flatnonzero((units == MISSING).any(axis=1)).tolist():
                whole[row] = [None if u == MISSING else z for u, z in zip(units[row], whole[row], strict=True)]
            for (place, _), z in zip(read, whole, strict=True):
                found[place] = z
        return found

    def _measure(self, live: Live) -> None:
        """Its events and levels, looked up when somebody asks."""
        watch, happened = live.talk.watch, live.talk.happened
        count = len(happened) + (len(watch.events) if watch is not None else 0)
        if count != live.counted:
            kinds = [event.kind for event in live.talk.events]
            ends = sum(event.detail.get("dose") == RELEASED for event in happened)
            live.counted, live.alarms, live.acts = count, kinds.count("alarm"), kinds.count("action") - ends
        if watch is not None:
            live.rule, live.level = nearest(watch)

    def _all(self) -> list[Live]:
        with self._lock:
            self._tidy()
            return list(self._lives.values())

    def _tidy(self) -> None:
        """Let those go that are over, for each holds all that was read of it."""
        ended = [number for number, live in self._lives.items() if live.ended]
        over = time.monotonic() - KEPT_FOR
        for place, number in enumerate(ended):
            if place < len(ended) - MOST_ENDED or self._lives[number].ended < over:
                del self._lives[number]


class View:
    """What one onlooker has been told; :meth:`next` gives what is new since."""

    def __init__(self, hub: Hub, tenant: str | None) -> None:
        self._hub, self._tenant = hub, tenant
        self._known: dict[int, int] = {}  # number: version

    def next(self) -> dict[str, Any]:
        """``new`` conversations, ``rows`` of those that changed, numbers of those that are ``gone``; {} where nothing is new."""
        lives = [live for live in self._hub._all() if self._tenant in (None, live.tenant)]
        new, changed = [], []
        for live in lives:
            version, known = live.version, self._known.get(live.number)
            if version == known:
                continue
            if known is None:
                new.append(fixed(live))
            changed.append(live)
            self._known[live.number] = version
        gone = list(self._known.keys() - {live.number for live in lives})
        for number in gone:
            del self._known[number]
        found = {"new": new, "rows": self._hub.rows(changed), "gone": gone}
        return {name: value for name, value in found.items() if value}


def fixed(live: Live) -> dict[str, Any]:
    """What does not change of a conversation."""
    return {
        "number": live.number,
        "name": live.name,
        "tenant": live.tenant,
        "policy": live.policy or None,
        "source": live.source or None,
        "began": live.began,
    }


def nearest(watch: Watch) -> tuple[str, float]:
    """The rule that is nearest to its alarm now, and how near: its statistic over its threshold, from 0, where 1 is an alarm.

    A threshold of 0 or less can be crossed by an ordinary reading, so there the level is 0 below it and 1 above.
    """
    best, name = 0.0, ""
    for rule, (stratum, statistic) in list(watch.levels.items()):
        limits = watch.monitor.thresholds.get(rule, {})
        if stratum not in limits:
            continue
        limit = limits[stratum][0]
        level = max(statistic, 0.0) / limit if limit > 0 else float(statistic > limit)
        level = max(level, 1.0) if statistic > limit else min(level, _BELOW)
        if level > best or not name:
            best, name = level, rule
    return name, min(best, 99.0)
