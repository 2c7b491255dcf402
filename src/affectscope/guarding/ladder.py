"""From events to decisions: a pure function, so that the same events and policy always decide alike.

1. A token goes through each rule's detector. ``dwell`` tokens above the calibrated threshold: an alarm, and the first rung.
2. In alarm, the held-out reading judges: it falls, the alarm is over; it does not within the rung's patience, the next rung.
3. While anything is unresolved (an alarm, a fault, a request before a person) the barrier is closed: no tool call leaves.
4. A stop is latched: nothing but a person's word opens the session again.

What was seen stays seen: tokens that an action takes back are not taken out of the detectors.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any, NamedTuple

from affectscope.errors import AffectscopeError
from affectscope.guarding.actions import VERDICTS, Action, Verdict, action_of
from affectscope.guarding.events import Answer, Event, Fault, Time, Token, Tool, Turn
from affectscope.guarding.policy import Policy, RulePart
from affectscope.monitoring.monitor import ALL, Strata, token_stratum
from affectscope.monitoring.trace import STEP

LATCH, FAULT = "latch", "fault"
"""Requests that a person may always answer with ``reset``: of a latched stop, and of a fault that does not pass by itself."""


class RuleState(NamedTuple):
    """One rule: its detector's state, the held-out readings of its window, and where on the ladder it stands."""

    detector: Any
    recent: tuple[float, ...] = ()
    above: int = 0  # tokens in a row above the threshold
    rung: int = -1  # -1: no alarm
    begin: int = 0  # rung that the next alarm begins at
    since: int = 0  # tokens since the rung was taken
    level: float = 0.0  # the held-out reading when the alarm began
    cooling: int = 0


class State(NamedTuple):
    """Everything that a decision depends on besides the event."""

    rules: tuple[RuleState, ...]
    used: int = 0  # actions that cost, so far
    own: int = 0  # tokens that the model wrote, so far
    latched: str = ""
    fault: str = ""
    degraded: bool = False
    held: bool = False
    pending: tuple[tuple[str, int], ...] = ()  # requests before a person, each with its deadline
    now: int = 0


@dataclass(frozen=True, slots=True)
class Act:
    """An action to be taken. ``promised``: the alarm fell within the tokens that the false-alarm promise covers."""

    rule: str
    rung: int
    action: str
    verdict: Verdict
    request: str = ""
    promised: bool = False


@dataclass(frozen=True, slots=True)
class Decision:
    """What follows from an event. ``closed``: no tool call may leave. ``released``: rules whose alarm ended here."""

    verdict: Verdict = "allow"
    acts: tuple[Act, ...] = ()
    closed: bool = False
    released: tuple[str, ...] = ()
    reason: str = ""

    def plain(self) -> dict[str, Any]:
        """Plain values: whole numbers and texts only."""
        acts = [{n: getattr(act, n) for n in act.__slots__} for act in self.acts]
        return {
            "verdict": self.verdict,
            "acts": acts,
            "closed": self.closed,
            "released": list(self.released),
            "reason": self.reason,
        }


OPEN, CLOSED = Decision(), Decision(closed=True)


@dataclass(frozen=True)
class _Rule:
    """A rule made ready: its terms as indices into the watch-list, and its thresholds by stratum."""

    name: str
    part: RulePart
    terms: tuple[tuple[int, float], ...]
    detector: Any
    limits: Mapping[str, float]


