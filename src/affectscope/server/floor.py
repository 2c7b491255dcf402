"""A request may pick a policy, never one that guards less than the server's first."""

from __future__ import annotations

from affectscope.guarding.events import FAULTS
from affectscope.guarding.policy import Policy, RulePart
from affectscope.monitoring.calibration import spec_of

_FAULT_ORDER = ("degrade", "hold", "stop")


def weaker(policy: Policy, floor: Policy) -> str:
    """In what a policy guards less than the floor; empty if in nothing.

    Every rule of the floor must be in it, seen in the same way; with a ladder that is no milder at any time after an alarm;
    alarms that end no sooner; and faults that are answered no milder. A call that waits for a person is no weaker than one that
    is held: whoever may pick a policy may not answer for a person.
    """
    for name, part in floor.rules.items():
        mine = policy.rules.get(name)
        if mine is None or spec_of(mine.rule(name)) != spec_of(part.rule(name)):
            return f"it lacks the rule {name!r}, or sees it otherwise"
        for start, severity in _reached(part):
            if max(s for began, s in _reached(mine) if began <= start) < severity:
                return f"the ladder of {name!r} is milder {start} tokens after an alarm"
        if mine.dwell > part.dwell or mine.cool_down > part.cool_down:
            return f"alarms of {name!r} come later"
        if mine.off_level > part.off_level or mine.fall < part.fall:
            return f"alarms of {name!r} end sooner"
    if policy.limits.hold_back < floor.limits.hold_back:
        return f"it holds back {policy.limits.hold_back} tokens, not {floor.limits.hold_back}"
    if policy.limits.budget > floor.limits.budget:
        return f"it may act {policy.limits.budget} times before it stops, not {floor.limits.budget}"
    if policy.heartbeat > floor.heartbeat:
        return f"it waits {policy.heartbeat} s for a token, not {floor.heartbeat}"
    for fault in FAULTS:
        if _FAULT_ORDER.index(policy.response(fault)) < _FAULT_ORDER.index(floor.response(fault)):
            return f"it answers {fault!r} milder"
    return ""


def _reached(part: RulePart) -> list[tuple[int, int]]:
    """The rungs of a ladder as ``(tokens after the alarm, severity)``."""
    found, start = [], 0
    for rung in part.ladder:
        found.append((start, rung.kind.severity))
        start += rung.patience
    return found


def retracts(policy: Policy) -> bool:
    """Whether it may take back what was released: then a reply leaves whole, for a stream cannot unsay."""
    return any(rung.action == "reprompt" for part in policy.rules.values() for rung in part.ladder)
