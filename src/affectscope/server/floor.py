"""A request may pick a policy, never one that guards less than the server's first."""

from __future__ import annotations

from affectscope.guarding.events import FAULTS
from affectscope.guarding.policy import Policy
from affectscope.monitoring.calibration import spec_of

_FAULT_ORDER = ("degrade", "hold", "stop")


def weaker(policy: Policy, floor: Policy) -> str:
    """In what a policy guards less than the floor; empty if in nothing.

    Every rule of the floor must be in it, seen in the same way; with a ladder that begins and ends no milder and climbs no
    slower; alarms that end no sooner; and faults that are answered no milder.
    """
    for name, part in floor.rules.items():
        mine = policy.rules.get(name)
        if mine is None or spec_of(mine.rule(name)) != spec_of(part.rule(name)):
            return f"it lacks the rule {name!r}, or sees it otherwise"
        for which, end in (("begins", 0), ("ends", -1)):
            if mine.ladder[end].kind.severity < part.ladder[end].kind.severity:
                return (
                    f"the ladder of {name!r} {which} milder: {mine.ladder[end].action}, not {part.ladder[end].action}"
                )
        if sum(r.patience for r in mine.ladder[:-1]) > sum(r.patience for r in part.ladder[:-1]) > 0:
            return f"the ladder of {name!r} climbs slower"
        if mine.dwell > part.dwell or mine.cool_down > part.cool_down:
            return f"alarms of {name!r} come later"
        if mine.off_level > part.off_level or mine.fall < part.fall:
            return f"alarms of {name!r} end sooner"
    if policy.limits.hold_back < floor.limits.hold_back:
        return f"it holds back {policy.limits.hold_back} tokens, not {floor.limits.hold_back}"
    for fault in FAULTS:
        if _FAULT_ORDER.index(policy.response(fault)) < _FAULT_ORDER.index(floor.response(fault)):
            return f"it answers {fault!r} milder"
    return ""


def retracts(policy: Policy) -> bool:
    """Whether it may take back what was released: then a reply leaves whole, for a stream cannot unsay."""
    return any(rung.action == "reprompt" for part in policy.rules.values() for rung in part.ladder)
