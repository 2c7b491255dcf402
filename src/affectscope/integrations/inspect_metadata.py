"""What a log holds of a reply: a few numbers and where its trace lies. Whole traces stay beside the log.

1. The readings of one reply become peaks by concept, alarms, acts, and what the barrier says of tool calls.
2. A digest binds them to the message that they are of, so that words or calls put in later are told apart.
3. :func:`verdict` is the barrier: whatever is missing, stale or unresolved keeps a call in.
"""

from __future__ import annotations

import hashlib
import json
import math
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any

from inspect_ai.model import ChatMessage, ChatMessageAssistant

from affectscope.files import json_text
from affectscope.monitoring.trace import MISSING, STEP, Event

if TYPE_CHECKING:  # the approver and the tasks are found without torch
    from affectscope.monitoring.monitor import Reading, Watch

KEY = "affectscope"
"""Under which a message's and an output's metadata hold it."""
FORMAT = "affectscope/inspect@1"
LONGEST = 4000
"""Bytes of it as JSON, at most."""
MOST_CONCEPTS = 32
"""Concepts whose peaks are told; the trace holds all."""
_MOST_EVENTS, _MOST_TEXT = 8, 160
VERDICTS = ("allow", "escalate", "deny")


@dataclass(frozen=True)
class Seen:
    """One reply's part of a conversation.

    Args:
        watch: of the whole conversation.
        since: place of its first reading among the watch's.
        happened: decisions and acts of a policy.
        barrier: verdict and reason of the barrier when the reply ended.
        stopped: why the session is stopped, if it is.
    """

    watch: Watch
    since: int
    happened: Sequence[Event] = ()
    barrier: tuple[str, str] = ("allow", "")
    stopped: str = ""

    @property
    def written(self) -> list[Reading]:
        """Readings of the tokens that the model wrote here."""
        return [r for r in self.watch.readings[self.since :] if r.step.generated]

    def events(self, kind: str) -> list[Event]:
        """Alarms or faults that came here."""
        return [e for e in self.watch.events if e.kind == kind and e.position >= self.since]


@dataclass(frozen=True)
class Kept:
    """Where the reply's trace lies: ``path`` of its readings from the store's parent folder on, and their SHA-256."""

    trace: str
    path: str
    sha256: str
    facts: Mapping[str, Any] = field(default_factory=dict)


def told(seen: Seen, concepts: Sequence[str], kept: Kept) -> dict[str, Any]:
    """All that a message carries, as plain values of less than ``LONGEST`` bytes; :func:`sealed` binds it to the message.

    ``peaks`` is ``{concept: [z, position]}``, z in s.d. under the policy's probe at the token where it was highest, None where
    nothing was read. ``rules`` is ``{rule: [highest statistic of the conversation, threshold]}``.
    """
    alarms = seen.events("alarm")
    acts = [e for e in seen.happened if e.kind == "action"]
    made: dict[str, Any] = {
        "format": FORMAT,
        "trace": kept.trace,
        "path": kept.path,
        "sha256": kept.sha256,
        "layer": seen.watch.monitor.layer,
        "tokens": {"read": len(seen.watch.readings) - seen.since, "written": len(seen.written)},
        "peaks": peaks(seen, concepts[:MOST_CONCEPTS]),
        "rules": _rules(seen.watch),
        "alarms": [_alarm(e) for e in alarms[:_MOST_EVENTS]],
        "alarm_count": len(alarms),
        "actions": [[e.position, _short(str(e.detail.get("act", "")))] for e in acts[:_MOST_EVENTS]],
        "action_count": len(acts),
        "faults": [_short(str(e.detail["cause"])) for e in seen.events("fault")[:2]],
        "missing": sum(bool((r.z == MISSING).any()) for r in seen.written),
        "barrier": {"verdict": seen.barrier[0], "reason": _short(seen.barrier[1])},
        "stopped": _short(seen.stopped),
        **{name: _short(value) if isinstance(value, str) else value for name, value in kept.facts.items()},
    }
    # A policy may have rules and concepts of any number; what is dropped here stands in the trace.
    for name in ("actions", "faults", "alarms", "rules", "peaks"):
        if len(json_text(made).encode()) < LONGEST - 200:  # room for the seal
            break
        made[name] = type(made[name])()
        made["dropped"] = [*made.get("dropped", []), name]
    return made


