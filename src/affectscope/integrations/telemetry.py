"""What may be told of requests to whoever watches from outside, and a telemetry that tells nobody.

No value here can hold what was said: a text has no place in them. That is why they exist, and why whoever tells is given nothing else.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import Literal

MOST_CONCEPTS = 16
"""Of one reply, whose readings are told."""


@dataclass(frozen=True)
class Wanted:
    """A request. ``model`` is empty where the request names one that is not served: that is anybody's text.

    ``headers`` are those of W3C's trace context. ``address`` is the host and port that it came to.
    """

    operation: Literal["chat", "text_completion"]
    model: str
    tenant: str
    headers: Mapping[str, str] = field(default_factory=dict)
    address: tuple[str, int | None] | None = None
    choices: int = 1
    stream: bool = False
    temperature: float | None = None
    top_p: float | None = None
    max_tokens: int | None = None
    seed: int | None = None


@dataclass(frozen=True)
class Alarm:
    """A rule crossed its threshold at a position; ``concepts`` are those that it weighs."""

    rule: str
    position: int
    concepts: tuple[str, ...]


@dataclass(frozen=True)
class Acted:
    """A guard did something, from ``began`` to ``ended`` (seconds since the epoch). ``rule`` is empty where none was behind it.

    ``tool``: it was about a tool call, not about what was written.
    """

    rule: str
    action: str
    verdict: str
    position: int
    began: float
    ended: float
    tool: bool = False


@dataclass(frozen=True)
class Ended:
    """One choice, at its end. Times in seconds since the epoch, 0 where no token came.

    ``prompt`` and ``tokens`` count what was read and written; ``means`` are mean z over the generated tokens, by concept; ``reason``
    is OpenAI's, empty where the reply was cut off; ``error`` a word for what failed, empty where nothing did.
    """

    index: int
    prompt: int
    tokens: int
    reason: str
    error: str = ""
    first: float = 0.0
    last: float = 0.0
    policy: str = ""
    trace: str = ""
    means: Mapping[str, float] = field(default_factory=dict)
    alarms: Sequence[Alarm] = ()
    acted: Sequence[Acted] = ()


class Call:
    """A request while it is served; this one is told to nobody. ``id`` is its answer's."""

    id = ""

    def choice(self, ended: Ended) -> None:
        """One of its choices is over. From any thread."""

    def end(self, error: str = "") -> None:
        """It is over, with a word for what failed. The first time counts."""


class Telemetry:
    """Begins calls; this one tells nobody."""

    def begin(self, wanted: Wanted) -> Call:
        """A request came."""
        return Call()

    def close(self) -> None:
        """Send what was not sent yet, within a bounded time."""