@dataclass(frozen=True)
class Guard:
    """A policy with thresholds. Stateless: :meth:`start` gives a session's first state, :meth:`decide` the next.

    Args:
        thresholds: ``{rule: {stratum: threshold}}``, from a calibration of the policy's own rules.
        horizon: generated tokens that the false-alarm promise covers.

    Raises:
        AffectscopeError: a rule without a threshold.
    """

    policy: Policy
    thresholds: Mapping[str, Mapping[str, float]]
    strata: Strata = "none"
    horizon: int = 0
    _rules: tuple[_Rule, ...] = field(init=False, repr=False, compare=False)

    def __post_init__(self) -> None:
        watch, made = self.policy.watch_list, []
        for name, part in sorted(self.policy.rules.items()):  # by name: a file's order is no part of what it says
            if not self.thresholds.get(name):
                raise AffectscopeError(
                    f"the rule {name!r} of policy {self.policy.name!r} has no threshold: run `affectscope calibrate --policy` with it"
                )
            rule = part.rule(name)
            terms = tuple((i, float(w)) for i, w in enumerate(rule.row(watch)) if w)
            made.append(_Rule(name, part, terms, rule.detector, self.thresholds[name]))
        object.__setattr__(self, "_rules", tuple(made))

    def start(self) -> State:
        """Before the first event."""
        return State(tuple(RuleState(rule.detector.start()) for rule in self._rules))

    def decide(self, state: State, event: Event) -> tuple[State, Decision]:
        """The state after an event, and what follows from it."""
        if isinstance(event, Token):
            return self._token(state, event)
        if isinstance(event, Tool):
            return self._tool(state, event)
        if isinstance(event, Fault):
            return self._fault(state, event)
        if isinstance(event, Answer):
            return self._answer(state, event)
        if isinstance(event, Time):
            return self._time(state, event)
        return self._turn(state, event)

    def closed(self, state: State) -> bool:
        """Whether the barrier is closed."""
        return bool(
            state.latched
            or state.fault
            or state.degraded
            or state.held
            or state.pending
            or any(rule.rung >= 0 for rule in state.rules)
        )

    def _token(self, state: State, event: Token) -> tuple[State, Decision]:
        if state.latched:
            return state, _stopped(state)
        by_token = self.strata in ("role", "phase")
        stratum = token_stratum(self.strata, event.role, event.phase) if by_token else ALL
        own = state.own + event.generated
        rules, wanted, released = list(state.rules), list[tuple[int, int]](), list[str]()
        for place, rule in enumerate(self._rules):
            part = rule.part
            if (part.own_tokens_only and not event.generated) or event.role not in part.roles:
                continue
            if event.role == "assistant" and event.phase not in part.phases:
                continue
            rules[place], change = _advance(rule, rules[place], event, stratum)
            if change == "released":
                released.append(rule.name)
            elif change == "taken":
                wanted.append((place, rules[place].rung))
        if not wanted and not released:
            quiet = state._replace(rules=tuple(rules), own=own)
            return quiet, CLOSED if self.closed(quiet) else OPEN
        state = state._replace(rules=tuple(rules), own=own)
        state, acts = self._acts(state, wanted, event.position)
        reason = "; ".join([f"{act.rule} in alarm" for act in acts] + [f"{name} over" for name in released])
        return state, self._decision(state, acts, tuple(released), reason)

    def _acts(self, state: State, wanted: Sequence[tuple[int, int]], position: int) -> tuple[State, tuple[Act, ...]]:
        """The actions of the rungs just taken, within the budget; of those that change the reply only the most severe."""
        promised, found = state.own <= self.horizon, []
        for place, index in wanted:
            rule, rung = self._rules[place], self._rules[place].part.ladder[index]
            request = f"{rule.name}@{position}" if rung.action == "human" else ""
            found.append(Act(rule.name, index, rung.action, rung.verdict, request, promised))
        used, acts = state.used, list[Act]()
        for act in _one_flow(found):
            if _kind(act).costs and used >= self.policy.limits.budget:
                act = Act(act.rule, act.rung, "stop", "deny", "budget", promised)
            used += _kind(act).costs
            acts.append(act)
        kept = _one_flow(acts)
        state = state._replace(used=used)
        for act in kept:
            if _kind(act).ends:
                state = state._replace(latched=f"{act.rule}: {act.request or 'the last rung'}")
            elif act.action == "hold_tool":
                state = state._replace(held=True)
            elif act.action == "human":
                seconds = self.policy.rules[act.rule].ladder[act.rung].options.seconds
                state = state._replace(pending=(*state.pending, (act.request, state.now + 1000 * seconds)))
        return state, kept

    def _tool(self, state: State, event: Tool) -> tuple[State, Decision]:
        if not self.closed(state):
            return state, Decision(reason=f"tool {event.name} may go")
        why = (
            state.latched or state.fault or ("an alarm is unresolved" if not state.degraded else "readings are missing")
        )
        request = f"tool:{event.id}"
        if self.policy.barrier.on_alarm == "human" and not state.latched:
            if all(name != request for name, _ in state.pending):
                deadline = state.now + 1000 * self.policy.barrier.seconds
                state = state._replace(pending=(*state.pending, (request, deadline)))
            act = Act("", -1, "human", "escalate", request)
            return state, Decision("escalate", (act,), True, (), f"tool {event.name} waits for a person: {why}")
        act = Act("", -1, "hold_tool", "deny")
        return state, Decision("deny", (act,), True, (), f"tool {event.name} is held: {why}")

    def _fault(self, state: State, event: Fault) -> tuple[State, Decision]:
        told = f"{event.fault}: {event.cause}"
        response = self.policy.response(event.fault)
        if response == "stop":
            state = state._replace(latched=state.latched or told)
            return state, _stopped(state)
        state = state._replace(degraded=True) if response == "degrade" else state._replace(fault=told)
        return state, Decision("deny", (Act("", -1, "hold_tool", "deny"),), True, (), told)

    def _answer(self, state: State, event: Answer) -> tuple[State, Decision]:
        if event.request in (LATCH, FAULT) and event.answer == "reset":
            if event.request == LATCH:
                both = zip(self._rules, state.rules, strict=True)
                anew = tuple(RuleState(rule.detector.start(), begin=old.begin) for rule, old in both)
                state = state._replace(latched="", pending=(), rules=anew)
            state = state._replace(fault="", degraded=False)
            return state, self._decision(state, (), (), f"{event.request} reset by {event.by or 'a person'}")
        if all(name != event.request for name, _ in state.pending):
            return state, self._decision(state, (), (), f"no request {event.request} is open")
        pending = tuple(item for item in state.pending if item[0] != event.request)
        state = state._replace(pending=pending)
        if state.latched:
            return self._denied(state, event.request, "denied: the session is stopped")
        if event.answer != "approved":
            return self._denied(state, event.request, f"denied by {event.by or 'a person'}")
        place = next((i for i, rule in enumerate(self._rules) if event.request.startswith(f"{rule.name}@")), None)
        released: tuple[str, ...] = ()
        if place is not None:
            rules = list(state.rules)
            rules[place] = _over(self._rules[place], rules[place])
            state, released = state._replace(rules=tuple(rules)), (self._rules[place].name,)
        closed = self.closed(state) and not event.request.startswith("tool:")
        return state, Decision("allow", (), closed, released, f"{event.request} approved by {event.by or 'a person'}")

    def _denied(self, state: State, request: str, why: str) -> tuple[State, Decision]:
        if request.startswith("tool:"):
            act = Act("", -1, "hold_tool", "deny", request)
            return state, Decision("deny", (act,), self.closed(state), (), f"{request} {why}")
        state = state._replace(latched=state.latched or f"{request} {why}")
        return state, _stopped(state)

    def _time(self, state: State, event: Time) -> tuple[State, Decision]:
        state = state._replace(now=max(state.now, event.now))
        late = [name for name, deadline in state.pending if deadline <= state.now]
        if not late:
            return state, CLOSED if self.closed(state) else OPEN
        state = state._replace(pending=tuple(item for item in state.pending if item[0] not in late))
        rules = [name for name in late if not name.startswith("tool:")]
        return self._denied(state, (rules or late)[0], "expired unanswered, which is a no")

    def _turn(self, state: State, event: Turn) -> tuple[State, Decision]:
        state = state._replace(held=False, fault="")
        return state, _stopped(state) if state.latched else CLOSED if self.closed(state) else OPEN

    def _decision(self, state: State, acts: tuple[Act, ...], released: tuple[str, ...], reason: str) -> Decision:
        verdicts: list[Verdict] = ["allow", *(act.verdict for act in acts)]
        return Decision(max(verdicts, key=VERDICTS.index), acts, self.closed(state), released, reason)


