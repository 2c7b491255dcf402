"""One episode under way, and the line that is kept of it when it has ended."""

from __future__ import annotations

import time
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

import numpy as np

from affectscope.concepts.neutral import Message
from affectscope.guarding.arms import Arm
from affectscope.guarding.session import Session
from affectscope.monitoring.conversation import Conversation
from affectscope.monitoring.monitor import Monitor, Reading
from affectscope.monitoring.trace import MISSING, STEP
from affectscope.suites.frame import Done, Scenario, Suite, reply_seed

FORMAT = "affectscope/episode@1"
LAST = 8
"""Tokens before a reply whose mean is the reading "at the prompt", or "before" a later reply."""
PLACES = ("prompt", "first reply", "before last reply", "all replies")
"""Where readings of an episode are told."""


@dataclass
class Episode:
    """A scenario under an arm with a seed. ``session`` guards it where the arm has a policy; ``conversation`` is its watch."""

    arm: Arm
    scenario: Scenario
    seed: int
    conversation: Conversation
    messages: list[Message]
    session: Session | None = None
    notes: list[Any] = field(default_factory=list)
    replies: list[str] = field(default_factory=list)
    began: float = field(default_factory=time.time)

    @property
    def key(self) -> tuple[str, str, int]:
        """What tells an episode from all others of a run."""
        return (self.arm.name, self.scenario.id, self.seed)

    @property
    def reply_seed(self) -> int:
        """Of the next reply."""
        return reply_seed(self.scenario.id, self.seed, len(self.replies))

    def add(self, messages: Sequence[Message]) -> None:
        """Messages to the model, with the arm's words behind them."""
        self.messages += messages
        if self.arm.words:
            self.messages.append(Message("system", self.arm.words))


def line(
    suite: Suite,
    episode: Episode,
    ended: Done,
    settings: str,
    watched: Sequence[str],
    keep_content: bool,
    trace: str = "",
) -> dict[str, Any]:
    """An episode as plain values.

    Args:
        settings: digest of what the episode depends on.
        watched: concepts whose readings it tells; those that are not read are left out.
        trace: the id of its trace, where one is kept.
    """
    watch, session = episode.conversation.watch, episode.session
    alarms = [e.position for e in watch.events if e.kind == "alarm"]
    done = [[e.position, e.detail["act"]] for e in session.recorder.happened if e.kind == "action"] if session else []
    content = {"said": episode.replies, "messages": [[m.role, m.content] for m in episode.messages]}
    return {
        "format": FORMAT,
        "suite": suite.name,
        "settings": settings,
        "arm": episode.arm.name,
        "scenario": episode.scenario.id,
        "cluster": episode.scenario.cluster,
        "cell": episode.scenario.cell,
        "seed": episode.seed,
        "outcome": ended.outcome,
        "turns": len(episode.replies),
        "tokens": sum(r.step.generated for r in watch.readings),
        "notes": episode.notes,
        "readings": _readings(watch.readings, watch.monitor, watched),
        "alarms": alarms,
        "lead": _lead(watch.readings, alarms),
        "actions": done,
        "trace": trace,
        "seconds": round(time.time() - episode.began, 3),
        **(content if keep_content else {}),
    }


def _lead(readings: Sequence[Reading], alarms: Sequence[int]) -> dict[str, Any] | None:
    """How long before the end the first alarm came, in tokens that the model wrote, and whether before its last reply."""
    if not alarms:
        return None
    own = [r.step.generated for r in readings]
    return {"tokens": sum(own[alarms[0] :]), "before_last_reply": alarms[0] < _last_reply(own)}


def _last_reply(own: Sequence[bool]) -> int:
    """Where the last run of tokens that the model wrote begins."""
    return len(own) - next((i for i, mine in enumerate(reversed(own)) if not mine), len(own))


def _readings(readings: Sequence[Reading], monitor: Monitor, watched: Sequence[str]) -> dict[str, Any]:
    """By concept and probe, mean z: of the last tokens before the first reply and before the last, which is the one that
    decides an episode; of the first reply; and of all that the model wrote."""
    own = [r.step.generated for r in readings]
    first = own.index(True) if True in own else len(own)
    second = next((i for i in range(first, len(own)) if not own[i]), len(own))
    last = _last_reply(own)
    spans: Mapping[str, Sequence[Reading]] = {
        "prompt": readings[max(first - LAST, 0) : first],
        "first reply": readings[first:second],
        "before last reply": readings[max(last - LAST, 0) : last],
        "all replies": [r for r in readings if r.step.generated],
    }
    columns = {c: monitor.read.concepts.index(c) for c in watched if c in monitor.read.concepts}
    return {
        concept: {
            probe: {name: _mean([r.z[p, column] for r in span]) for name, span in spans.items()}
            for p, probe in enumerate(monitor.read.probes)
        }
        for concept, column in columns.items()
    }


def _mean(units: Sequence[Any]) -> float | None:
    kept = [int(u) for u in units if u != MISSING]
    return round(STEP * float(np.mean(kept)), 4) if kept else None