def peaks(seen: Seen, concepts: Sequence[str]) -> dict[str, list[Any] | None]:
    """The highest z of each concept over the tokens written, with its position; see :func:`told`."""
    monitor, rows = seen.watch.monitor, seen.written
    probe = monitor.read.probes.index(monitor.policy)
    found: dict[str, list[Any] | None] = {}
    for concept in concepts:
        column = monitor.read.concepts.index(concept)
        values = [(int(r.z[probe, column]), r.step.position) for r in rows if r.z[probe, column] != MISSING]
        best = max(values, default=None, key=lambda v: (v[0], -v[1]))
        found[concept] = None if best is None else [best[0] * STEP, best[1]]
    return found


def sealed(made: Mapping[str, Any], message: ChatMessageAssistant) -> dict[str, Any]:
    """The same with the digest of the message that it is of."""
    return {**made, "reply": digest(message)}


def digest(message: ChatMessageAssistant) -> str:
    """SHA-256 of what the message says and calls; the ids of calls included."""
    calls = [[c.id, c.function, c.arguments] for c in message.tool_calls or []]
    plain = json.dumps([message.text, calls], sort_keys=True, ensure_ascii=False, default=str)
    return hashlib.sha256(plain.encode("utf-8", "surrogatepass")).hexdigest()


def carried(message: ChatMessageAssistant | None) -> Mapping[str, Any] | None:
    """What the message carries of ours; None where there is nothing, or nothing of this format."""
    made = (message.metadata or {}).get(KEY) if message is not None else None
    return made if isinstance(made, Mapping) and made.get("format") == FORMAT else None


def speaker(history: Iterable[ChatMessage], call: str) -> ChatMessageAssistant | None:
    """The last assistant message that holds the call of this id."""
    found = None
    for message in history:
        if isinstance(message, ChatMessageAssistant) and any(c.id == call for c in message.tool_calls or []):
            found = message
    return found


def verdict(message: ChatMessageAssistant | None) -> tuple[str, str]:
    """Whether the calls of a message may leave (``allow``, ``escalate``, ``deny``), and why not. A pure function.

    The verdict of the guard stands in the message. It counts only if it is of this very message and every token was read.
    """
    made = carried(message)
    if message is None or made is None:
        return "deny", "the message was not read: no readings of it are there"
    if made.get("reply") != digest(message):
        return "deny", "the readings are of another message: words or calls were changed since"
    tokens, missing = made.get("tokens"), made.get("missing")
    if not isinstance(tokens, Mapping) or not tokens.get("written") or missing != 0 or made.get("faults") != []:
        return "deny", "readings are missing"
    found = made.get("peaks")
    if not isinstance(found, Mapping) or not all(_finite(peak) for peak in found.values()):
        return "deny", "readings are missing"
    barrier = made.get("barrier")
    if not isinstance(barrier, Mapping) or barrier.get("verdict") not in VERDICTS:
        return "deny", "the barrier's verdict is missing"
    return str(barrier["verdict"]), str(barrier.get("reason", ""))


def _finite(peak: Any) -> bool:
    return isinstance(peak, Sequence) and bool(peak) and isinstance(peak[0], int | float) and math.isfinite(peak[0])


def _rules(watch: Watch) -> dict[str, list[float | None]]:
    """Each rule's highest statistic with the threshold of the stratum where it came nearest to its threshold."""
    found: dict[str, list[float | None]] = {}
    for rule, by in watch.peaks.items():
        limits = watch.monitor.thresholds.get(rule, {})
        best = max(by, key=lambda s: by[s] - limits[s][0] if s in limits else -math.inf, default="")
        limit = round(limits[best][0], 4) if best in limits else None
        found[rule] = [round(by[best], 4) if by else None, limit]
    return found


def _alarm(event: Event) -> dict[str, Any]:
    detail = event.detail
    kept = {name: detail[name] for name in ("rule", "statistic", "threshold", "promised") if name in detail}
    return {"position": event.position, **{n: round(v, 4) if isinstance(v, float) else v for n, v in kept.items()}}


def _short(text: str) -> str:
    return text if len(text) <= _MOST_TEXT else text[: _MOST_TEXT - 1] + "…"
