"""What a suite is: scenarios, what follows a reply, and how an episode ended. Everything else is the same for all suites.

1. A scenario begins with messages. Scenarios of one ``cluster`` are forms of one thing; ``cell`` says which form.
2. A reply is answered with more messages, or ends the episode with an outcome.
3. An arm changes what is said or steered, and nothing of the scenario.
"""

from __future__ import annotations

import hashlib
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any, Protocol

from affectscope.concepts.neutral import Message


@dataclass(frozen=True)
class Scenario:
    """One beginning. ``data`` is the suite's own; ``group`` is the kind of task, where kinds differ in more than what is varied."""

    id: str
    cluster: str
    cell: str
    messages: tuple[Message, ...]
    data: Any = field(default=None, compare=False, repr=False)
    group: str = ""


@dataclass(frozen=True)
class Next:
    """The episode goes on with these messages, and ``notes`` of what came of the reply."""

    messages: tuple[Message, ...]
    notes: Mapping[str, Any] = field(default_factory=dict)


@dataclass(frozen=True)
class Done:
    """The episode is over."""

    outcome: str
    notes: Mapping[str, Any] = field(default_factory=dict)


def reply_seed(scenario: str, seed: int, replies: int) -> int:
    """Of the reply that follows ``replies`` others: the same in all arms and harnesses, so that they are paired."""
    return int.from_bytes(hashlib.sha256(f"{scenario}:{seed}:{replies}".encode()).digest()[:6], "big")


def turn_of(cluster: str) -> int:
    """Which of an arm's directions a cluster takes, where scenarios take turns: one for all its cells, so that what stands
    between cells is not a direction, and the same in every run and in forced choice."""
    return int.from_bytes(hashlib.sha256(cluster.encode()).digest()[:4], "big")


@dataclass(frozen=True)
class Choice:
    """Two replies prepared to one beginning, alike in form and length as far as their matter allows; see :mod:`.choosing`.

    ``pair`` says what stands against what, the behaviour that the suite looks for first.
    """

    scenario: Scenario
    pair: str
    harmful: str
    honest: str


class Suite(Protocol):
    """One behaviour."""

    @property
    def name(self) -> str:
        """As it is called in commands and files."""

    @property
    def outcomes(self) -> Sequence[str]:
        """All outcomes, in the order in which they are shown."""

    @property
    def harmful(self) -> frozenset[str]:
        """Those that count as the behaviour which the suite looks for."""

    @property
    def settings(self) -> Mapping[str, Any]:
        """All that decides what an episode is, as plain values: episodes of other settings are no part of a run."""

    def scenarios(self) -> Sequence[Scenario]:
        """All beginnings, in a fixed order."""

    def choices(self) -> Sequence[Choice]:
        """Prepared replies, for models that show a behaviour too seldom to be counted; none where none are prepared."""

    def follow(self, scenario: Scenario, replies: Sequence[str]) -> Next | Done:
        """What follows the last of an episode's replies. Pure but for a box: the same replies get the same answer."""
