"""What a policy would have done over traces that are kept: decisions from their readings, nothing run again.

A trace holds what the model wrote as it was. What would have followed an action is not in it: every decision but the
first is told as "as if nothing had been done".
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterator
from dataclasses import dataclass
from typing import Any

from affectscope.errors import AffectscopeError
from affectscope.guarding.events import FAULTS, Event, Fault, Token, Turn
from affectscope.guarding.ladder import Guard
from affectscope.monitoring.monitor import HELD_OUT, POLICY
from affectscope.monitoring.trace import MISSING, Trace


@dataclass(frozen=True)
class Replayed:
    """One trace: the first action and where, how often each was decided, and whether the barrier ended closed."""

    trace: str
    tokens: int
    first: str
    position: int | None
    acts: dict[str, int]
    released: int
    closed: bool

    def plain(self) -> dict[str, Any]:
        """Plain values."""
        return {name: getattr(self, name) for name in self.__dataclass_fields__}


def events_of(trace: Trace, guard: Guard) -> Iterator[Event]:
    """A trace's readings and faults as a guard is told them, in order.

    Raises:
        AffectscopeError: it does not hold a probe or a concept that the policy reads.
    """
    if missing := [p for p in (POLICY, HELD_OUT) if p not in trace.probes]:
        raise AffectscopeError(f"trace {trace.id} holds no {missing[0]}: record it with both probes")
    watch = guard.policy.watch_list
    if unread := [c for c in watch if c not in trace.concepts]:
        raise AffectscopeError(f"trace {trace.id} does not hold {unread[0]!r}, which the policy reads")
    columns = [trace.concepts.index(c) for c in watch]
    policy, held_out = (trace.z[trace.probes.index(p)][:, columns] for p in (POLICY, HELD_OUT))
    faults: dict[int, list[Fault]] = {}
    for event in trace.events:
        if event.kind == "fault":
            name = event.detail["fault"] if event.detail["fault"] in FAULTS else "probe error"
            faults.setdefault(event.position, []).append(Fault(name, str(event.detail["cause"])))
    yield Turn(1)
    rows = zip(policy.tolist(), held_out.tolist(), trace.positions.tolist(), strict=True)
    for place, (mine, other, position) in enumerate(rows):
        yield from faults.get(position, ())
        if MISSING not in mine and MISSING not in other:
            role, phase, own = trace.roles[place], trace.phases[place], bool(trace.generated[place])
            yield Token(position, role, phase, own, tuple(mine), tuple(other))


def replay(trace: Trace, guard: Guard) -> Replayed:
    """Decide over a trace; see the module on what that means."""
    state, acts, released = guard.start(), Counter[str](), 0
    first, place, position = "", None, 0
    for event in events_of(trace, guard):
        position = event.position if isinstance(event, Token) else position
        state, decision = guard.decide(state, event)
        released += len(decision.released)
        for act in decision.acts:
            acts[act.action] += 1
            if not first:
                first, place = f"{act.action} ({act.rule or 'fault'})", position
        if state.latched:
            break
    return Replayed(trace.id, len(trace), first, place, dict(acts), released, guard.closed(state))