def _advance(rule: _Rule, old: RuleState, event: Token, stratum: str) -> tuple[RuleState, str]:
    """A rule after one token that it sees, and whether it took a rung or was released."""
    part = rule.part
    value = held_out = 0.0
    for index, weight in rule.terms:
        value += weight * event.policy[index]
        held_out += weight * event.held_out[index]
    detector, statistic = rule.detector.step(old.detector, value * STEP)
    recent = (*old.recent, held_out * STEP)[-part.window :]
    limit = rule.limits.get(stratum)
    above = old.above + 1 if limit is not None and statistic > limit else 0
    if old.rung < 0:
        if old.cooling:
            return RuleState(detector, recent, 0, -1, old.begin, 0, 0.0, old.cooling - 1), ""
        if above < part.dwell:
            return RuleState(detector, recent, above, -1, old.begin), ""
        level = sum(recent) / len(recent)
        return RuleState(detector, recent, above, min(old.begin, len(part.ladder) - 1), old.begin, 0, level), "taken"
    since, now = old.since + 1, sum(recent) / len(recent)
    new = RuleState(detector, recent, above, old.rung, old.begin, since, old.level)
    if since >= part.window and (now <= part.off_level or now <= old.level - part.fall):
        return _over(rule, new), "released"
    if since >= part.ladder[old.rung].patience and old.rung + 1 < len(part.ladder):
        return RuleState(detector, recent, above, old.rung + 1, old.begin, 0, old.level), "taken"
    return new, ""


def _over(rule: _Rule, old: RuleState) -> RuleState:
    """A rule whose alarm is over: it begins anew, rests, and a later alarm begins where this one got to."""
    return RuleState(rule.detector.start(), old.recent, 0, -1, max(old.begin, old.rung), 0, 0.0, rule.part.cool_down)


def _one_flow(acts: Sequence[Act]) -> tuple[Act, ...]:
    """The most severe first, and of those that change the reply only the first."""
    order = sorted(acts, key=lambda act: -_kind(act).severity)
    flow = next((act for act in order if _kind(act).flow), None)
    return tuple(act for act in order if act is flow or not _kind(act).flow)


def _kind(act: Act) -> type[Action]:
    return action_of(act.action)


def _stopped(state: State) -> Decision:
    return Decision("deny", (Act("", -1, "stop", "deny"),), True, (), f"stopped: {state.latched}")
